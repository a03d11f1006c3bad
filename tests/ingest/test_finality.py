"""Which versions of a kline are final, and when."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.domain.version import version_of
from ravenwh.ingest import Finality, finality
from ravenwh.ports import Frame
from ravenwh.warehouse import fact_batch
from ravenwh.warehouse.rows import kline_values
from tests.warehouse.conftest import MINUTE, START, candle

GRACE = 5_000_000_000
FRAME = Frame("f", b"", b"", b"", START)


class Fed:
    """A finality that is fed versions by number, and tells the closes that came out."""

    def __init__(self) -> None:
        self.finality = Finality(grace_ns=GRACE)
        self.number = 0

    def offer(
        self, minute: int, *, closed: bool, at_s: float = 0.0, **changes: object
    ) -> list[int]:
        self.number += 1
        version = candle(
            minute,
            closed=closed,
            event_time=START + minute * MINUTE + int(at_s * 1e9),
            close=100.0 + self.number / 100,
            **changes,
        )
        final, self.replaced = self.finality.offer((self.number, FRAME), version)
        return [entry[0] for entry, _ in final]

    def passed(self) -> list[int]:
        return [entry[0] for entry, _ in self.finality.passed()]


def test_a_closed_version_is_final_at_once() -> None:
    assert Fed().offer(0, closed=True) == [1]


def test_an_open_version_is_held_and_replaced_by_a_later_one() -> None:
    fed = Fed()
    assert fed.offer(0, closed=False, at_s=10) == []
    assert fed.offer(0, closed=False, at_s=20) == []
    assert fed.replaced == 1
    assert [seq for seq, _ in fed.finality.held()] == [2]
    assert fed.offer(0, closed=False, at_s=15) == []  # late: the later one stays
    assert [seq for seq, _ in fed.finality.held()] == [2]
    assert fed.offer(0, closed=True, at_s=61) == [4]
    assert len(fed.finality) == 0


def test_a_later_open_time_makes_the_held_one_final() -> None:
    fed = Fed()
    fed.offer(0, closed=False, at_s=59)
    assert fed.offer(1, closed=False, at_s=1) == [1]
    assert fed.offer(2, closed=True, at_s=61) == [2, 3]


def test_another_series_does_not() -> None:
    fed = Fed()
    fed.offer(0, closed=False)
    assert fed.offer(1, closed=False, symbol="ETHUSDT") == []
    assert fed.offer(5, closed=False, interval="5m") == []
    assert fed.offer(1, closed=False, venue="BINANCE_FUTURES") == []
    assert len(fed.finality) == 4


def test_history_is_final_at_once_even_newest_first() -> None:
    fed = Fed()
    assert fed.offer(9, closed=False, at_s=5) == []
    assert [fed.offer(minute, closed=False) for minute in (8, 7, 6)] == [[2], [3], [4]]
    assert fed.offer(10, closed=True, at_s=61) == [1, 5]
    assert fed.offer(5, closed=False) == [6]  # nothing is held, and it is older than the newest


@pytest.mark.parametrize(("late_s", "final"), [(59, []), (64.9, []), (65.1, [1])])
def test_the_clock_of_the_venue_makes_it_final(late_s: float, final: list[int]) -> None:
    fed = Fed()
    fed.offer(0, closed=False, at_s=30)
    fed.offer(0, closed=False, symbol="ETHUSDT", at_s=late_s)
    fed.offer(3, closed=True, venue="OKX_SPOT", symbol="BTC-USDT", at_s=600)  # another clock
    passed = fed.passed()
    assert [seq for seq in passed if seq == 1] == final


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 59)), min_size=1, max_size=40
    )
)
def test_every_version_is_final_held_or_replaced(versions: list[tuple[int, bool, int]]) -> None:
    finality = Finality(grace_ns=GRACE)
    final: list[Candle] = []
    replaced = 0
    for number, (minute, closed, at_s) in enumerate(versions):
        one = candle(minute, closed=closed, event_time=START + minute * MINUTE + at_s * 10**9)
        out, gone = finality.offer((number, FRAME), one)
        final += [version for _, version in out]
        replaced += gone
    assert len(final) + len(finality) + replaced == len(versions)
    newest = max(minute for minute, _, _ in versions)
    seen = {one.open_time for one in final}
    assert {START + minute * MINUTE for minute, _, _ in versions} - seen <= {
        START + newest * MINUTE
    }


DAY_S = 86_400


@pytest.mark.parametrize("changes", [{"at_s": 3 * DAY_S}, {"open_time": START + 10**17}])
def test_a_time_in_the_far_future_goes_on_and_moves_no_clock(changes: dict[str, Any]) -> None:
    fed = Fed()
    fed.offer(1, closed=False, at_s=10)
    assert fed.offer(1, closed=False, **changes) == [2]
    assert fed.passed() == []
    assert fed.offer(1, closed=False, at_s=20) == []  # neither final nor replaced by the wrong one
    assert fed.offer(1, closed=True, at_s=60) == [4]
    assert fed.offer(2, closed=False, symbol="ETHUSDT", at_s=1) == []
    assert fed.passed() == []


def test_a_clock_that_is_ahead_by_seconds_counts() -> None:
    fed = Fed()
    fed.offer(0, closed=False, at_s=30)
    fed.offer(0, closed=False, symbol="ETHUSDT", at_s=90)
    assert fed.passed() == [1, 2]


@pytest.mark.parametrize("late_s", [59, 61])
def test_a_closed_version_goes_before_open_ones_in_both_orders(late_s: float) -> None:
    fed = Fed()
    assert fed.offer(0, closed=False, at_s=late_s) == []
    assert fed.offer(0, closed=True, at_s=60) == [2]
    fed = Fed()
    assert fed.offer(0, closed=True, at_s=60) == [1]
    assert fed.offer(0, closed=False, at_s=late_s) == []
    assert (fed.replaced, len(fed.finality)) == (1, 0)
    assert fed.offer(1, closed=True, at_s=60) == [3]


NUMBERS = st.sampled_from([1.0, 2.0])
VERSIONS = st.builds(
    candle,
    closed=st.booleans(),
    event_time=st.integers(START, START + 2),
    close=st.sampled_from([100.0, 101.0]),
    volume=NUMBERS,
    quote_volume=st.none() | NUMBERS,
    trade_count=st.none() | st.integers(0, 1),
    taker_buy_volume=st.none() | NUMBERS,
    taker_buy_quote_volume=st.none() | NUMBERS,
)


def value_in_table(versions: list[Candle]) -> tuple[Any, ...]:
    """What the table holds of the first kline after these versions and the next kline's."""
    one = Finality(grace_ns=GRACE)
    sent: list[Candle] = []
    for number, version in enumerate([*versions, candle(1)]):
        sent += [final for _, final in one.offer((number, FRAME), version)[0]]
    return max(
        (row(version) for version in sent if version.open_time == START), key=fact_batch.version_of
    )


def row(version: Candle) -> tuple[Any, ...]:
    return kline_values(version, Register().series_instrument(version.venue, version.symbol))


@given(
    st.lists(VERSIONS, min_size=1, max_size=6).flatmap(
        lambda versions: st.tuples(st.just(versions), st.permutations(versions))
    )
)
def test_the_order_of_the_versions_of_a_kline_does_not_matter(
    orders: tuple[list[Candle], list[Candle]],
) -> None:
    first, second = orders
    assert value_in_table(first) == value_in_table(second)


@given(VERSIONS, VERSIONS)
def test_versions_are_ordered_as_the_table_orders_them(one: Candle, other: Candle) -> None:
    assert (version_of(one) > version_of(other)) == (
        fact_batch.version_of(row(one)) > fact_batch.version_of(row(other))
    )


def test_the_streams_are_bounded_and_no_held_kline_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finality, "REMEMBERED", 10)
    fed = Fed()
    out = [fed.offer(0, closed=False, symbol=f"S{n}", venue=f"V{n}") for n in range(25)]
    assert out == [[]] * 10 + [[n] for n in range(1, 16)]  # those that waited longest
    assert [seq for seq, _ in fed.finality.held()] == list(range(16, 26))
    fed.offer(0, closed=True, symbol="S24", venue="V24")
    one = fed.finality
    assert 0 < len(one._newest) <= 10
    assert 0 < len(one._closed) <= 10
    assert 0 < len(one._clock) <= 10
