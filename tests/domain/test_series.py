"""Series and half-open ranges of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravenwh.domain.errors import Refused
from ravenwh.domain.series import Series, TimeRange, from_ns, to_ns

START = datetime(2024, 1, 1, tzinfo=UTC)
END = datetime(2024, 1, 2, tzinfo=UTC)
DAY_NS = 86_400 * 10**9


def test_a_series_is_its_four_parts() -> None:
    one = Series(coin="BTC", quote="USDT", exchange="BINANCE_SPOT", interval="1m")
    assert one == Series(coin="BTC", quote="USDT", exchange="BINANCE_SPOT", interval="1m")
    assert one != Series(coin="BTC", quote="USDT", exchange="BINANCE_FUTURES", interval="1m")
    assert len({one, Series(coin="BTC", quote="USDT", exchange="BINANCE_SPOT", interval="5m")}) == 2
    assert str(one) == "BTC/USDT BINANCE_SPOT 1m"


def test_a_range_holds_its_start_and_not_its_end() -> None:
    day = TimeRange(start=START, end=END)
    assert START in day
    assert END not in day
    assert to_ns(END) - 1 in day
    assert to_ns(END) not in day
    assert to_ns(START) - 1 not in day
    assert (day.end_ns - day.start_ns, day.duration) == (DAY_NS, timedelta(days=1))
    assert TimeRange.of_ns(day.start_ns, day.end_ns) == day
    assert str(day) == "[2024-01-01T00:00:00+00:00, 2024-01-02T00:00:00+00:00)"


def test_an_empty_range_holds_nothing() -> None:
    empty = TimeRange(start=START, end=START)
    assert not empty
    assert START not in empty
    assert TimeRange(start=START, end=END)


def test_other_zones_are_kept_in_utc() -> None:
    seoul = timezone(timedelta(hours=9))
    day = TimeRange(start=datetime(2024, 1, 1, 9, tzinfo=seoul), end=END)
    assert (day.start, day.start.tzinfo) == (START, UTC)


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        (END, START, "lies before the start"),
        (START.replace(tzinfo=None), END, "has no time zone"),
        (START, END.replace(tzinfo=None), "has no time zone"),
    ],
)
def test_a_wrong_range_is_refused(start: datetime, end: datetime, text: str) -> None:
    with pytest.raises(Refused, match=text):
        TimeRange(start=start, end=end)


@pytest.mark.parametrize("ns", [10**21, -(10**21)])
def test_a_time_beyond_the_calendar_is_refused(ns: int) -> None:
    with pytest.raises(Refused, match="is no time of the years"):
        from_ns(ns)


def test_nanoseconds_below_the_microsecond_are_cut_off() -> None:
    assert from_ns(1_999) == datetime(1970, 1, 1, microsecond=1, tzinfo=UTC)
    assert from_ns(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_and_nanoseconds_are_the_same(at: datetime) -> None:
    assert from_ns(to_ns(at)) == at
    assert to_ns(at) % 1000 == 0
