"""Which versions of a kline are final, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravenwh.domain.messages import Candle
from ravenwh.ingest import Finality
from ravenwh.ports import Frame
from tests.warehouse.conftest import MINUTE, START, candle

GRACE = 5_000_000_000
FRAME = Frame("f", b"", b"", b"", 0)


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
