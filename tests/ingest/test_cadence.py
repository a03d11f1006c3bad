"""Gaps in the times of klines, on wires without numbers."""

from __future__ import annotations

import random

import attrs
import pytest

from ravenwh.ingest.cadence import Cadence
from ravenwh.ingest.sequences import NEVER
from ravenwh.ports import Frame, Gap, Position, Stream
from tests.warehouse.conftest import MINUTE, START, candle

TOPIC = b"BINANCE-candles-BTC-USDT"
STREAM = ("foreign", b"BINANCE_SPOT:CANDLE:BTCUSDT 1m")
GRACE = 90_000_000_000


def frame(received_at: int = START) -> Frame:
    return Frame("foreign", TOPIC, b"", b"", received_at)


@attrs.define
class Bench:
    """A cadence, and the gaps of its journal."""

    gaps: dict[int, Gap] = attrs.field(factory=dict)
    positions: dict[Stream, Position] = attrs.field(factory=dict)
    cadence: Cadence = attrs.field(init=False)
    _number: int = 0

    def __attrs_post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """What the next process goes on with."""
        self.cadence = Cadence(
            self.positions, [*self.gaps.items()], numbered=lambda frame: bool(frame.header)
        )

    def offer(self, *minutes: int, at: int = START) -> None:
        for minute in minutes:
            self.cadence.offer(frame(at), candle(minute))

    def settle(self, now: int = START) -> None:
        """Keep in the journal what is seen."""
        seen = self.cadence.seen(now, lambda: [*self.gaps.items()])
        assert self.cadence.seen(now, lambda: [*self.gaps.items()]) == seen  # until it is kept
        for gap in seen.gaps:
            self._number += 1
            self.gaps[self._number] = gap
        for number in seen.replaced:
            del self.gaps[number]
        self.positions |= seen.positions
        self.cadence.kept()

    @property
    def ranges(self) -> list[tuple[int, int, int | None]]:
        """First minute, minute after the last, how many, of the gaps in the journal."""
        return sorted(
            ((gap.start_time - START) // MINUTE, (gap.end_time - START) // MINUTE, gap.missing)
            for gap in self.gaps.values()
            if gap.start_time is not None and gap.end_time is not None
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_every_minute_there_is_no_gap(bench: Bench) -> None:
    bench.offer(0, 0, 1, 1, 2, 3)
    bench.settle()
    assert bench.positions == {STREAM: (0, START + 3 * MINUTE)}
    assert bench.gaps == {}


def test_what_was_jumped_over_is_a_gap(bench: Bench) -> None:
    bench.offer(0, 1, 4, 5, 8)
    bench.settle()
    assert bench.ranges == [(2, 4, 2), (6, 8, 2)]
    assert {(gap.feed, gap.topic) for gap in bench.gaps.values()} == {STREAM}
    bench.settle(START + 10 * GRACE)
    assert bench.ranges == [(2, 4, 2), (6, 8, 2)]


def test_history_that_comes_newest_first_is_no_gap(bench: Bench) -> None:
    bench.offer(0, 500, *range(499, 0, -1))
    bench.settle()
    assert bench.gaps == {}


def test_only_what_did_not_come_is_missing(bench: Bench) -> None:
    minutes = list(range(1, 200))
    random.Random(3).shuffle(minutes)
    bench.offer(0, 200, *(minute for minute in minutes if minute not in {7, 8, 90}))
    bench.settle()
    assert bench.ranges == [(7, 9, 2), (90, 91, 1)]


@pytest.mark.parametrize("restarts", [False, True])
def test_what_comes_late_is_taken_out_of_the_gap_also_by_the_next_process(
    bench: Bench, restarts: bool
) -> None:
    bench.offer(0, 10)
    bench.settle()
    for late, left in (
        ((1,), [(2, 10, 8)]),
        ((5,), [(2, 5, 3), (6, 10, 4)]),
        ((9, 2, 6), [(3, 5, 2), (7, 9, 2)]),
        ((3, 4, 7, 8), []),
    ):
        if restarts:
            bench.restart()
        bench.offer(*late)
        bench.settle(START + GRACE)
        assert bench.ranges == left


def test_what_comes_after_the_grace_leaves_the_gap_to_who_closes_it(bench: Bench) -> None:
    bench.offer(0, 10)
    bench.settle()
    bench.offer(11, 13, at=START + GRACE)
    bench.offer(5)
    bench.settle(START + GRACE + 1)
    assert bench.ranges == [(1, 10, 9), (12, 13, 1)]
    bench.gaps.clear()  # both are closed
    bench.offer(15, at=START + 3 * GRACE)
    bench.settle(START + 3 * GRACE)
    assert bench.ranges == [(14, 15, 1)]  # and none of them comes again


def test_very_many_holes_are_one_gap_that_counts_them(bench: Bench) -> None:
    bench.offer(*range(0, 400, 2))
    bench.settle()
    assert bench.ranges == [(1, 398, 199)]
    bench.offer(7, 11)
    bench.settle()
    assert bench.ranges == [(1, 398, 197)]


def test_processes_that_follow_each_other_lose_no_gap_and_count_none_twice(bench: Bench) -> None:
    rng = random.Random(5)
    came = {0}
    newest = 0
    for _ in range(300):
        newest += rng.choice((1,) * 20 + (2, 5))
        batch = [newest, *rng.sample(range(newest), min(newest, rng.randrange(3)))]
        came.update(batch)
        bench.offer(*batch)
        if rng.random() < 0.5:
            bench.settle()
        if rng.random() < 0.2:
            bench.settle()
            bench.restart()
    bench.settle()
    missing = set(range(min(came), newest)) - came
    found = [m for low, high, _ in bench.ranges for m in range(low, high)]
    assert len(missing) > 10
    assert sorted(found) == sorted(missing)


def test_an_earlier_run_is_gone_on_from() -> None:
    bench = Bench(positions={STREAM: (0, START)})
    bench.offer(31)
    bench.settle()
    assert bench.ranges == [(1, 31, 30)]


def test_what_was_called_off_is_not_missed_when_it_is_wanted_again(bench: Bench) -> None:
    bench.offer(0, 1)
    bench.settle()
    bench.cadence.forget(lambda stream: stream == STREAM)
    bench.offer(500, 502)
    bench.settle()
    assert bench.ranges == [(501, 502, 1)]
    again = Bench(positions={STREAM: NEVER})
    again.offer(700)
    again.settle()
    assert again.gaps == {}


def test_frames_with_numbers_and_unknown_intervals_are_passed_over(bench: Bench) -> None:
    numbered = Frame("main", TOPIC, b"x" * 16, b"", START)
    bench.cadence.offer(numbered, candle(0))
    bench.cadence.offer(numbered, candle(9))
    bench.cadence.offer(frame(), candle(0, interval="1M"))
    bench.settle()
    assert (bench.positions, bench.gaps) == ({}, {})


def test_a_time_that_is_none_makes_nobody_deaf_to_the_true_ones(bench: Bench) -> None:
    bench.offer(0, 100_000_000, -10_000_000, 3)
    bench.settle()
    assert bench.ranges == [(1, 3, 2)]


def test_symbols_that_share_a_topic_are_told_apart(bench: Bench) -> None:
    bench.cadence.offer(frame(), candle(0))
    bench.cadence.offer(frame(), candle(5, symbol="ETHUSDT"))
    bench.settle()
    assert bench.gaps == {}


def test_a_far_jump_is_one_gap(bench: Bench) -> None:
    bench.offer(0)
    bench.offer(10_000_000, at=START + 10_000_000 * MINUTE)
    bench.settle()
    assert bench.ranges == [(1, 10_000_000, 9_999_999)]
