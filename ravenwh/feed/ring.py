"""What a publisher sent last, kept to be sent again."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from itertools import islice
from typing import NamedTuple

__all__ = ["MESSAGE_BYTES", "Kept", "Ring"]

MESSAGE_BYTES = 96
"""What a message takes in memory besides its payload, as measured with klines."""


class Kept(NamedTuple):
    """What there is of a topic: the oldest number that is kept, and the last that was sent.

    Where nothing is kept, ``oldest`` is ``last + 1``.
    """

    topic: bytes
    oldest: int
    last: int


class _Lane:
    """The payloads of one topic, without holes, up to the last number."""

    __slots__ = ("last", "payloads")

    def __init__(self) -> None:
        self.last = 0
        self.payloads: deque[bytes] = deque()


class Ring:
    """The numbers of every topic, and its last payloads, in ``max_bytes`` of memory for them all.

    What is oldest goes first, whatever its topic: so all of them reach back equally far, and an
    interruption that is shorter is mended in full. Only the newest message of a topic stays as long
    as any other topic has two: a topic that seldom speaks is not forgotten for those that always
    do. A header is not kept, because epoch and number tell all of it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size = 0
        self._lanes: dict[bytes, _Lane] = {}
        self._names: list[bytes] = []
        self._order: deque[_Lane] = deque()
        self._holding = 0

    def __len__(self) -> int:
        """How many messages are kept."""
        return len(self._order)

    @property
    def sent(self) -> int:
        """How many messages were added since the start."""
        return sum(lane.last for lane in self._lanes.values())

    def next_seq(self, topic: bytes) -> int:
        """The number that the topic's next message has."""
        lane = self._lanes.get(topic)
        return 1 if lane is None else lane.last + 1

    def add(self, topic: bytes, payload: bytes) -> None:
        """Keep what was sent under the topic's next number; others may go for it."""
        lane = self._lanes.get(topic)
        if lane is None:
            lane = self._lanes[topic] = _Lane()
            insort(self._names, topic)
        if not lane.payloads:
            self._holding += 1
        lane.payloads.append(payload)
        lane.last += 1
        self._order.append(lane)
        self.size += len(payload) + MESSAGE_BYTES
        while self.size > self.max_bytes:
            self._forget()

    def kept(self, topic: bytes) -> Kept | None:
        """What there is of a topic; None where nothing was ever sent under it."""
        lane = self._lanes.get(topic)
        return None if lane is None else Kept(topic, lane.last - len(lane.payloads) + 1, lane.last)

    def topics(self, prefix: bytes, after: bytes, limit: int) -> list[Kept]:
        """The topics that begin with ``prefix`` and sort after ``after``, at most ``limit``."""
        names = self._names
        start = max(bisect_left(names, prefix), bisect_right(names, after))
        found: list[Kept] = []
        for name in names[start : start + limit]:
            kept = self.kept(name)
            if kept is None or not name.startswith(prefix):
                break
            found.append(kept)
        return found

    def payloads(self, topic: bytes, first: int, last: int) -> list[bytes]:
        """The payloads of these numbers, all of which are kept."""
        lane = self._lanes[topic]
        oldest = lane.last - len(lane.payloads) + 1
        return list(islice(lane.payloads, first - oldest, last - oldest + 1))

    def _forget(self) -> None:
        """Let the oldest message go, passing over those that are their topic's only one."""
        order = self._order
        lane = order.popleft()
        while len(lane.payloads) == 1 and len(order) >= self._holding:
            order.append(lane)
            lane = order.popleft()
        self.size -= len(lane.payloads.popleft()) + MESSAGE_BYTES
        if not lane.payloads:
            self._holding -= 1
