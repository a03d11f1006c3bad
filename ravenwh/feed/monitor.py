"""What happens to the connections of a socket: log lines, and word of those that are given up."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import attrs
import zmq
from loguru import logger

from ravenwh.feed.endpoint import Endpoint

__all__ = ["ConnectionMonitor"]

_GIVEN_UP_AFTER_S = 1.0
_EVENT = struct.Struct("=H")  # in the machine's own order, before a value that we do not need
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

    ZeroMQ connects again by itself, but not after a peer broke the protocol, and a frame above
    the size limit is such a breach: the socket would stay silent for ever. It announces each new
    try right after the disconnect; where none was announced within a second, ``on_given_up`` is
    called, on the loop, and may attach the socket again.
    """

    socket: zmq.Socket[bytes]
    feed: str
    endpoint: Endpoint
    on_connected: Callable[[], None]
    on_given_up: Callable[[], None]
    _loop: asyncio.AbstractEventLoop = attrs.field(init=False, factory=asyncio.get_running_loop)
    _events: zmq.Socket[bytes] = attrs.field(init=False)
    _timer: asyncio.TimerHandle | None = attrs.field(init=False, default=None)

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
        log = logger.bind(feed=self.feed, endpoint=address.decode(errors="replace"))
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            log.info("FEED_CONNECTED")
            self.on_connected()
        elif event == zmq.EVENT_DISCONNECTED:
            log.warning("FEED_DISCONNECTED")
            self.expect_retry()
        elif event & _FAILED:
            log.warning("FEED_HANDSHAKE_FAILED")
        elif event == zmq.EVENT_CONNECT_RETRIED and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def expect_retry(self) -> None:
        """Call ``on_given_up`` in a second, unless ZeroMQ announces a try of its own."""
        if self.endpoint.mode == "connect":
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(_GIVEN_UP_AFTER_S, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        self.on_given_up()
