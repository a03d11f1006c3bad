"""Where the runners listen, and which ports of this machine that takes."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Literal

import attrs

from ravenwh.domain.settings.kinds import Text, Whole
from ravenwh.domain.settings.option import Section, option, options_of

__all__ = ["METRICS_OFFSET", "Port", "Server"]

METRICS_OFFSET = 1000


@attrs.frozen(kw_only=True)
class Port:
    """A port of this machine that a service needs, and the setting that says so.

    ``host`` is an IP address without brackets, an interface, or ``*`` for all addresses.
    """

    service: str
    purpose: Literal["control", "metrics", "frames", "database"]
    host: str
    number: int
    key: str


def _is_address(text: str) -> bool:
    try:
        return bool(str(IPv4Address(text)))
    except ValueError:
        return False


_RUNNER_PORT = Whole(least=1, most=65535 - METRICS_OFFSET)


@attrs.frozen(kw_only=True)
class Server(Section):
    """Where the runners listen: control on a runner's port, metrics 1000 above it."""

    host: str = option(
        Text(fits=_is_address, rule="an IPv4 address of this machine; 0.0.0.0 for all of them"),
        default="127.0.0.1",
        help="The address that all runners listen on. Anything but a loopback address lets the "
        "network start and stop collections.",
    )
    kline_port: int = option(_RUNNER_PORT, default=5571, help="The port of runners.kline.")
    bar_port: int = option(_RUNNER_PORT, default=5572, help="The port of runners.bar.")
    tick_port: int = option(_RUNNER_PORT, default=5573, help="The port of runners.tick.")
    make_bars_port: int = option(_RUNNER_PORT, default=5574, help="The port of runners.make_bars.")
    replay_port: int = option(_RUNNER_PORT, default=5570, help="The port of runners.replay.")

    def ports(self) -> tuple[Port, ...]:
        """The ports of every runner: the fields of this class are the register of them."""
        return tuple(
            Port(
                service=name.removesuffix("_port"),
                purpose=purpose,
                host=self.host,
                number=getattr(self, name) + offset,
                key=f"server.{name}",
            )
            for name in options_of(type(self))
            if name.endswith("_port")
            for purpose, offset in _PURPOSES
        )


_PURPOSES: tuple[tuple[Literal["control", "metrics"], int], ...] = (
    ("control", 0),
    ("metrics", METRICS_OFFSET),
)
