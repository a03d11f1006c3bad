"""Which klines are missing on a wire without numbers: their times are expected by the interval."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import attrs

from ravenwh.domain.interval import INTERVALS
from ravenwh.domain.messages import Candle
from ravenwh.domain.series import EARLIEST_NS
from ravenwh.ingest.limits import AHEAD_NS, FOLLOWED
from ravenwh.ingest.sequences import NEVER
from ravenwh.ports import Frame, Gap, Position, Stream

__all__ = ["Cadence", "Seen"]

APART = 50
"""Holes of a stream that are kept apart in the journal; more become one that counts them."""

NO_EPOCH = 0
"""The epoch of a position that is a time: publishers of numbers start later than 1970."""

Numbered = tuple[int, Gap]
"""A gap with its number in the journal."""


@attrs.define
class _Hole:
    """Open times without klines, half-open; when that was seen, and whether the journal has it."""

    start: int
    end: int
    since: int
    is_kept: bool = False


@attrs.define
class _Followed:
    newest: int
    holes: list[_Hole] = attrs.field(factory=list)
    """In order; only those whose klines may still come."""


@attrs.frozen(kw_only=True)
class Seen:
    """What the klines show: how far their streams have come, and what is missing now.

    The gaps take the place of those in ``replaced``, which are numbers in the journal.
    """

    positions: Mapping[Stream, Position]
    gaps: Sequence[Gap]
    replaced: Sequence[int]


class Cadence:
    """Follows the open times of every stream of klines, from where an earlier run had come to.

    ``positions`` and ``gaps`` are those of the journal. A time that is jumped over is a gap there
    as soon as the batch is settled. History may come newest first: what comes within ``grace_s``
    of the jump takes its time out of the gap again. Times are nanoseconds since 1970, UTC.
    ``numbered`` tells frames whose wire shows its gaps itself: they are passed over.
    """

    def __init__(
        self,
        positions: Mapping[Stream, Position],
        gaps: Sequence[Numbered] = (),
        *,
        numbered: Callable[[Frame], bool],
        grace_s: float = 90.0,
    ) -> None:
        self.grace_s = grace_s
        self._numbered = numbered
        self._followed = {
            stream: _Followed(position[1])
            for stream, position in positions.items()
            if position[0] == NO_EPOCH and position != NEVER
        }
        self._moved: set[Stream] = set()
        self._changed: set[Stream] = set()
        for stream, held in _by_stream(gaps).items():
            if stream in self._followed:
                self._followed[stream].holes = _holes([gap for _, gap in held])

    def offer(self, frame: Frame, candle: Candle) -> None:
        """Take note of one version of a kline."""
        interval = INTERVALS.get(candle.interval)
        if interval is None or self._numbered(frame):
            return
        name = f"{candle.venue}:CANDLE:{candle.symbol} {candle.interval}"  # topics may be shared
        stream = (frame.feed, name.encode("utf-8", "backslashreplace"))
        followed, at, step = self._followed.get(stream), candle.open_time, interval.duration_ns
        if not EARLIEST_NS <= at <= frame.received_at + AHEAD_NS:
            return  # it is no kline's time
        if followed is None:
            if len(self._followed) < FOLLOWED:
                self._followed[stream] = _Followed(at)
                self._moved.add(stream)
        elif at <= followed.newest:
            if followed.holes and _filled(followed.holes, at, step):
                self._changed.add(stream)
        else:
            first = followed.newest + step
            if first < at:
                followed.holes.append(_Hole(first, at, frame.received_at))
                self._changed.add(stream)
            followed.newest = at
            self._moved.add(stream)

    def seen(self, now: int, gaps: Callable[[], Sequence[Numbered]]) -> Seen:
        """What is to be kept in the journal, whose gaps are asked for where they may change.

        It is told until it is :meth:`kept`.
        """
        positions = {stream: (NO_EPOCH, self._followed[stream].newest) for stream in self._moved}
        found: list[Gap] = []
        replaced: list[int] = []
        held = _by_stream(gaps()) if self._changed else {}
        oldest = now - int(self.grace_s * 1e9)
        for stream in self._changed:
            followed = self._followed[stream]
            followed.holes = [h for h in followed.holes if h.since >= oldest or not h.is_kept]
            before = {gap: number for number, gap in held.get(stream, ())}
            after = _gaps(stream, followed.holes)
            found += [gap for gap in after if gap not in before]
            replaced += [
                number
                for gap, number in before.items()
                if gap.detected_at >= oldest and gap not in after
            ]
        return Seen(positions=positions, gaps=found, replaced=replaced)

    def kept(self) -> None:
        """What was last seen is in the journal."""
        for stream in self._changed:
            for hole in self._followed[stream].holes:
                hole.is_kept = True
        self._moved.clear()
        self._changed.clear()

    def forget(self, is_forgotten: Callable[[Stream], bool]) -> None:
        """Follow these streams no more, as if they had never spoken."""
        for stream in [stream for stream in self._followed if is_forgotten(stream)]:
            del self._followed[stream]
            self._moved.discard(stream)
            self._changed.discard(stream)


def _filled(holes: list[_Hole], at: int, step: int) -> bool:
    """Take a time out of the holes; whether it was in one."""
    index = bisect_right(holes, at, key=lambda hole: hole.start) - 1
    if index < 0 or at >= holes[index].end:
        return False
    hole = holes[index]
    parts = ((hole.start, at), (at + step, hole.end))
    holes[index : index + 1] = [
        attrs.evolve(hole, start=start, end=end) for start, end in parts if start < end
    ]
    return True


def _gaps(stream: Stream, holes: list[_Hole]) -> list[Gap]:
    """A gap for each hole; of very many, one that counts what is missing."""
    step = INTERVALS[stream[1].rpartition(b" ")[2].decode()].duration_ns
    if len(holes) > APART:
        newest = max(hole.since for hole in holes)
        for hole in holes:
            hole.since = newest  # they have one row, and so they expire together
        missing = sum(hole.end - hole.start for hole in holes) // step
        return [_gap(stream, holes[0].start, holes[-1].end, newest, missing)]
    return [
        _gap(stream, hole.start, hole.end, hole.since, (hole.end - hole.start) // step)
        for hole in holes
    ]


def _gap(stream: Stream, start: int, end: int, since: int, missing: int) -> Gap:
    return Gap(
        feed=stream[0],
        topic=stream[1],
        start_time=start,
        end_time=end,
        missing=missing,
        reason="no kline came for this time",
        detected_at=since,
    )


def _by_stream(gaps: Sequence[Numbered]) -> dict[Stream, list[Numbered]]:
    """Those of the journal's gaps that are holes of a stream's times."""
    found = defaultdict[Stream, list[Numbered]](list)
    for number, gap in gaps:
        if gap.topic and gap.start_time is not None:
            found[gap.feed, gap.topic].append((number, gap))
    return found


def _holes(gaps: Sequence[Gap]) -> list[_Hole]:
    """The holes that an earlier run left, in order, each time in one of them."""
    holes: list[_Hole] = []
    for gap in sorted(gaps, key=_bounds):
        start, end = _bounds(gap)
        start = max(start, holes[-1].end) if holes else start
        if start < end:
            holes.append(_Hole(start, end, gap.detected_at, is_kept=True))
    return holes


def _bounds(gap: Gap) -> tuple[int, int]:
    return gap.start_time or 0, gap.end_time or 0
