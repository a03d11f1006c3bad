"""Messages that never end: found, and their connections ended, before they fill the memory.

ZeroMQ hands over a message when all its parts are there, and until then holds them without a limit:
MAXMSGSIZE bounds one part, RCVHWM counts whole messages. How much came in on a connection is known
to Linux only (``tcp_info``), so this is for TCP. A ZeroMQ publisher sends no part before it has
them all: what is ended here comes from something else, or is longer than any message of a wire.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import attrs
import zmq

from ravenwh.feed.seldom import Seldom

__all__ = ["Endless"]

_LOOK_EVERY_S = 0.1
_HURRY_S = 0.02  # where much came since: a neighbour can send a gigabyte a second
_PAUSE = 20.0  # times as long as a look took: many connections get a twentieth of the loop
_AT_ONCE = 64 * 2**10  # bytes: less than this is not looked into; ZeroMQ reads small parts in 8 KiB
_HEARTBEATS_BYTES_S = 100.0  # a peer may send some, and no message, for months
_TURNS = 200  # ZeroMQ looks for connections with news at each hundredth receive, at least
_TCP_INFO_BYTES = 256
_RECEIVED = struct.Struct("=Q")  # tcpi_bytes_received
_RECEIVED_AT = 128
_UNREAD = struct.Struct("=i")
_WITH_A_RESET = struct.pack("=ii", 1, 0)

Ends = tuple[tuple[str, int], tuple[str, int]]
"""The address and port of a connection here, and those there."""


@attrs.define(eq=False)
class _Connection:
    """``endpoint`` is what it was made to, or where it was accepted.

    ``base`` is how many bytes ZeroMQ had taken from it, at ``since`` in monotonic seconds.
    ``overdue_at`` is the turn at which a message of it should have come, None before that.
    """

    ends: Ends
    endpoint: str
    base: int
    since: float
    overdue_at: int | None = None


class Endless:
    """Ends the connections of one socket that bring more than a message may have, and no message.

    To be made on the loop that serves the socket, and told by its monitor of each connection. A
    connection that brought something is a suspect until a message of it is received. One that then
    brings ``most_bytes`` more is in the middle of a message longer than that, if no whole one of
    it waits to be received: so if the socket ``is_empty``, or if all others had their turn twice.
    Where nobody receives, and whole messages wait, that cannot be told, and nothing is ended.
    What nobody subscribed to is no message here: publishers do not send it, but for a moment.

    ``suspects`` has them by descriptor: while there are some, each message is to be shown.
    """

    def __init__(self, *, most_bytes: int, is_empty: Callable[[], bool]) -> None:
        self.suspects: dict[int, _Connection] = {}
        self.ended = 0
        self._most = most_bytes + _AT_ONCE
        self._is_empty = is_empty
        self._connections: dict[int, _Connection] = {}
        self._turns = 0
        self._is_busy = False
        self._seldom = Seldom()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def opened(self, descriptor: int, endpoint: bytes) -> None:
        """ZeroMQ made or accepted this connection at the endpoint."""
        self._forget(descriptor)
        where = endpoint.decode(errors="replace")
        port = where.rpartition(":")[2]
        with _borrowed(descriptor) as found:
            ends = None if found is None else _ends(found)
            if found is None or ends is None or port not in (str(end[1]) for end in ends):
                return  # no TCP, or gone already, and its number perhaps another's
            self._connections[descriptor] = _Connection(
                ends, where, _taken_from(found), time.monotonic()
            )
        if self._timer is None:
            self._timer = self._loop.call_later(_HURRY_S, self._look)

    def heard(self, part: zmq.Frame) -> None:
        """A message was received, which begins with this part."""
        descriptor = part.get(zmq.SRCFD)
        self.suspects.pop(descriptor, None)
        # What waits from before a reconnect is in front of what came after it: that is no turn.
        self._turns += descriptor in self._connections

    def close(self) -> None:
        """Look no more, before the socket is closed. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
        self._connections.clear()
        self.suspects.clear()

    def _look(self) -> None:
        began = time.monotonic()
        self._is_busy = False
        overdue = []
        for descriptor, connection in list(self._connections.items()):
            with _borrowed(descriptor) as found:
                if found is None or _ends(found) != connection.ends:
                    self._forget(descriptor)
                elif self._is_overdue(descriptor, connection, _taken_from(found), began):
                    overdue.append(descriptor)
        if overdue:
            is_empty = self._is_empty()
            enough = _TURNS + 2 * len(self._connections)
            for descriptor in overdue:
                since = self._connections[descriptor].overdue_at or 0
                if is_empty or self._turns - since > enough:
                    self._end(descriptor)
        self._timer = None
        if self._connections:
            took_s = time.monotonic() - began
            wait_s = max(_HURRY_S if self._is_busy else _LOOK_EVERY_S, _PAUSE * took_s)
            self._timer = self._loop.call_later(wait_s, self._look)

    def _is_overdue(self, descriptor: int, connection: _Connection, taken: int, now: float) -> bool:
        brought = taken - connection.base
        if brought <= _AT_ONCE:
            return False
        self._is_busy = True
        if descriptor not in self.suspects:
            connection.base, connection.since = taken, now
            connection.overdue_at = None
            self.suspects[descriptor] = connection
            return False
        if brought - _HEARTBEATS_BYTES_S * (now - connection.since) <= self._most:
            return False
        if connection.overdue_at is None:
            connection.overdue_at = self._turns
        return True

    def _end(self, descriptor: int) -> None:
        """ZeroMQ throws away what it holds of the message, and goes on as after any break."""
        connection = self._connections[descriptor]
        with _borrowed(descriptor) as found:
            if found is not None and _ends(found) == connection.ends:
                taken = _taken_from(found) - connection.base
                # ZeroMQ reads an end and closes; the other end, which may wait for room, is told.
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _WITH_A_RESET)
                with suppress(OSError):  # it has just ended by itself
                    found.shutdown(socket.SHUT_RD)
                self.ended += 1
                self._seldom.log(
                    "WARNING",
                    "MESSAGE_WITHOUT_END",
                    endpoint=connection.endpoint,
                    peer="{}:{}".format(*connection.ends[1]),
                    bytes=taken,
                )
        self._forget(descriptor)

    def _forget(self, descriptor: int) -> None:
        self._connections.pop(descriptor, None)
        self.suspects.pop(descriptor, None)


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket | None]:
    """The connection with this descriptor, held open for as long; None where it is no TCP.

    ZeroMQ may close it at any time, and then the number is soon that of something else. A file is
    not touched: to close a copy of its descriptor would give back the locks that SQLite has on it.
    """
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        found = socket.socket(fileno=os.dup(descriptor)) if is_socket else None
    except OSError:
        found = None
    if found is None:
        yield None
        return
    with found:
        is_tcp = found.family in (socket.AF_INET, socket.AF_INET6)
        yield found if is_tcp and found.type == socket.SOCK_STREAM else None


def _ends(found: socket.socket) -> Ends | None:
    """Its addresses; None where it is connected no longer."""
    try:
        here, there = found.getsockname(), found.getpeername()
    except OSError:
        return None
    return (str(here[0]), int(here[1])), (str(there[0]), int(there[1]))


def _taken_from(found: socket.socket) -> int:
    """Bytes that came and were read: never more than at the end of this call."""
    received: int = _RECEIVED.unpack_from(
        found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES), _RECEIVED_AT
    )[0]
    unread: int = _UNREAD.unpack(fcntl.ioctl(found, termios.FIONREAD, bytes(_UNREAD.size)))[0]
    return received - unread
