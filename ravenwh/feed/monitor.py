"""What happens to the connections of a socket: log lines, and word of those that are given up."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import attrs
import zmq

from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.seldom import Seldom

__all__ = ["ConnectionMonitor"]

_GIVEN_UP_AFTER_S = 1.0
_LONGEST_WAIT_S = 30.0  # where it is refused each time, as with a wrong key
_EVENT = struct.Struct("=H")  # in the machine's own order, before a value that we do not need
_REASONS: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "it hung up: it speaks another protocol, has other keys, "
    "or none where we have",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "it speaks another protocol, has other keys, or none "
    "where we have",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "a public key is not among those that are let in",
}
_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_WATCHED = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED | _FAILED
)


@attrs.define(kw_only=True, eq=False)
class ConnectionMonitor:
    """Logs FEED_CONNECTED, FEED_DISCONNECTED and FEED_HANDSHAKE_FAILED of one socket.

    To be made on the loop that serves the socket. ``on_connected`` is called there at each new
    connection: a subscriber asks for its topics only when its socket is used the next time.
    ``on_disconnected`` is called at the end of each. A publisher that ends, one that is killed and
    a network that breaks look alike, so an end is no warning: the silence of a feed is.

    ZeroMQ connects again by itself, but not after a peer broke the protocol, and a frame above
    the size limit is such a breach, as is a key that is refused: the socket would stay silent for
    ever. It announces each new try right after the disconnect; where none was announced within a
    second, ``on_given_up`` is called, on the loop, and may attach the socket again. Each time that
    nothing comes of it the wait doubles, to half a minute.
    """

    socket: zmq.Socket[bytes]
    feed: str
    endpoint: Endpoint
    on_connected: Callable[[], None]
    on_disconnected: Callable[[], None]
    on_given_up: Callable[[], None]
    _loop: asyncio.AbstractEventLoop = attrs.field(init=False, factory=asyncio.get_running_loop)
    _events: zmq.Socket[bytes] = attrs.field(init=False)
    _timer: asyncio.TimerHandle | None = attrs.field(init=False, default=None)
    _seldom: Seldom = attrs.field(init=False, factory=Seldom)
    _failed: bool = attrs.field(init=False, default=False)
    _wait_s: float = attrs.field(init=False, default=_GIVEN_UP_AFTER_S)

    def __attrs_post_init__(self) -> None:
        """Watch from before the socket is attached, so that no event is missed."""
        address = f"inproc://monitor-{id(self)}"
        self.socket.monitor(address, _WATCHED)
        self._events = self.socket.context.socket(zmq.PAIR)
        # No limit: ZeroMQ's own thread would stand still at a full queue. The loop empties it.
        self._events.set(zmq.RCVHWM, 0)
        self._events.set(zmq.LINGER, 0)
        self._events.connect(address)
        self._loop.add_reader(self._events.fileno(), self._read)
        self._read()  # the descriptor tells of what is new since the last look

    def close(self) -> None:
        """Stop, before the socket is closed. Safe to call twice."""
        if self._events.closed:
            return
        self._loop.remove_reader(self._events.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self.socket.disable_monitor()
        self._events.close()

    def _read(self) -> None:
        while True:
            try:
                number, address = self._events.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._tell(_EVENT.unpack_from(number)[0], address)

    def _tell(self, event: int, address: bytes) -> None:
        where = {"feed": self.feed, "endpoint": address.decode(errors="replace")}
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._seldom.log("INFO", "FEED_CONNECTED", **where)
            self._wait_s = _GIVEN_UP_AFTER_S
            self.on_connected()
        elif event & _FAILED:
            reason = _REASONS[event]
            self._seldom.log("WARNING", "FEED_HANDSHAKE_FAILED", **where, reason=reason)
            self._failed = True  # the next disconnect is that of a connection that never was
        elif event == zmq.EVENT_DISCONNECTED:
            if not self._failed:
                self._seldom.log("INFO", "FEED_DISCONNECTED", **where)
                self.on_disconnected()
            self._failed = False
            self.expect_retry()
        elif event == zmq.EVENT_CONNECT_RETRIED and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def expect_retry(self) -> None:
        """Call ``on_given_up`` in a second, unless ZeroMQ announces a try of its own."""
        if self.endpoint.mode == "connect":
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(self._wait_s, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
        self.on_given_up()
