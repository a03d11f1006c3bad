"""Whether the ports of our services are free, or held by the service they belong to."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ravenwh.domain.finding import Finding
from ravenwh.domain.settings import Port
from ravenwh.telemetry.live import service_at

__all__ = ["port_findings"]

PATIENCE_S = 1.0


def port_findings(ports: Sequence[Port]) -> list[Finding]:
    """A finding for each host, for each port that two services want, and for each service."""
    findings = [_host(host, key) for host, key in {p.host: p.key for p in ports}.items()]
    bindable = {f.check.partition(" ")[2] for f in findings if f.ok}
    users: dict[int, list[Port]] = defaultdict(list)
    services: dict[str, list[Port]] = defaultdict(list)
    for port in ports:
        users[port.number].append(port)
        services[port.service].append(port)
    findings += [_shared(number, held) for number, held in sorted(users.items()) if len(held) > 1]
    findings += [
        _service(service, held) for service, held in services.items() if held[0].host in bindable
    ]
    return findings


def _host(host: str, key: str) -> Finding:
    error = _bind(host, 0)
    if error is None:
        return Finding(check=f"host {host}", ok=True, found="can be bound")
    return Finding(
        check=f"host {host}",
        ok=False,
        found=f"cannot be bound ({key}): {error.strerror or error}",
        remedy="set server.host to an address of this machine, such as 127.0.0.1",
    )


def _shared(number: int, ports: Iterable[Port]) -> Finding:
    wanted = " and ".join(f"{p.service} for {p.purpose} ({p.key})" for p in ports)
    return Finding(
        check=f"port {number}",
        ok=False,
        found=f"two services on one port: {wanted}",
        remedy="give each of these keys a port of its own; metrics lie 1000 above control",
    )


def _service(service: str, ports: list[Port]) -> Finding:
    check = f"ports of {service}"
    taken = [port for port in ports if _bind(port.host, port.number) is not None]
    free = [str(port.number) for port in ports if port not in taken]
    holders = {port: _holder(port, ports) for port in taken}
    ours = [str(port.number) for port, holder in holders.items() if holder == service]
    told = [f"{' and '.join(free)} free"] if free else []
    if ours:
        told.append(f"{' and '.join(ours)} held by our own runner {service}")
    strangers = {port: holder for port, holder in holders.items() if holder != service}
    if not strangers:
        return Finding(check=check, ok=True, found=", ".join(told))
    told = [
        f"{port.number} taken by {f'our runner {holder}' if holder else 'another program'}"
        for port, holder in strangers.items()
    ] + told
    keys = " and ".join(sorted({port.key for port in strangers}))
    return Finding(
        check=check,
        ok=False,
        found=", ".join(told),
        remedy=f"stop what holds it, or set {keys} to a free port",
    )


def _holder(port: Port, ports: Iterable[Port]) -> str | None:
    """The service of ours that has the port.

    On the metrics port it says so itself; who speaks ZeroMQ beside it, on the control port, is the
    same one.
    """
    if port.purpose == "control" and not _speaks_zeromq(port.host, port.number):
        return None
    metrics = (other.number for other in ports if other.purpose == "metrics")
    return next((service_at(port.host, number) for number in metrics), None)


def _speaks_zeromq(host: str, number: int) -> bool:
    """Whether who listens greets as ZMTP has it: both sides do, without waiting for the other."""
    try:
        with socket.create_connection((host, number), timeout=PATIENCE_S) as connection:
            greeting = connection.recv(10)
    except OSError:
        return False
    return greeting[:1] == b"\xff" and greeting[9:] == b"\x7f"


def _bind(host: str, number: int) -> OSError | None:
    """Why the port cannot be bound, or None if it can. ``host`` is in ZeroMQ's words."""
    if host == "*":
        address = ""
    elif host in (name for _, name in socket.if_nameindex()):
        return None  # an interface: which address it has is ZeroMQ's to find out
    else:
        address = host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.create_server((address, number), family=family):
            return None
    except OSError as error:
        return error
