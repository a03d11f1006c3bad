"""Trades that are none, that come again, that come late: passed over or taken, and counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ravenwh.domain.messages import Trade
from ravenwh.domain.series import EARLIEST_NS, LATEST_NS
from ravenwh.features import Bar, Chain, TickRun
from ravenwh.features.sieve import REMEMBERED
from tests.features.streams import MS, START, extended, pushed, trade

PROFILE = TickRun(expected_ticks=3, span=1, least=1, most=1)
"""Of trades that are all bought, three are a bar."""

Take = Callable[[Chain, list[Trade]], list[Bar]]
each_way = pytest.mark.parametrize("take", [pushed, extended])


@each_way
@pytest.mark.parametrize(
    "none",
    [
        pytest.param({"quantity": 0.0}, id="zero size"),
        pytest.param({"quantity": -0.0}, id="minus zero size"),
        pytest.param({"quantity": -1.0}, id="negative size"),
        pytest.param({"quantity": float("nan")}, id="NaN size"),
        pytest.param({"quantity": float("inf")}, id="infinite size"),
        pytest.param({"quantity": 1.1e18}, id="size that sums cannot hold"),
        pytest.param({"price": 0.0}, id="zero price"),
        pytest.param({"price": -5.0}, id="negative price"),
        pytest.param({"price": float("nan")}, id="NaN price"),
        pytest.param({"price": float("-inf")}, id="infinite price"),
        pytest.param({"price": 1.1e18}, id="price that squares cannot hold"),
        pytest.param({"at_ms": (EARLIEST_NS - START) // MS - 1}, id="time in milliseconds"),
        pytest.param({"at_ms": (LATEST_NS - START) // MS + 1}, id="time of another unit"),
    ],
)
def test_what_is_no_trade_is_passed_over_and_counted(take: Take, none: dict[str, float]) -> None:
    wrong = trade(**{"at_ms": 1, "trade_id": "1", **none})  # type: ignore[arg-type]  # by name
    chain, without = Chain(PROFILE), Chain(PROFILE)
    good = [trade(at, 100.0 + at, 2.0, trade_id=str(at)) for at in range(3)]
    bars = take(chain, [wrong, good[0], wrong, *good[1:], wrong])
    assert bars == take(without, good)
    assert len(bars) == 1
    assert chain.counts == {"passed": 3, "invalid": 3, "duplicate": 0, "late": 0}


@each_way
def test_an_id_that_came_is_passed_over_and_counted(take: Take) -> None:
    one, two, three = (trade(at, 100.0 + at, trade_id=str(at)) for at in range(3))
    chain = Chain(PROFILE)
    bars = take(chain, [one, one, two, one])
    bars += take(Chain.restored(PROFILE, chain.save()), [])
    bars += take(chain, [two, three, three])
    assert bars == take(Chain(PROFILE), [one, two, three])
    assert chain.counts == {"passed": 3, "invalid": 0, "duplicate": 4, "late": 0}


@each_way
def test_a_duplicate_is_known_after_a_restart(take: Take) -> None:
    one = trade(0, trade_id="a")
    chain = Chain(PROFILE)
    take(chain, [one])
    chain = Chain.restored(PROFILE, chain.save())
    take(chain, [one])
    assert chain.counts == {"passed": 1, "invalid": 0, "duplicate": 1, "late": 0}


@each_way
def test_equal_trades_without_ids_are_two(take: Take) -> None:
    chain = Chain(PROFILE)
    (bar,) = take(chain, [trade(0), trade(0), trade(0)])
    assert bar.volume == 3
    assert chain.counts == {"passed": 3, "invalid": 0, "duplicate": 0, "late": 0}


@each_way
def test_a_late_trade_counts_at_the_latest_time(take: Take) -> None:
    chain = Chain(PROFILE)
    bars = take(chain, [trade(10), trade(4, 90.0), trade(7), trade(8), trade(30), trade(9)])
    assert [(bar.open_time - START, bar.close_time - START) for bar in bars] == [
        (10 * MS, 10 * MS),
        (10 * MS, 30 * MS),
    ]
    assert [bar.bar_seq for bar in bars] == [0, 1]
    assert bars[0].low == 90.0
    assert chain.counts == {"passed": 6, "invalid": 0, "duplicate": 0, "late": 4}


@each_way
def test_as_many_ids_are_remembered_as_is_promised(take: Take) -> None:
    """And not all that ever came: memory and state are bounded."""
    chain = Chain(PROFILE)
    many = [trade(at, trade_id=f"{at:07}") for at in range(5 * REMEMBERED + 100)]
    take(chain, many)
    assert chain.counts["duplicate"] == 0
    take(chain, many[-REMEMBERED:])
    assert chain.counts["duplicate"] == REMEMBERED
    take(chain, many[: -2 * REMEMBERED][-1:])
    assert chain.counts["duplicate"] == REMEMBERED
    assert len(chain.save()) < 100_000


def test_extend_needs_no_ids() -> None:
    chain = Chain(PROFILE)
    trades = [trade(at, trade_id="same") for at in range(3)]
    bars = extended(chain, trades, with_ids=False)
    assert len(bars) == 1
    assert chain.counts["duplicate"] == 0
