"""The bounds of a read, as people write them."""

from __future__ import annotations

from datetime import UTC, date, datetime

from ravenwh.domain.errors import Refused

__all__ = ["When", "bound"]

When = str | date | datetime | None

ALLOWED = (
    "give ISO 8601 text such as 2024-01-31 or 2024-01-31T12:00:00Z, a date, or an aware datetime"
)


def bound(when: When, name: str) -> datetime | None:
    """A bound of a range as an aware UTC time; ``name`` is what it is called in messages.

    Text, dates and ``numpy.datetime64`` are UTC where they name no zone; what is below 1 µs is cut
    off. Raises Refused for what is no time.
    """
    if when is None:
        return None
    given: object = when
    if type(given).__name__ == "datetime64":  # numpy's has no zone by design, and is UTC
        given = str(given)
    try:
        if isinstance(given, str):
            parsed = datetime.fromisoformat(given)
            given = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed
        elif isinstance(given, date) and not isinstance(given, datetime):
            given = datetime(given.year, given.month, given.day, tzinfo=UTC)
        if isinstance(given, datetime) and given == given:  # pandas.NaT is not
            return _in_utc(given, name)
    except (ValueError, OverflowError) as error:
        raise Refused(f"{name} {when!r} is no time: {ALLOWED}") from error
    raise Refused(f"{name} {when!r} is no time: {ALLOWED}")


def _in_utc(at: datetime, name: str) -> datetime:
    if at.utcoffset() is None:
        raise Refused(
            f"{name} {at.isoformat()} has no time zone: add one, such as tzinfo=datetime.UTC"
        )
    utc = at.astimezone(UTC)  # of pandas too, whose times are datetimes with nanoseconds
    return datetime.combine(utc.date(), utc.time(), tzinfo=UTC)
