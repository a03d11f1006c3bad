"""The codes of kline intervals."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravenwh.domain.errors import Rejected
from ravenwh.domain.interval import INTERVALS, parse_interval

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def test_every_code_is_its_number_of_units() -> None:
    assert list(INTERVALS) == (
        "1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w".split()  # noqa: SIM905
    )
    for code in INTERVALS:
        interval = parse_interval(code)
        assert interval.duration == timedelta(seconds=int(code[:-1]) * UNITS[code[-1]])
        assert interval.duration_ns == int(code[:-1]) * UNITS[code[-1]] * 10**9
        assert str(interval) == code
    durations = [interval.duration for interval in INTERVALS.values()]
    assert durations == sorted(set(durations))


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("1M", "a month has no fixed length"),
        ("1mo", "a month has no fixed length"),
        ("1H", "did you mean 1h"),
        (" 1m", "did you mean 1m"),
        ("kline_1m", "a code is a number and a unit"),
        ("7m", "a code is a number and a unit"),
        ("15min", "did you mean 15m"),
        ("60", "a code is a number and a unit"),
        ("", "a code is a number and a unit"),
        ("x" * 10_000, "a code is a number and a unit"),
    ],
)
def test_an_unknown_code_names_the_nearest(code: str, hint: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_interval(code)
    assert caught.value.code == "UNKNOWN_INTERVAL"
    assert hint in str(caught.value)
    assert "allowed: 1s, 1m" in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.text())
def test_any_text_is_an_interval_or_rejected(code: str) -> None:
    try:
        assert parse_interval(code).code == code
    except Rejected as error:
        assert error.code == "UNKNOWN_INTERVAL"  # noqa: PT017
