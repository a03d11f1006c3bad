"""Frames from SUB sockets, in batches, without a wait for each."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import attrs
import msgspec
import zmq
from loguru import logger

from ravenwh.domain.errors import RavenwhError, Refused, SettingsError
from ravenwh.feed.curve import Gate
from ravenwh.feed.descriptor import Wait
from ravenwh.feed.endpoint import Endpoint, gate_for, translated
from ravenwh.feed.monitor import ConnectionMonitor
from ravenwh.ports import Frame

__all__ = ["FOUND_WITHIN_S", "Upstream", "ZmqSource"]

FOUND_WITHIN_S = 1.0
"""A publisher that is not there is looked for again within this time, and a tenth of a second."""


def _nobody(feed: str) -> None:
    """Nobody is told."""


@attrs.frozen(kw_only=True)
class Upstream:
    """One feed to receive from: its name, where it is, and what is wanted of it.

    ``topics`` are subscriptions as the wire's ``subscriptions`` gives them. ``one_part`` is true of
    the cryptofeed wire, where a message is one part: topic, space, payload. ``rcvhwm`` is how many
    messages ZeroMQ may hold for us from each publisher; at it the publisher is held up, and waits
    or drops. A frame above ``max_frame_bytes`` is refused before it is held in memory: its
    connection is closed, and made anew.
    """

    feed: str
    endpoint: Endpoint
    topics: tuple[bytes, ...]
    one_part: bool = False
    rcvhwm: int = 100_000
    max_frame_bytes: int = 4 * 2**20


@attrs.frozen(kw_only=True, eq=False)
class ZmqSource:
    """A Source over one SUB socket for each upstream; no upstream can shut out another.

    ZeroMQ's asyncio sockets cost a future a message. Here the task waits on the descriptors, and
    takes all that is there each time. To be made on the running loop where one task uses it.
    Raises SettingsError or Unavailable where an upstream cannot be attached; all sockets are closed
    again then.
    """

    upstreams: Sequence[Upstream]
    _context: zmq.Context[zmq.Socket[bytes]] = attrs.field(
        init=False, repr=False, factory=zmq.Context
    )
    _gates: list[Gate] = attrs.field(init=False, repr=False, factory=list)
    _lanes: deque[_Lane] = attrs.field(init=False, repr=False, factory=deque)
    _waits: list[Wait] = attrs.field(init=False, repr=False, factory=list)

    def __attrs_post_init__(self) -> None:
        """Open and attach the sockets."""
        names = [upstream.feed for upstream in self.upstreams]
        try:
            if not names or len(names) != len(set(names)):
                raise SettingsError([f"feeds: found {names}, allowed is one or more, each once"])
            gate = gate_for((up.endpoint for up in self.upstreams), self._context)
            self._gates.extend([gate] if gate else [])
            for upstream in self.upstreams:
                self._lanes.append(_Lane(self._context, gate, upstream, self._wake))
        except BaseException:
            self.close()
            raise

    @property
    def addresses(self) -> dict[str, str]:
        """Where each feed is attached, by its name, with the port that a bound 0 became."""
        return {lane.upstream.feed: lane.address for lane in self._lanes}

    def watch(
        self,
        *,
        connected: Callable[[str], None] = _nobody,
        disconnected: Callable[[str], None] = _nobody,
    ) -> None:
        """Have the name of a feed told, on the loop, at each connection it gets or loses from now.

        What is published between the two is not received: whoever resends it should be asked.
        """
        for lane in self._lanes:
            lane.connected, lane.disconnected = connected, disconnected

    def wanted(self, feed: str) -> frozenset[bytes]:
        """What is subscribed to of the feed now: topics, or prefixes of topics."""
        return frozenset(self._lane(feed).wanted)

    def subscribe(self, feed: str, topic: bytes) -> None:
        """Want this topic of the feed too, also after a reconnect. May be repeated."""
        lane = self._lane(feed)
        if topic not in lane.wanted:
            lane.wanted.add(topic)
            lane.socket.set(zmq.SUBSCRIBE, topic)

    def unsubscribe(self, feed: str, topic: bytes) -> None:
        """Want it no longer; frames that are on their way still come. May be repeated."""
        lane = self._lane(feed)
        if topic in lane.wanted:
            lane.wanted.remove(topic)
            lane.socket.set(zmq.UNSUBSCRIBE, topic)

    async def receive(self, limit: int) -> list[Frame]:
        """At least one and at most ``limit`` frames; those of one publisher in its order.

        ``received_at`` is when the frame was taken from the socket's queue. A message of another
        number of parts than its wire has comes too, as a frame that no decoder accepts. Cancelled,
        it has taken nothing. Raises Refused once the source is closed.
        """
        if limit < 1:
            raise Refused(f"receive: found a limit of {limit}, allowed is at least 1")
        await asyncio.sleep(0)  # a feed that never pauses must not starve the other tasks
        while True:
            if frames := self._take(limit):
                return frames
            await self._news()

    def close(self) -> None:
        """Give the sockets back, unread frames with them. Safe to call twice."""
        for wait in self._waits:
            wait.end(Refused("the source was closed while it was received from"))
        self._waits.clear()
        for lane in self._lanes:
            lane.close()
        for gate in self._gates:
            gate.close()
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def _lane(self, feed: str) -> _Lane:
        for lane in self._lanes:
            if lane.upstream.feed == feed:
                return lane
        known = ", ".join(sorted(self.addresses))
        raise SettingsError([f"feed: found {feed!r}, allowed are {known}"])

    def _take(self, limit: int) -> list[Frame]:
        if self._context.closed:
            raise Refused("the source is closed; open a new one")
        frames: list[Frame] = []
        for lane in self._lanes:
            lane.take(limit - len(frames), frames)
        self._lanes.rotate(-1)  # the next call asks another one first
        return frames

    async def _news(self) -> None:
        """Wait until a descriptor tells of something, though it may be no frame.

        A descriptor tells of a change once, and ``take`` has seen the socket empty since the last:
        so nothing can be there that is not told.
        """
        if self._waits:
            raise Refused("two tasks receive from one source; give each its own")
        wait = Wait([lane.socket.fileno() for lane in self._lanes])
        self._waits.append(wait)
        try:
            await wait.done
        finally:
            if wait in self._waits:
                self._waits.remove(wait)
                wait.end()

    def _wake(self) -> None:
        for wait in self._waits:
            wait.wake()


class _Lane:
    """One upstream's socket, with what watches it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        gate: Gate | None,
        upstream: Upstream,
        wake: Callable[[], None],
    ) -> None:
        self.upstream = upstream
        self.wanted = set(upstream.topics)
        self.connected: Callable[[str], None] = _nobody
        self.disconnected: Callable[[str], None] = _nobody
        self._gate = gate
        self._wake = wake
        self._given_up = False
        try:
            self.socket = context.socket(zmq.SUB)
            self.monitor = ConnectionMonitor(
                socket=self.socket,
                feed=upstream.feed,
                endpoint=upstream.endpoint,
                on_connected=self._on_connected,
                on_disconnected=self._on_disconnected,
                on_given_up=self._on_given_up,
            )
        except zmq.ZMQError as error:
            raise translated(error, upstream.endpoint) from error
        try:
            self.address = self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> str:
        upstream = self.upstream
        try:
            self.socket.set(zmq.RCVHWM, upstream.rcvhwm)
            self.socket.set(zmq.MAXMSGSIZE, upstream.max_frame_bytes)
            self.socket.set(zmq.RECONNECT_IVL, 100)
            self.socket.set(zmq.RECONNECT_IVL_MAX, round(1000 * FOUND_WITHIN_S))
            for topic in self.wanted:
                self.socket.set(zmq.SUBSCRIBE, topic)
        except zmq.ZMQError as error:
            raise translated(error, upstream.endpoint) from error
        upstream.endpoint.warn_if_open()
        return upstream.endpoint.attach(self.socket, self._gate)

    def take(self, limit: int, into: list[Frame]) -> None:
        """Move what is there, at most ``limit`` messages, into the list, without waiting.

        The parts of a message arrive together: only its first one can be missing.
        """
        recv, feed, now, append = self.socket.recv, self.upstream.feed, time.time_ns, into.append
        one_part = self.upstream.one_part
        for _ in range(limit):
            try:
                part = recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                if self._given_up:
                    self._attach_again()
                return
            # A part that knows itself whether more follow is cheaper than asking the socket.
            parts = [part.bytes]
            while part.more:
                part = recv(copy=False)
                parts.append(part.bytes)
            if len(parts) == 3 and not one_part:
                append(Frame(feed, parts[0], parts[1], parts[2], now()))
            elif len(parts) == 1 and one_part:
                topic, _, payload = parts[0].partition(b" ")
                append(Frame(feed, topic, b"", payload, now()))
            else:
                append(_malformed(feed, parts, now()))

    def close(self) -> None:
        self.monitor.close()
        self.socket.close(linger=0)

    def _on_connected(self) -> None:
        """Let the socket ask for its topics now, though nobody may receive for a while."""
        self.socket.get(zmq.EVENTS)
        self._wake()  # the look at the events may have used up the word that frames are there
        self.connected(self.upstream.feed)

    def _on_disconnected(self) -> None:
        self.disconnected(self.upstream.feed)

    def _on_given_up(self) -> None:
        self._given_up = True
        self._wake()

    def _attach_again(self) -> None:
        """Only where the socket is empty: to disconnect throws away what is queued.

        It raises nothing, because the caller holds frames; what fails is tried again.
        """
        self._given_up = False
        endpoint = self.upstream.endpoint
        log = logger.bind(feed=self.upstream.feed, endpoint=endpoint.address)
        with suppress(zmq.ZMQError):  # forgotten by ZeroMQ already
            self.socket.disconnect(endpoint.address)
        try:
            endpoint.attach(self.socket)
        except RavenwhError as error:
            log.bind(reason=str(error)).error("FEED_ATTACH_FAILED")
            self.monitor.expect_retry()
        else:
            log.warning("FEED_ATTACHED_AGAIN")


def _malformed(feed: str, parts: list[bytes], received_at: int) -> Frame:
    """A message of another number of parts than its wire has, whole, as a frame nobody decodes.

    Parts that are missing are empty; where there are more than three, all from the third on are
    the payload, as a MessagePack array of them.
    """
    header = parts[1] if len(parts) > 1 else b""
    payload = msgspec.msgpack.encode(parts[2:]) if len(parts) > 2 else b""
    return Frame(feed, parts[0], header, payload, received_at)
