"""Intervals as PostgreSQL counts them: months, days and time are three things."""

from __future__ import annotations

import re
from datetime import timedelta

import attrs

__all__ = ["Interval", "interval_text", "same_interval"]

SECOND = 1_000_000
DAY = 24 * 3600 * SECOND
UNITS = {
    "microsecond": (0, 0, 1),
    "millisecond": (0, 0, 1000),
    "second": (0, 0, SECOND),
    "sec": (0, 0, SECOND),
    "minute": (0, 0, 60 * SECOND),
    "min": (0, 0, 60 * SECOND),
    "hour": (0, 0, 3600 * SECOND),
    "day": (0, 1, 0),
    "week": (0, 7, 0),
    "month": (1, 0, 0),
    "mon": (1, 0, 0),
    "year": (12, 0, 0),
}
PART = re.compile(
    r"\s*(?:(?P<count>\d+)\s*(?P<unit>[a-z]+)"
    r"|(?P<hours>\d+):(?P<minutes>\d\d)(?::(?P<seconds>\d\d)(?:\.(?P<fraction>\d{1,6}))?)?)\s*"
)


@attrs.frozen(kw_only=True)
class Interval:
    """A length of time that is not negative, in the three counts that PostgreSQL keeps apart."""

    months: int = 0
    days: int = 0
    microseconds: int = 0

    @classmethod
    def parse(cls, text: str) -> Interval:
        """From ``7 days``, ``1 day 02:00:00``, ``00:05:00``. Raises ValueError for other texts."""
        months = days = microseconds = at = 0
        lower = text.lower()
        while match := PART.match(lower, at):
            at = match.end()
            if match["unit"]:
                unit = UNITS.get(match["unit"]) or UNITS.get(match["unit"].removesuffix("s"))
                if unit is None:
                    break
                count = int(match["count"])
                months += count * unit[0]
                days += count * unit[1]
                microseconds += count * unit[2]
            else:
                clock = int(match["hours"]) * 3600 + int(match["minutes"]) * 60
                microseconds += (clock + int(match["seconds"] or 0)) * SECOND
                microseconds += int((match["fraction"] or "0").ljust(6, "0"))
            if at == len(lower):
                return cls(months=months, days=days, microseconds=microseconds)
        raise ValueError(f"{text!r} is no interval: write it as '7 days', '1 month' or '00:05:00'")

    @property
    def span(self) -> int:
        """Microseconds, a month taken as 30 days: what PostgreSQL compares intervals by."""
        return (self.months * 30 + self.days) * DAY + self.microseconds

    def __str__(self) -> str:
        if self.months:
            counts = [(self.months // 12, "year"), (self.months % 12, "month")]
            rest = self.days * DAY + self.microseconds
        else:
            counts, rest = [], self.span
        for size, unit in ((DAY, "day"), (3600 * SECOND, "hour"), (60 * SECOND, "minute")):
            counts.append((rest // size, unit))
            rest %= size
        if rest % SECOND:
            counts.append((rest, "microsecond"))
        else:
            counts.append((rest // SECOND, "second"))
        told = [f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in counts if count]
        return " ".join(told) or "0 seconds"

    def can_be_built_from(self, smaller: Interval) -> bool:
        """Whether buckets of this width are unions of whole buckets of the smaller width."""
        if self.months and smaller.months:
            return self.months % smaller.months == 0
        if smaller.months or not smaller.span:
            return False
        if self.months:
            return DAY % smaller.span == 0
        return self.span % smaller.span == 0


def interval_text(value: str | timedelta) -> str:
    """The text of an interval, as it was written if it was a text. Raises ValueError."""
    if isinstance(value, timedelta):
        if value < timedelta(0):
            raise ValueError(f"{value} is negative")
        return str(
            Interval(days=value.days, microseconds=value.seconds * SECOND + value.microseconds)
        )
    Interval.parse(value)
    return value


def same_interval(one: str | None, other: str | None) -> bool:
    """Whether two texts mean the same interval; None is the same as None only."""
    if one is None or other is None:
        return one is other
    return Interval.parse(one).span == Interval.parse(other).span
