"""Gaps in the times of klines, on wires without numbers."""

from __future__ import annotations

import random

import pytest

from ravenwh.ingest.cadence import Cadence
from ravenwh.ports import Frame, Gap, Position, Stream
from tests.warehouse.conftest import MINUTE, START, candle

TOPIC = b"BINANCE-candles-BTC-USDT"
STREAM = ("foreign", b"BINANCE_SPOT:CANDLE:BTCUSDT 1m")
GRACE = 90_000_000_000


def frame(received_at: int = START) -> Frame:
    return Frame("foreign", TOPIC, b"", b"", received_at)


@pytest.fixture
def cadence() -> Cadence:
    return Cadence({}, numbered=lambda frame: bool(frame.header))


def offered(cadence: Cadence, *minutes: int) -> None:
    for minute in minutes:
        cadence.offer(frame(), candle(minute))


def taken(cadence: Cadence, now: int) -> tuple[dict[Stream, Position], list[Gap]]:
    seen = cadence.seen(now)
    assert cadence.seen(now) == seen  # told again where it could not be kept
    cadence.kept()
    return seen


def ranges(gaps: list[Gap]) -> list[tuple[int, int, int | None]]:
    """First minute, minute after the last, how many."""
    found = []
    for gap in gaps:
        assert gap.start_time is not None
        assert gap.end_time is not None
        found.append(
            ((gap.start_time - START) // MINUTE, (gap.end_time - START) // MINUTE, gap.missing)
        )
    return found


def test_every_minute_there_is_no_gap(cadence: Cadence) -> None:
    offered(cadence, 0, 0, 1, 1, 2, 3)
    positions, gaps = taken(cadence, START + 10 * GRACE)
    assert positions == {STREAM: (0, START + 3 * MINUTE)}
    assert gaps == []


def test_what_was_jumped_over_is_a_gap_after_the_grace(cadence: Cadence) -> None:
    offered(cadence, 0, 1, 4, 5, 8)
    assert taken(cadence, START + GRACE)[1] == []
    positions, gaps = taken(cadence, START + GRACE + 1)
    assert ranges(gaps) == [(2, 4, 2), (6, 8, 2)]
    assert {gap.topic for gap in gaps} == {STREAM[1]}
    assert positions == {}
    assert taken(cadence, START + 10 * GRACE) == ({}, [])  # told once


def test_history_that_comes_newest_first_is_no_gap(cadence: Cadence) -> None:
    offered(cadence, 0, 500, *range(499, 0, -1))
    assert taken(cadence, START + 10 * GRACE)[1] == []


def test_only_what_did_not_come_is_missing(cadence: Cadence) -> None:
    minutes = list(range(1, 200))
    random.Random(3).shuffle(minutes)
    offered(cadence, 0, 200, *(minute for minute in minutes if minute not in {7, 8, 90}))
    assert ranges(taken(cadence, START + 10 * GRACE)[1]) == [(7, 9, 2), (90, 91, 1)]


def test_an_earlier_run_is_gone_on_from() -> None:
    cadence = Cadence({STREAM: (0, START)}, numbered=lambda frame: False)
    offered(cadence, 31)
    assert ranges(taken(cadence, START + 10 * GRACE)[1]) == [(1, 31, 30)]


def test_frames_with_numbers_and_unknown_intervals_are_passed_over(cadence: Cadence) -> None:
    numbered = Frame("main", TOPIC, b"x" * 16, b"", START)
    cadence.offer(numbered, candle(0))
    cadence.offer(numbered, candle(9))
    cadence.offer(frame(), candle(0, interval="1M"))
    assert taken(cadence, START + 10 * GRACE) == ({}, [])


def test_symbols_that_share_a_topic_are_told_apart(cadence: Cadence) -> None:
    cadence.offer(frame(), candle(0))
    cadence.offer(frame(), candle(5, symbol="ETHUSDT"))
    assert taken(cadence, START + 10 * GRACE)[1] == []


def test_a_far_jump_holds_a_bounded_number_of_times(cadence: Cadence) -> None:
    offered(cadence, 0, 10_000_000)
    (at_once,) = taken(cadence, START)[1]
    (waited_for,) = taken(cadence, START + 10 * GRACE)[1]
    assert (at_once.missing, waited_for.missing) == (9_999_999 - 65_536, 65_536)
    assert at_once.end_time == waited_for.start_time
