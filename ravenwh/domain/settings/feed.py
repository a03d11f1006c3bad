"""A feed: an endpoint of ZeroMQ, and what is spoken there."""

# ruff: noqa: RUF009  # option() and optional() give attrs fields, as attrs.field() does
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar, Literal

import attrs

from ravenwh.domain.settings.curve import CLIENT_KEYS, PUBLIC_KEY, SECRET_KEY
from ravenwh.domain.settings.kinds import Choice, Text, Whole
from ravenwh.domain.settings.option import Rule, Section, option, optional
from ravenwh.domain.settings.problem import Problem
from ravenwh.domain.settings.secret import Secret

__all__ = ["Feed", "Mode", "Wire"]

Mode = Literal["connect", "bind"]
Wire = Literal["raven", "cryptofeed"]

_TCP = re.compile(r"tcp://(?P<host>\*|[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
_IPC = re.compile(r"ipc://[^\s\x00-\x1f\x7f]{1,100}")


def _is_endpoint(text: str) -> bool:
    tcp = _TCP.fullmatch(text)
    return 1 <= int(tcp["port"]) <= 65535 if tcp else bool(_IPC.fullmatch(text))


ENDPOINT = Text(
    fits=_is_endpoint, rule="tcp://HOST:PORT with a port from 1 to 65535, or ipc://PATH"
)


def _host_for_mode(mode: Mode, endpoint: str) -> Iterator[Problem]:
    host = tcp["host"] if (tcp := _TCP.fullmatch(endpoint)) else ""
    if mode == "connect" and host == "*":
        allowed = "a host to connect to"
    elif mode == "bind" and host == "localhost":
        allowed = "an IP address of this machine (127.0.0.1), a network interface, or *"
    else:
        return
    yield Problem(
        path=("endpoint",), text=f'found "{endpoint}"; allowed with mode "{mode}": {allowed}'
    )


def _control_has_a_host(control: str | None) -> Iterator[Problem]:
    if (tcp := _TCP.fullmatch(control or "")) and tcp["host"] == "*":
        yield Problem(path=("control",), text=f'found "{control}"; allowed: a host to connect to')


def _keys_for_mode(
    mode: Mode,
    server_key: str | None,
    public_key: str | None,
    secret_key: Secret | None,
    client_keys: tuple[str, ...],
) -> Iterator[Problem]:
    keys = {"server_key": server_key, "public_key": public_key, "secret_key": secret_key}
    if mode == "bind" and keys.pop("server_key"):
        yield Problem(
            path=("server_key",),
            text='found a key; allowed only with mode "connect", as who binds is the server',
        )
    if mode == "connect" and client_keys:
        yield Problem(
            path=("client_keys",),
            text='found keys; allowed only with mode "bind", as who connects lets nobody in',
        )
    missing = [name for name, key in keys.items() if key is None]
    needed = len(missing) < len(keys) or (mode == "bind" and client_keys)
    for name in missing if needed else ():
        yield Problem(
            path=(name,),
            text=f"found nothing; allowed: all of {', '.join(keys)}, or none of them",
        )


def _control_has_one_key(control: str | None, client_keys: tuple[str, ...]) -> Iterator[Problem]:
    if control and len(client_keys) > 1:
        yield Problem(
            path=("control",),
            text="found one, with several client_keys; allowed: with one at most, which is then "
            "the key of who answers there",
        )


@attrs.frozen(kw_only=True)
class Feed(Section):
    """Where frames come from, and on which wire."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(keys=("mode", "endpoint"), check=_host_for_mode),
        Rule(keys=("control",), check=_control_has_a_host),
        Rule(
            keys=("mode", "server_key", "public_key", "secret_key", "client_keys"),
            check=_keys_for_mode,
        ),
        Rule(keys=("control", "client_keys"), check=_control_has_one_key),
    )

    endpoint: str = option(
        ENDPOINT,
        default="tcp://127.0.0.1:5555",
        help="Where its frames are. Binding to more than a loopback address lets the network in.",
    )
    mode: Mode = option(
        Choice(words=("connect", "bind")),
        default="connect",
        help="Whether we connect to the publisher, or bind and wait for it (cryptofeed connects).",
    )
    wire: Wire = option(
        Choice(words=("raven", "cryptofeed")), default="raven", help="What is spoken there."
    )
    control: str | None = optional(
        ENDPOINT,
        absent="what is lost on the way cannot be asked for again",
        help="The control endpoint of the publisher.",
        example="tcp://127.0.0.1:5570",
    )
    server_key: str | None = optional(
        PUBLIC_KEY,
        absent="no CURVE",
        help="The public key of the publisher, where we connect.",
        example="0" * 40,
    )
    public_key: str | None = optional(
        PUBLIC_KEY,
        absent="no CURVE",
        help="Our own public key.",
        example="0" * 40,
    )
    secret_key: Secret | None = optional(
        SECRET_KEY,
        absent="no CURVE",
        help="Our own secret key.",
        example="0" * 40,
    )
    client_keys: tuple[str, ...] = option(
        CLIENT_KEYS,
        default=(),
        help="The public keys of the publishers that may come in where we bind. Our own always "
        "may.",
    )
    rcvhwm: int = option(
        Whole(least=1, most=10_000_000),
        default=100_000,
        unit="frames",
        help="How many frames ZeroMQ holds for us, on each connection, before frames are dropped. "
        "A small one takes 2 KB of memory there.",
    )
    max_frame_bytes: int = option(
        Whole(least=1024, most=268_435_456),
        default=4_194_304,
        unit="bytes",
        help="A publisher that sends a longer frame is disconnected.",
    )

    @property
    def bound_port(self) -> int | None:
        """The port of this machine that the feed needs for itself: None unless it binds to TCP."""
        tcp = _TCP.fullmatch(self.endpoint) if self.mode == "bind" else None
        return int(tcp["port"]) if tcp else None

    @property
    def bound_host(self) -> str | None:
        """What the feed binds to: an IP address without brackets, an interface, or ``*``."""
        tcp = _TCP.fullmatch(self.endpoint) if self.mode == "bind" else None
        return tcp["host"].strip("[]") if tcp else None
