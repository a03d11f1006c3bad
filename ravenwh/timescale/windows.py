"""Which windows of which aggregates a refresh takes, and in which order: no database, only values.

The rules, and why they are (TimescaleDB 2.18 to 2.24):

- Sources come before what is made of them: a refresh looks only at what its own source changed.
- A window covers whole buckets, so it is widened to their edges.
- It ends before what may still change: before the open bucket at the latest, and as long before
  now as the policy stays. A bucket that was materialised too early hides the rows that follow it.
- It begins at what the source still holds: a refresh erases what it does not find there. Parts
  without chunks are left out for the same reason.
- It leaves no hole: rows before the watermark that were never materialised are shown by nobody, so
  that a window which moves the watermark begins there.
- It is cut into steps at fixed points, a transaction each: the watermark goes up step by step, and
  one that was interrupted is taken up again with the same edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from ravenwh.timescale.spans import BEGINNING, FOREVER, ORIGIN, Buckets, Span, common, merged

__all__ = ["Aggregate", "Windows", "behind", "cut", "grid", "plan"]

CHUNKS_A_STEP = 4
"""Chunks of the source that one transaction reads."""


@attrs.frozen(kw_only=True)
class Aggregate:
    """An aggregate as it is declared and as it was found.

    ``source`` is the name of what it reads, ``root`` that of the hypertable at the bottom;
    ``chunks`` are those of the source, each as long as ``chunk`` (the first one, where the source
    is an aggregate, from its oldest bucket on), and ``dropped_before`` is up to when its retention
    drops them. It ``fades`` where retention drops rows of the source or below it. ``reach`` is how
    far back the refresh policy looks (None: without end), ``rest`` how long before now it stops;
    both are zero without a policy. ``oldest`` is the first bucket that is materialised, ``unmade``
    are times that were passed over, see :meth:`passed_over`.
    """

    name: str
    source: str
    root: str
    buckets: Buckets
    reach: timedelta | None
    rest: timedelta
    chunks: tuple[Span, ...]
    chunk: timedelta
    dropped_before: datetime | None = None
    fades: bool = False
    watermark: datetime | None = None
    oldest: datetime | None = None
    unmade: tuple[Span, ...] = ()

    def settled(self, now: datetime) -> datetime:
        """Up to where it may be materialised.

        What is materialised already is kept right even where the policy would still wait.
        """
        open_bucket = self.buckets.floor(now)
        quiet = self.buckets.floor(now - self.rest)
        return max(quiet, min(open_bucket, self.watermark or quiet))

    def held(self, planned: Iterable[Span]) -> list[Span]:
        """What the source holds, or will hold once these windows of it are refreshed."""
        return merged([*self.chunks, *planned])

    def intact_from(self, planned: Sequence[Span]) -> datetime:
        """From which bucket on the source has all rows that it ever had.

        A chunk is dropped as a whole. The bucket in which the first one begins may have lost rows,
        if there were any before; chunks that retention is to drop may be of rows that came later.
        """
        dropped = self.dropped_before
        if dropped is None:
            held = self.held(planned)
        else:
            held = [chunk for chunk in self.chunks if chunk.end > dropped]
        if not held:
            return FOREVER
        begin = held[0].start
        lost = dropped is not None and begin <= dropped
        if self.oldest is not None:
            lost |= self.oldest < begin if self.fades else self.buckets.after(self.oldest) <= begin
        return (self.buckets.ceil if lost else self.buckets.floor)(begin)

    def erasable(self, planned: Sequence[Span]) -> list[Span]:
        """What is materialised of rows that may be gone: one span, or none."""
        if self.oldest is None or self.watermark is None:
            return []
        end = min(self.intact_from(planned), self.watermark)
        return [Span(self.oldest, end)] if self.oldest < end else []

    def allowed(self, planned: Sequence[Span], now: datetime) -> list[Span]:
        """Where a refresh erases nothing, and is early enough for no policy to mind."""
        held = self.held(planned)
        if not held:
            return []
        begin = self.buckets.floor(held[0].start)
        spans = [Span(begin, max(begin, self.settled(now)))]
        for erasable in self.erasable(planned):
            sides = Span(end=erasable.start), Span(start=erasable.end)
            spans = common(spans, sides)
        return spans

    def policy_from(self, now: datetime) -> datetime:
        """From where on the policy refreshes it by itself."""
        return BEGINNING if self.reach is None else self.buckets.ceil(now - self.reach)

    def passed_over(self, spans: Iterable[Span], now: datetime) -> list[Span]:
        """The buckets of these times that the source holds, and no policy will refresh."""
        held = self.held(())
        old = Span(end=max(self.policy_from(now), BEGINNING + datetime.resolution))
        allowed = common(self.allowed((), now), [old])
        return [
            part
            for span in spans
            for region in held
            for touched in span.within(region)
            for place in allowed
            for part in self.buckets.around(touched).within(place)
        ]


@attrs.frozen(kw_only=True)
class Windows:
    """What is to be refreshed of one aggregate.

    ``holes`` are what was added so that nothing below the watermark stays hidden, ``lost`` what
    was asked for and is left as it is, because the rows that it was made of are gone.
    """

    aggregate: Aggregate
    spans: tuple[Span, ...]
    holes: tuple[Span, ...] = ()
    lost: tuple[Span, ...] = ()

    def steps(self, *, by_chunk: bool = False) -> list[Span]:
        """The windows in the pieces that are refreshed at once, in order of time.

        ``by_chunk``: each in one chunk of the source, for what holds of all of it or of nothing.
        """
        one = self.aggregate
        return [
            step
            for span in self.spans
            for step in cut(
                span,
                [chunk.start for chunk in one.chunks] if by_chunk else grid(span, one.chunk),
                one.buckets,
            )
        ]


def plan(
    aggregates: Sequence[Aggregate], now: datetime, asked: Mapping[str, Sequence[Span]]
) -> list[Windows]:
    """What to refresh, in order, for the times ``asked`` of the hypertables at the bottom.

    In ``aggregates`` sources come before what reads them.
    """
    made = windows(aggregates, now, asked)
    holes = [(each.aggregate.root, hole) for each in made for hole in each.holes]
    if not holes:
        return made
    # an aggregate whose hole is filled reads its source there, which must be right there as well
    return windows(
        aggregates,
        now,
        {
            root: [*spans, *(hole for its, hole in holes if its == root)]
            for root, spans in asked.items()
        },
    )


def windows(
    aggregates: Sequence[Aggregate], now: datetime, asked: Mapping[str, Sequence[Span]]
) -> list[Windows]:
    """The windows of each aggregate that has any, from the bottom up."""
    made: list[Windows] = []
    planned: dict[str, tuple[Span, ...]] = {}
    for aggregate in aggregates:
        wanted = asked.get(aggregate.root, ())
        below = planned.get(aggregate.source, ())
        if wanted and aggregate.held(below):
            made.append(windows_of(aggregate, below, wanted, now))
            planned[aggregate.name] = made[-1].spans
    return made


def windows_of(
    aggregate: Aggregate, planned: Sequence[Span], asked: Sequence[Span], now: datetime
) -> Windows:
    """The windows of one aggregate; ``planned`` are those of its source, if that is one too."""
    buckets, watermark = aggregate.buckets, aggregate.watermark
    held, allowed = aggregate.held(planned), aggregate.allowed(planned, now)
    wanted = [
        part
        for span in common(asked, [Span(held[0].start, held[-1].end)])
        for place in allowed
        for part in buckets.around(span).within(place)
    ]
    shown = watermark or buckets.floor(held[0].start)
    holes = [Span(shown, part.start) for part in wanted if part.start > shown]
    inside = [
        part for span in held for place in allowed for part in buckets.around(span).within(place)
    ]
    return Windows(
        aggregate=aggregate,
        spans=tuple(common(merged([*wanted, *holes]), merged(inside))),
        holes=tuple(holes),
        lost=tuple(common(asked, aggregate.erasable(planned))),
    )


def grid(span: Span, chunk: timedelta) -> Iterator[datetime]:
    """Points within a span, some chunks apart, that depend on nothing else."""
    every = CHUNKS_A_STEP * chunk
    point = span.start - (span.start - ORIGIN) % every + every
    while point < span.end:
        yield point
        point += every


def cut(span: Span, points: Iterable[datetime], buckets: Buckets) -> list[Span]:
    """The span in pieces, cut at these points in order: where the buckets begin that hold them."""
    edges = [span.start]
    for point in points:
        if edges[-1] < (edge := buckets.floor(point)) < span.end:
            edges.append(edge)
    return [Span(*pair) for pair in zip(edges, [*edges[1:], span.end], strict=True)]


def behind(aggregates: Iterable[Aggregate]) -> dict[str, list[Span]]:
    """All times that were passed over, by the name of the hypertable at the bottom."""
    found: dict[str, list[Span]] = {}
    for aggregate in aggregates:
        if aggregate.unmade:
            found[aggregate.root] = merged([*found.get(aggregate.root, ()), *aggregate.unmade])
    return found
