"""The days of a bucket: which are over, and which are about to go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ravenwh.domain.tick_day import DAY

__all__ = ["GRACE", "NEAR", "closed_days", "day_of", "expiring_days"]

GRACE = timedelta(hours=1)
"""How long after its end a day is left open for what comes late."""

NEAR = timedelta(days=2)
"""How long before its first point expires a day is near its end."""


def day_of(at: datetime) -> datetime:
    """The beginning of the day in UTC that a time lies in."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def closed_days(now: datetime, first: datetime) -> list[datetime]:
    """The days that are over, from that of ``first`` on, oldest first."""
    day, before = day_of(first), day_of(now - GRACE)
    return [day + i * DAY for i in range((before - day) // DAY)]


def expiring_days(now: datetime, retention_days: int) -> list[datetime]:
    """The days that are over, and of which points are dropped within :data:`NEAR`, oldest first.

    A bucket drops a day after ``retention_days`` more, or never, where that is 0.
    """
    if not retention_days:
        return []
    kept = timedelta(days=retention_days)
    return [day for day in closed_days(now, now - kept) if day + kept <= now + NEAR]
