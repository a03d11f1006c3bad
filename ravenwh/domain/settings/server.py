"""Where the runners listen, who may come in, and which ports of this machine that takes."""

# ruff: noqa: RUF009  # option() and optional() give attrs fields, as attrs.field() does
from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import ClassVar, Literal

import attrs

from ravenwh.domain.settings.curve import CLIENT_KEYS, SECRET_KEY
from ravenwh.domain.settings.kinds import Text, Whole
from ravenwh.domain.settings.option import Rule, Section, option, optional, options_of
from ravenwh.domain.settings.problem import Problem
from ravenwh.domain.settings.secret import Secret

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


def _clients_of_a_server(
    secret_key: Secret | None, client_keys: tuple[str, ...]
) -> Iterator[Problem]:
    if client_keys and secret_key is None:
        yield Problem(
            path=("secret_key",), text="found nothing, with client_keys; allowed: a key with them"
        )


@attrs.frozen(kw_only=True)
class Server(Section):
    """Where the runners listen: control on a runner's port, metrics 1000 above it."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(keys=("secret_key", "client_keys"), check=_clients_of_a_server),
    )

    host: str = option(
        Text(fits=_is_address, rule="an IPv4 address of this machine; 0.0.0.0 for all of them"),
        default="127.0.0.1",
        help="The address that all runners listen on. Anything but a loopback address lets the "
        "network start and stop collections, unless there are keys.",
    )
    kline_port: int = option(_RUNNER_PORT, default=5571, help="The port of runners.kline.")
    bar_port: int = option(_RUNNER_PORT, default=5572, help="The port of runners.bar.")
    tick_port: int = option(_RUNNER_PORT, default=5573, help="The port of runners.tick.")
    make_bars_port: int = option(_RUNNER_PORT, default=5574, help="The port of runners.make_bars.")
    replay_port: int = option(_RUNNER_PORT, default=5570, help="The port of runners.replay.")
    secret_key: Secret | None = optional(
        SECRET_KEY,
        absent="no CURVE: what is bound here is open to all who reach it",
        help="Our own secret key where we bind: for control, and for what we publish.",
        example="0" * 40,
    )
    client_keys: tuple[str, ...] = option(
        CLIENT_KEYS,
        default=(),
        help="The public keys of those that may subscribe and send requests. Our own always may.",
    )
    ring_bytes: int = option(
        Whole(least=1_048_576, most=17_179_869_184),
        default=67_108_864,
        unit="bytes",
        help="How much memory a publisher uses to keep what it sent, to send it again.",
    )

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
