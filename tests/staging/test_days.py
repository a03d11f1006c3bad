"""Which days are over, and which are about to be dropped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ravenwh.staging.days import GRACE, closed_days, day_of, expiring_days

DAY = timedelta(days=1)
MAY = datetime(2024, 5, 1, tzinfo=UTC)


def test_a_day_is_that_of_utc() -> None:
    east = timezone(timedelta(hours=8))
    assert day_of(datetime(2024, 5, 2, 7, 59, tzinfo=east)) == MAY
    assert day_of(datetime(2024, 5, 2, 8, tzinfo=east)) == MAY + DAY


@pytest.mark.parametrize(
    ("now", "days"),
    [
        (MAY + DAY + GRACE - timedelta(microseconds=1), []),
        (MAY + DAY + GRACE, [MAY]),
        (MAY + 3 * DAY, [MAY, MAY + DAY]),
        (MAY + 3 * DAY + GRACE, [MAY, MAY + DAY, MAY + 2 * DAY]),
        (MAY - 9 * DAY, []),
    ],
)
def test_a_day_is_over_an_hour_after_its_end(now: datetime, days: list[datetime]) -> None:
    assert closed_days(now, MAY + timedelta(hours=5)) == days


def test_days_are_near_their_end_two_days_before_it() -> None:
    now = MAY + 30 * DAY
    assert expiring_days(now, 30) == [MAY, MAY + DAY, MAY + 2 * DAY]
    assert expiring_days(now + timedelta(hours=5), 30) == [MAY, MAY + DAY, MAY + 2 * DAY]
    assert expiring_days(now, 0) == []


def test_where_days_are_kept_shortly_each_is_near_its_end_once_it_is_over() -> None:
    now = MAY + 3 * DAY + 2 * GRACE
    assert expiring_days(now, 1) == [MAY + 2 * DAY]
    assert expiring_days(now, 2) == [MAY + DAY, MAY + 2 * DAY]
