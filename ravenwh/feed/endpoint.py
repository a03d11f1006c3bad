"""Where a socket is attached, and what its failures mean to us.

The one place that binds and connects: the keys of an encrypted endpoint are set here, before the
socket is attached, and nowhere else.
"""

from __future__ import annotations

import errno
import ipaddress
import re
from collections.abc import Iterable
from typing import Any, Literal

import attrs
import zmq
from loguru import logger

from ravenwh.domain.errors import RavenwhError, Refused, SettingsError, Unavailable
from ravenwh.feed.curve import ClientKeys, Gate, ServerKeys

__all__ = ["Endpoint", "Mode", "gate_for", "translated"]

Mode = Literal["connect", "bind"]

_TCP = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")
_IPC = re.compile(r"ipc://\S+")

# What ZeroMQ's error numbers mean for the endpoint. All others are Unavailable, for a person.
_SETTINGS = {
    errno.EINVAL: "is not understood",
    errno.ENODEV: "names no network interface of this machine",
    errno.EADDRNOTAVAIL: "is no address of this machine",
    errno.EPROTONOSUPPORT: "has a transport that is not built in",
    zmq.ENOCOMPATPROTO: "has a transport that this socket cannot use",
    errno.ENAMETOOLONG: "is longer than a socket's path may be",
}
_AWAY = {
    errno.EADDRINUSE: "is taken by another process; stop that one, or choose a free endpoint",
    errno.EACCES: "may not be used by this user; choose a port above 1023 or another folder",
    errno.ENOENT: "lies in a folder that does not exist",
    zmq.EMTHREAD: "finds no I/O thread",
    errno.EMFILE: "finds no free file descriptor; raise the limit of open files",
}
_CLOSED = frozenset({zmq.ETERM, zmq.ENOTSOCK})


def translated(error: zmq.ZMQError, endpoint: Endpoint) -> RavenwhError:
    """The error of ours that stands for ZeroMQ's: each number has exactly one."""
    number = error.errno or 0
    what = f"{endpoint.key}: {endpoint.mode} {endpoint.address}"
    if number in _CLOSED:
        return Refused(f"{what}: the socket is closed; open a new one")
    if number in _SETTINGS:
        return SettingsError([f"{what} {_SETTINGS[number]}"])
    reason = _AWAY.get(number, f"failed: {error.strerror}")
    return Unavailable(f"{what} {reason}", needs_person=True)


def gate_for(endpoints: Iterable[Endpoint], context: zmq.Context[Any]) -> Gate | None:
    """What lets clients in to those of one context that need it, on the running loop."""
    needed = any(isinstance(endpoint.keys, ServerKeys) for endpoint in endpoints)
    return Gate(context) if needed else None


@attrs.frozen(kw_only=True)
class Endpoint:
    """A ZeroMQ address, and whether we bind it or connect to it.

    ``address`` is ``tcp://HOST:PORT`` or ``ipc://PATH``; where it is bound, HOST may be ``*`` for
    all interfaces and PORT 0 for a free one. ``key`` is what errors call it: the settings key.
    With ``keys`` everything is encrypted: a ServerKeys where it is bound, else a ClientKeys.
    Raises SettingsError.
    """

    address: str
    mode: Mode = "connect"
    key: str = "endpoint"
    keys: ClientKeys | ServerKeys | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse what could never be attached."""
        if self.mode not in ("connect", "bind"):
            raise SettingsError([f"{self.key}: found {self.mode!r}, allowed are connect and bind"])
        fitting = ServerKeys if self.mode == "bind" else ClientKeys
        if self.keys is not None and not isinstance(self.keys, fitting):
            raise SettingsError(
                [
                    f"{self.key}: found {type(self.keys).__name__} with mode {self.mode}, "
                    f"allowed with it are {fitting.__name__}: who binds is the server"
                ]
            )
        if _IPC.fullmatch(self.address):
            return
        match = _TCP.fullmatch(self.address)
        least = 0 if self.mode == "bind" else 1
        if match is None or not least <= int(match["port"]) <= 65_535:
            raise SettingsError(
                [
                    f"{self.key}: found {self.address!r}, allowed are tcp://HOST:PORT "
                    f"with a port from {least} to 65535, and ipc://PATH"
                ]
            )
        if self.mode == "connect" and match["host"] == "*":
            raise SettingsError(
                [f"{self.key}: found {self.address!r}, allowed to connect to is one named host"]
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can be at the other end."""
        match = _TCP.fullmatch(self.address)
        if match is None:
            return True
        host = match["host"].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def warn_if_open(self) -> None:
        """Warn of what others can reach or read: without keys it is neither secret nor signed."""
        if self.keys is None and not self.is_local:
            logger.bind(endpoint=self.address, mode=self.mode).warning("FEED_NOT_ENCRYPTED")

    def attach(self, socket: zmq.Socket[Any], gate: Gate | None = None) -> str:
        """Bind or connect the socket; the address in use, with the port that a 0 became.

        ``gate`` is needed where the keys are a server's. Raises SettingsError, Unavailable or
        Refused.
        """
        if isinstance(self.keys, ServerKeys):
            if gate is None:
                raise Refused(f"{self.key}: nobody would be let in without a gate; give one")
            gate.guard(socket, self.keys, self.key)
        elif self.keys is not None:
            self.keys.put_on(socket)
        socket.set(zmq.TCP_KEEPALIVE, 1)  # a peer that vanished without a word is noticed in 60 s
        socket.set(zmq.TCP_KEEPALIVE_IDLE, 30)
        socket.set(zmq.TCP_KEEPALIVE_INTVL, 10)
        socket.set(zmq.TCP_KEEPALIVE_CNT, 3)
        socket.set(zmq.IPV6, int("[" in self.address))
        try:
            if self.mode == "bind":
                socket.bind(self.address)
            else:
                socket.connect(self.address)
            last = socket.get_string(zmq.LAST_ENDPOINT)
        except zmq.ZMQError as error:
            raise translated(error, self) from error
        return last if self.mode == "bind" else self.address
