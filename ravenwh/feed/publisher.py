"""Messages onto a socket: stamped, counted, and never dropped for want of room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import attrs
import zmq
from loguru import logger

from ravenwh.domain.errors import RavenwhError, Refused, Unavailable
from ravenwh.domain.messages import Message
from ravenwh.feed import wire
from ravenwh.feed.curve import Gate
from ravenwh.feed.endpoint import Endpoint, gate_for, translated
from ravenwh.feed.ring import Ring

__all__ = ["Publisher"]

_YIELD_EVERY = 256  # messages; a publisher at full speed must not starve the other tasks
_LOOK_AGAIN_S = 0.1  # for subscribers, where a send used up the word that there is one
_MAX_SUBSCRIPTION_BYTES = 4096  # what a subscriber may send us in one frame


@attrs.frozen(kw_only=True, eq=False)
class Publisher:
    """Publishes on the raven wire, to every subscriber of a topic, in order.

    A PUB socket drops what does not fit into a subscriber's queue. This one waits: while
    ``sndhwm`` messages are queued for the slowest subscriber, ``publish`` does not return. A
    message that nobody subscribes to is gone, as on any PUB socket: see ``wait_for_subscribers``.

    ``epoch`` tells this publisher from an earlier one of the same topics, in nanoseconds. To be
    used on one loop; several tasks may publish. Raises SettingsError or Unavailable where the
    endpoint cannot be attached.

    ``ring`` holds what was sent last, in ``ring_bytes`` of memory, for a ControlServer to send
    again. ``address`` is where it is attached, with the port that a bound 0 became.
    """

    endpoint: Endpoint
    sndhwm: int = 10_000
    ring_bytes: int = 64 * 2**20
    epoch: int = attrs.field(factory=time.time_ns)
    _context: zmq.Context[zmq.Socket[bytes]] = attrs.field(
        init=False, repr=False, factory=zmq.Context
    )
    _socket: zmq.Socket[bytes] = attrs.field(init=False, repr=False)
    _gate: Gate | None = attrs.field(init=False, repr=False)
    address: str = attrs.field(init=False)
    ring: Ring = attrs.field(init=False, repr=False)
    _subscriptions: set[bytes] = attrs.field(init=False, repr=False, factory=set)
    _turn: asyncio.Lock = attrs.field(init=False, repr=False, factory=asyncio.Lock)
    _for_room: set[asyncio.Future[None]] = attrs.field(init=False, repr=False, factory=set)
    _for_subscribers: set[asyncio.Future[None]] = attrs.field(init=False, repr=False, factory=set)
    _loops: list[asyncio.AbstractEventLoop] = attrs.field(init=False, repr=False, factory=list)

    @_socket.default
    def _open(self) -> zmq.Socket[bytes]:
        try:
            socket = self._context.socket(zmq.XPUB)
            socket.set(zmq.SNDHWM, self.sndhwm)
            socket.set(zmq.XPUB_NODROP, 1)
            if self.endpoint.mode == "bind":
                # A connecting socket would not come back after it refused a frame.
                socket.set(zmq.MAXMSGSIZE, _MAX_SUBSCRIPTION_BYTES)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise translated(error, self.endpoint) from error
        return socket

    @_gate.default
    def _open_gate(self) -> Gate | None:
        return gate_for([self.endpoint], self._context)

    @address.default
    def _attach(self) -> str:
        self.endpoint.warn_if_open()
        try:
            return self.endpoint.attach(self._socket, self._gate)
        except RavenwhError:
            self._close_gate()
            self._context.destroy(linger=0)
            raise

    @ring.default
    def _empty_ring(self) -> Ring:
        return Ring(self.ring_bytes)

    @property
    def sent(self) -> int:
        """How many messages were published since the start, with or without a subscriber."""
        return self.ring.sent

    @property
    def subscriptions(self) -> frozenset[bytes]:
        """What subscribers want now, as far as it is known: topics, or prefixes of topics."""
        return frozenset(self._subscriptions)

    async def publish(self, message: Message) -> None:
        """Send the message under the next number of its topic; waits while a subscriber is full.

        Cancelled, it has sent nothing. Raises Rejected where the message cannot be encoded, and
        Refused once the publisher is closed.
        """
        topic, payload = wire.encode(message)
        if self._turn.locked() or not (seq := self._send(topic, payload)):
            await self._send_in_turn(topic, payload)
        elif seq % _YIELD_EVERY == 0:
            self._read_subscriptions()  # they would pile up
            await asyncio.sleep(0)

    async def wait_for_subscribers(self, topics: Iterable[bytes], *, timeout_s: float) -> None:
        """Wait until each of the topics has a subscriber: what is published then, it gets.

        Raises Unavailable after ``timeout_s``, naming the topics nobody wants.
        """
        wanted = set(topics)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._read_subscriptions()
                    if not (wanted := {topic for topic in wanted if not self._is_wanted(topic)}):
                        return
                    await self._news(self._for_subscribers, at_most_s=_LOOK_AGAIN_S)
        except TimeoutError:
            missing = ", ".join(topic.decode(errors="replace").strip() for topic in sorted(wanted))
            raise Unavailable(
                f"nobody subscribed to {missing} at {self.address} within {timeout_s:g} s; "
                "start the runner that should, or check its endpoint and symbols"
            ) from None

    async def close(self, linger_s: float = 5.0) -> None:
        """Deliver what is queued, for at most ``linger_s``, and give the socket back.

        What subscribers did not take by then is dropped, and told in a log line. Safe to call
        twice.
        """
        if self._socket.closed:
            return
        for loop in self._loops:
            loop.remove_reader(self._socket.fileno())
        for wait in self._for_room | self._for_subscribers:
            if not wait.done():
                wait.set_exception(Refused("the publisher was closed"))
        started = time.monotonic()
        self._close_gate()
        self._socket.close(linger=max(0, round(linger_s * 1000)))
        await asyncio.to_thread(self._context.term)  # returns when all is delivered, or too late
        if 0 < linger_s <= time.monotonic() - started:
            logger.bind(endpoint=self.address, linger_s=linger_s).warning("PUBLISHER_LINGER_OVER")

    async def __aenter__(self) -> Self:
        """Close at the end of the block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    def _close_gate(self) -> None:
        if self._gate is not None:
            self._gate.close()

    def _is_wanted(self, topic: bytes) -> bool:
        return any(topic.startswith(prefix) for prefix in self._subscriptions)

    def _send(self, topic: bytes, payload: bytes) -> int:
        """Send under the next number of the topic; 0 where a subscriber has no room for it.

        Only what was sent uses up its number. ZeroMQ counts whole messages: where the first part
        found room, the others do.
        """
        seq = self.ring.next_seq(topic)
        try:
            self._socket.send(topic, zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.Again:
            return 0
        except zmq.ZMQError as error:
            raise translated(error, self.endpoint) from error
        self._socket.send(wire.header(self.epoch, seq), zmq.SNDMORE)
        self._socket.send(payload)
        self.ring.add(topic, payload)
        return seq

    async def _send_in_turn(self, topic: bytes, payload: bytes) -> None:
        """Wait for room, one task at a time: ZeroMQ tells of it once."""
        async with self._turn:
            while not self._send(topic, payload):
                self._read_subscriptions()  # takes in, on the way, that there is room again
                if self._send(topic, payload):
                    return
                await self._news(self._for_room)

    async def _news(self, waits: set[asyncio.Future[None]], at_most_s: float | None = None) -> None:
        """Wait until the socket tells of something: a subscriber, room, a lost connection.

        Its descriptor tells of a change once, and any call on the socket may use that up: a read
        tells those who wait what it may have used up, and one who waits has read before.
        """
        loop = asyncio.get_running_loop()
        if not self._loops:
            self._loops.append(loop)
            loop.add_reader(self._socket.fileno(), self._read_subscriptions)
        wait = loop.create_future()
        waits.add(wait)
        try:
            await asyncio.wait((wait,), timeout=at_most_s)
            if wait.done():
                wait.result()
        finally:
            waits.discard(wait)

    def _read_subscriptions(self) -> None:
        """Take in what subscribers said, and that there is room, until there is no more."""
        while True:
            try:
                said = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                _wake(self._for_room)
                return
            except zmq.ZMQError as error:
                raise translated(error, self.endpoint) from error
            if said[:1] == b"\x01":
                self._subscriptions.add(said[1:])
                _wake(self._for_subscribers)
            elif said[:1] == b"\x00":
                self._subscriptions.discard(said[1:])


def _wake(waits: set[asyncio.Future[None]]) -> None:
    for wait in waits:
        if not wait.done():
            wait.set_result(None)
