"""Times from one to another, and the edges of buckets: arithmetic, without a database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import attrs

from ravenwh.timescale.interval import Interval

__all__ = ["BEGINNING", "FOREVER", "ORIGIN", "Buckets", "Span", "common", "duration", "merged"]

BEGINNING = datetime.min.replace(tzinfo=UTC)
FOREVER = datetime.max.replace(tzinfo=UTC)
ORIGIN = datetime(2000, 1, 3, tzinfo=UTC)
"""Where TimescaleDB counts buckets from, a Monday; those of months begin with the months."""


@attrs.frozen(order=True)
class Span:
    """Times from ``start`` to before ``end``, both with a zone; everything where none is given."""

    start: datetime = BEGINNING
    end: datetime = FOREVER

    def within(self, other: Span) -> Iterator[Span]:
        """What both have in common: one span, or none."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        if start < end:
            yield Span(start, end)


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same times in as few spans as can be, in order."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def common(some: Iterable[Span], others: Sequence[Span]) -> list[Span]:
    """The times that both have."""
    return merged(part for span in some for other in others for part in span.within(other))


def duration(interval: Interval) -> timedelta:
    """The length of an interval, a month taken as 30 days."""
    return timedelta(microseconds=interval.span)


@attrs.frozen
class Buckets:
    """The edges of the buckets of ``time_bucket(width, time)``, in UTC."""

    width: Interval

    def floor(self, at: datetime) -> datetime:
        """The start of the bucket that a time falls in."""
        if not self.width.months:
            return at - (at - ORIGIN) % duration(self.width)
        months = (at.year - 2000) * 12 + at.month - 1
        return month(months - months % self.width.months)

    def after(self, start: datetime) -> datetime:
        """The start of the bucket that follows the one with this start."""
        if not self.width.months:
            return start + duration(self.width)
        return month((start.year - 2000) * 12 + start.month - 1 + self.width.months)

    def ceil(self, at: datetime) -> datetime:
        """The first edge that is not before a time."""
        start = self.floor(at)
        return start if start == at else self.after(start)

    def around(self, span: Span) -> Span:
        """The buckets that a span touches."""
        return Span(self.floor(span.start), self.ceil(span.end))


def month(count: int) -> datetime:
    """The start of a month, counted from that of January 2000."""
    return datetime(2000 + count // 12, count % 12 + 1, 1, tzinfo=UTC)
