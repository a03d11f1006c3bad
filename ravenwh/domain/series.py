"""A series, and a half-open range of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs

from ravenwh.domain.errors import Refused

__all__ = ["EARLIEST_NS", "LATEST_NS", "Series", "TimeRange", "from_ns", "to_ns"]

EARLIEST_NS = 1_230_768_000_000_000_000  # 2009-01-01: before it, a time is in another unit
LATEST_NS = 4_102_444_800_000_000_000  # 2100-01-01
"""Between which times of trades, klines and bars are taken as such."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_ns(at: datetime) -> int:
    """Nanoseconds since 1970-01-01 UTC of an aware time; exact. Raises Refused if naive."""
    return (_in_utc(at) - _EPOCH) // _MICROSECOND * 1000


def from_ns(ns: int) -> datetime:
    """The time of a count of nanoseconds since 1970, in UTC; what is below 1 µs is cut off.

    Raises Refused beyond the years 1 to 9999.
    """
    try:
        return _EPOCH + timedelta(microseconds=ns // 1000)
    except OverflowError:
        raise Refused(
            f"{ns} ns since 1970 is no time of the years 1 to 9999; is it in another unit?"
        ) from None


def _in_utc(at: datetime) -> datetime:
    if at.utcoffset() is None:
        raise Refused(
            f"{at.isoformat()} has no time zone; give an aware time, as in"
            f" {at.replace(tzinfo=UTC).isoformat()} for UTC"
        )
    return at.astimezone(UTC)


@attrs.frozen(kw_only=True)
class Series:
    """What a kline belongs to. ``exchange`` is venue and market, ``interval`` a code or profile."""

    coin: str
    quote: str
    exchange: str
    interval: str

    def __str__(self) -> str:
        return f"{self.coin}/{self.quote} {self.exchange} {self.interval}"


@attrs.frozen(kw_only=True)
class TimeRange:
    """The times from ``start`` on and before ``end``, in UTC; empty where the two are equal.

    Aware times of any zone are taken, and kept in UTC. Raises Refused for a naive time and for an
    end before the start.
    """

    start: datetime = attrs.field(converter=_in_utc)
    end: datetime = attrs.field(converter=_in_utc)

    def __attrs_post_init__(self) -> None:
        if self.end < self.start:
            raise Refused(
                f"the end {self.end.isoformat()} lies before the start {self.start.isoformat()}"
            )

    @classmethod
    def of_ns(cls, start: int, end: int) -> TimeRange:
        """The range between two counts of nanoseconds since 1970, each cut to the microsecond."""
        return cls(start=from_ns(start), end=from_ns(end))

    @property
    def start_ns(self) -> int:
        """The first instant, in nanoseconds since 1970."""
        return to_ns(self.start)

    @property
    def end_ns(self) -> int:
        """The first instant after the range, in nanoseconds since 1970."""
        return to_ns(self.end)

    @property
    def duration(self) -> timedelta:
        """How long it is."""
        return self.end - self.start

    def __bool__(self) -> bool:
        return self.start < self.end

    def __contains__(self, at: datetime | int) -> bool:
        """Whether an aware time, or a count of nanoseconds since 1970, lies in the range."""
        ns = at if isinstance(at, int) else to_ns(at)
        return self.start_ns <= ns < self.end_ns

    def __str__(self) -> str:
        return f"[{self.start.isoformat()}, {self.end.isoformat()})"
