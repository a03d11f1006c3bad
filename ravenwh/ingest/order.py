"""Frames of numbered streams, in the order of their numbers, whatever the order of arrival."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Generic, TypeVar

import attrs

from ravenwh.domain.messages import Message
from ravenwh.ports import Entry, Frame, Gap, Position, Stream

__all__ = ["Before", "InOrder", "Place", "Taken"]

MessageT = TypeVar("MessageT", bound=Message)

FOLLOWED = 65_536
"""Streams that are followed; those of a publisher that invents more come as they arrive."""

EPOCHS = 4
"""Epochs of a stream whose last number is known: two publishers may take turns on one."""

MOST_HELD = 200_000
"""Frames that are held at most; beyond it the holes of a stream are lost at once."""

Place = tuple[Position, ...]
"""How far a stream was given out: the last number of each epoch, the current epoch last."""


class Before(Enum):
    """What is known of the time between a message and the one before it on its stream."""

    NOTHING = "nothing is missing"
    GAP = "messages are missing"
    RESTART = "its publisher begins, for the first time or anew"


Taken = tuple[Entry, MessageT, Before]
Held = dict[int, tuple[Entry, MessageT]]


@attrs.define
class _Lane(Generic[MessageT]):
    """One stream: how far it was given out, and what waits, by epoch and number."""

    done: dict[int, int]
    held: dict[int, Held[MessageT]] = attrs.field(factory=dict)
    current: int | None = None
    is_gap: bool = False

    def enter(self, epoch: int) -> Before:
        """Go on with an epoch; what is before its next message."""
        before = Before.GAP if self.is_gap else Before.NOTHING
        self.is_gap = False
        if epoch == self.current:
            return before
        self.current = epoch
        self.done[epoch] = self.done.pop(epoch, 0)
        if len(self.done) > EPOCHS:
            del self.done[next(iter(self.done))]
        return Before.RESTART

    def in_turn(self) -> Iterator[Taken[MessageT]]:
        """What waits, up to the first hole; the epochs in the order in which they came."""
        while self.held:
            epoch, messages = next(iter(self.held.items()))
            seq = self.done.get(epoch, 0) + 1
            if seq not in messages:
                return
            before = self.enter(epoch)
            while seq in messages:
                yield (*messages.pop(seq), before)
                before = Before.NOTHING
                self.done[epoch] = seq
                seq += 1
            if not messages:
                del self.held[epoch]

    def pass_over_hole(self, open_gaps: Iterable[Gap]) -> bool:
        """Give the first hole up, unless messages of it may still come; false where they may."""
        epoch, messages = next(iter(self.held.items()))
        first, last = self.done.get(epoch, 0) + 1, min(messages) - 1
        if any(_overlaps(gap, epoch, first, last) for gap in open_gaps):
            return False
        self.is_gap = epoch == self.current
        self.done[epoch] = last
        return True


class InOrder(Generic[MessageT]):
    """Gives out the messages of each stream by number, each once; those behind a hole wait.

    A hole is filled by frames that were sent again. It is lost where no gap is open there and all
    that is in the journal was looked at (:meth:`settle`). Numbers of an epoch begin at 1; what was
    given out or lost and comes again is passed over. Frames without a number come as they arrive.

    ``places`` are those that :meth:`place` told when the journal was last acknowledged;
    ``open_gaps`` gives the gaps whose messages may still come.
    """

    def __init__(
        self,
        places: Mapping[Stream, Place],
        *,
        position_of: Callable[[Frame], Position | None],
        open_gaps: Callable[[], Iterable[Gap]],
    ) -> None:
        self._lanes = {
            stream: _Lane[MessageT](done=dict(place), current=place[-1][0])
            for stream, place in places.items()
        }
        self._position_of = position_of
        self._open_gaps = open_gaps
        self._waiting: set[Stream] = set()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def place(self, stream: Stream) -> Place | None:
        """How far a stream was given out; None where nothing was, or it has no numbers."""
        lane = self._lanes.get(stream)
        if lane is None or lane.current is None:
            return None
        return tuple(lane.done.items())

    def held(self) -> list[Entry]:
        """The entries that wait, in no order."""
        return [
            entry
            for stream in self._waiting
            for messages in self._lanes[stream].held.values()
            for entry, _ in messages.values()
        ]

    def offer(self, entry: Entry, message: MessageT) -> list[Taken[MessageT]]:
        """Take one; what comes out now, in order. Nothing for a number that came out before."""
        frame = entry[1]
        position = self._position_of(frame)
        if position is None:
            return [(entry, message, Before.NOTHING)]
        epoch, seq = position
        stream = (frame.feed, frame.topic)
        lane = self._lanes.get(stream)
        if lane is None:
            if len(self._lanes) >= FOLLOWED:
                return [(entry, message, Before.NOTHING)]
            lane = self._lanes[stream] = _Lane[MessageT](done={})
        done = lane.done.get(epoch, 0)
        waiting = lane.held.get(epoch)
        if seq <= done or (waiting is not None and seq in waiting):
            return []
        if seq == done + 1 and epoch == lane.current and not lane.held:
            lane.done[epoch] = seq
            return [(entry, message, Before.NOTHING)]
        lane.held.setdefault(epoch, {})[seq] = (entry, message)
        self._count += 1
        taken = self._out(lane.in_turn())
        while self._count > MOST_HELD and lane.held and lane.pass_over_hole(()):
            taken += self._out(lane.in_turn())
        (self._waiting.add if lane.held else self._waiting.discard)(stream)
        return taken

    def settle(self) -> list[Taken[MessageT]]:
        """Give holes up that no open gap covers; what comes out then.

        To be called when all that is in the journal was offered, and only then: what fills a hole
        may lie further on.
        """
        taken: list[Taken[MessageT]] = []
        if not self._waiting:
            return taken
        gaps: dict[Stream, list[Gap]] = defaultdict(list)
        for gap in self._open_gaps():
            gaps[gap.feed, gap.topic].append(gap)
        for stream in sorted(self._waiting):
            lane = self._lanes[stream]
            while lane.held and lane.pass_over_hole(gaps[stream]):
                taken += self._out(lane.in_turn())
            if not lane.held:
                self._waiting.discard(stream)
        return taken

    def _out(self, messages: Iterator[Taken[MessageT]]) -> list[Taken[MessageT]]:
        taken = list(messages)
        self._count -= len(taken)
        return taken


def _overlaps(gap: Gap, epoch: int, first: int, last: int) -> bool:
    return (
        gap.epoch == epoch
        and gap.first_seq is not None
        and gap.last_seq is not None
        and gap.first_seq <= last
        and first <= gap.last_seq
    )
