"""What is stored against what was sent: what agrees, and that any difference is seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.app.agreement import (
    Agreement,
    Sent,
    bars_agree,
    hours_agree,
    hours_in,
    klines_agree,
)
from ravenwh.domain.register import Register
from ravenwh.domain.series import TimeRange
from ravenwh.features import Chain, TickImbalance, Vpin, to_candle
from ravenwh.schema import BARS, KLINES
from ravenwh.sources.simulator import SimulatedMarket
from ravenwh.warehouse.bar_sink import BarSink
from ravenwh.warehouse.read import Warehouse
from tests.warehouse.conftest import kline_sink

START = datetime(2024, 1, 1, tzinfo=UTC)
SPAN = TimeRange(start=START, end=START + timedelta(hours=2))
PROFILES = {
    "tib_x": TickImbalance(expected_ticks=100),
    "vpin_x": Vpin(bucket_volume=10.0, buckets=5),
}
OF_ETH = SimulatedMarket(symbol="ETHUSDT")


@pytest.fixture
async def sent(mart: AsyncEngine) -> Sent:
    """Two hours of a market, its klines, and the bars of its trades one by one."""
    sent, register = Sent(), Register()
    klines, trades = list(OF_ETH.klines("1m", SPAN)), list(OF_ETH.trades(SPAN))
    sent.note(register, [*klines, *trades])
    await kline_sink(mart, register).write(klines)
    for name, profile in PROFILES.items():
        chain = Chain(profile)
        bars = [bar for trade in trades if (bar := chain.push(trade)) is not None]
        await BarSink.into_all(mart, register).write(
            [
                to_candle(
                    bar,
                    profile=profile,
                    name=name,
                    venue=OF_ETH.venue,
                    symbol=OF_ETH.symbol,
                    producer="",
                )
                for bar in bars
            ]
        )
    return sent


@pytest.fixture
def wh(mart_url: str) -> Iterator[Warehouse]:
    with Warehouse(mart_url.replace("+asyncpg", "")) as warehouse:
        yield warehouse


Ask = Callable[[], Awaitable[list[Agreement]]]


@pytest.fixture
def ask(mart: AsyncEngine, wh: Warehouse, sent: Sent) -> Ask:
    async def agreements() -> list[Agreement]:
        return [
            klines_agree(wh, sent),
            hours_agree(await hours_in(mart), sent),
            bars_agree(wh, sent, PROFILES),
        ]

    return agreements


async def test_all_that_was_sent_and_nothing_else_agrees(ask: Ask) -> None:
    klines, hours, bars = await ask()
    assert all(one.holds for one in (klines, hours, bars))
    assert str(klines) == "sent 120 klines, stored 120, 0 with another value: they agree"
    assert str(hours).startswith("they make 2 klines of an hour, stored 2, 0 with another value")
    assert bars.expected == bars.stored > 50


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (sa.update(KLINES).values(close=KLINES.c.close * (1 + 1e-6)), (120, 2, 0)),
        (sa.update(KLINES).values(trade_count=None), (120, 2, 0)),
        (sa.update(BARS["tick_imbalance"]).values(theta=0.5), (0, 0, 1)),
        (sa.update(BARS["vpin"]).values(buy_volume=0.0), (0, 0, 1)),
    ],
)
async def test_another_value_is_seen(
    ask: Ask, mart: AsyncEngine, change: sa.Update, differs: tuple[int, int, int]
) -> None:
    async with mart.begin() as connection:
        await connection.execute(change)
    found = await ask()
    assert [one.holds for one in found] == [not count for count in differs]
    assert [one.different for one in found[:2]] == list(differs[:2])
    assert all(("THEY DO NOT AGREE" in str(one)) != one.holds for one in found)


async def test_a_row_that_is_missing_is_seen(ask: Ask, mart: AsyncEngine) -> None:
    async with mart.begin() as connection:
        for fact in (KLINES, BARS["vpin"]):
            first = sa.select(sa.func.min(fact.c.open_time)).scalar_subquery()
            await connection.execute(sa.delete(fact).where(fact.c.open_time == first))
    klines, hours, bars = await ask()
    assert (klines.stored, klines.different, klines.holds) == (119, 0, False)
    assert (hours.stored, hours.different, hours.holds) == (2, 1, False)
    assert (bars.expected - bars.stored, bars.different, bars.holds) == (1, 0, False)


async def test_a_row_that_nobody_sent_is_seen(ask: Ask, sent: Sent) -> None:
    (klines,) = sent.klines.values()
    del klines[next(iter(klines))]
    (trades,) = sent.trades.values()
    del trades[: len(trades) // 2]
    klines_, hours, bars = await ask()
    assert (klines_.expected, klines_.stored, klines_.different) == (119, 120, 1)
    assert not any(one.holds for one in (klines_, hours, bars))
