"""Seeding: adds, brings back, and soft-deletes only what the settings named and forgot."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.errors import Refused
from ravenwh.domain.instrument import Contract, Instrument
from ravenwh.domain.messages import Candle
from ravenwh.domain.seed import Seed
from ravenwh.schema import DIMENSIONS, SYMBOLS
from ravenwh.warehouse.seed import Plan, Pruning, seed
from ravenwh.warehouse.write import FactSink
from tests.warehouse.conftest import candle

COINS = DIMENSIONS[0].table


def instrument(coin: str, **changes: Any) -> Instrument:
    values: dict[str, Any] = {
        "exchange": "BINANCE_SPOT",
        "symbol": f"{coin}USDT",
        "coin": coin,
        "quote": "USDT",
        "contract": Contract.SPOT,
    }
    return Instrument(**values | changes)


def wanted(*coins: str) -> Seed:
    return Seed(
        exchanges=frozenset({"BINANCE_FUTURES"}),
        intervals={"1m": timedelta(minutes=1)},
        instruments=tuple(map(instrument, coins)),
    )


async def coins(engine: AsyncEngine) -> dict[str, bool]:
    """Every coin, and whether it is soft-deleted."""
    async with engine.connect() as connection:
        found = await connection.execute(sa.select(COINS.c.coin, COINS.c.is_deleted))
        return {row.coin: row.is_deleted for row in found}


def by_dimension(plans: list[Plan]) -> dict[str, Plan]:
    return {plan.dimension: plan for plan in plans}


async def test_the_first_run_adds_and_the_second_finds_everything(mart: AsyncEngine) -> None:
    first = by_dimension(await seed(mart, wanted("BTC", "ETH"), pruning=Pruning()))
    assert first["coin"].added == ("BTC", "ETH")
    assert first["quote"].added == ("USDT",)
    assert first["exchange"].added == ("BINANCE_FUTURES", "BINANCE_SPOT")
    assert first["interval"].added == ("1m",)
    assert first["symbol"].added == ("BINANCE_SPOT:BTCUSDT", "BINANCE_SPOT:ETHUSDT")
    second = await seed(mart, wanted("BTC", "ETH"), pruning=Pruning())
    for plan in second:
        assert plan == Plan(dimension=plan.dimension, existing=plan.existing)
        assert plan.existing


async def test_what_left_the_settings_is_soft_deleted_and_comes_back(mart: AsyncEngine) -> None:
    await seed(mart, wanted("BTC", "ETH"), pruning=Pruning())
    gone = by_dimension(await seed(mart, wanted("BTC"), pruning=Pruning()))
    assert gone["coin"].soft_deleted == ("ETH",)
    assert gone["symbol"].soft_deleted == ("BINANCE_SPOT:ETHUSDT",)
    assert await coins(mart) == {"BTC": False, "ETH": True}
    back = by_dimension(await seed(mart, wanted("BTC", "ETH")))
    assert back["coin"].reactivated == ("ETH",)
    assert back["symbol"].reactivated == ("BINANCE_SPOT:ETHUSDT",)
    assert await coins(mart) == {"BTC": False, "ETH": False}


async def test_a_runner_that_seeds_never_deletes(mart: AsyncEngine) -> None:
    await seed(mart, wanted("BTC", "ETH"))
    await seed(mart, wanted("BTC"))
    assert await coins(mart) == {"BTC": False, "ETH": False}


async def test_what_a_feed_named_is_never_soft_deleted(
    mart: AsyncEngine, sink: FactSink[Candle]
) -> None:
    await sink.write([candle(symbol="SOLUSDT")])
    plans = by_dimension(await seed(mart, wanted("BTC"), pruning=Pruning(share=1.0)))
    assert plans["coin"].soft_deleted == ()
    assert await coins(mart) == {"BTC": False, "SOL": False}


async def test_more_than_the_share_is_refused_and_nothing_changes(mart: AsyncEngine) -> None:
    many = [f"C{n:02}" for n in range(50)]
    await seed(mart, wanted(*many), pruning=Pruning())
    with pytest.raises(Refused, match=r"6 of 50 rows of dim__coin .*--max-soft-delete"):
        await seed(mart, wanted(*many[6:], "NEW"), pruning=Pruning())
    assert not any((await coins(mart)).values())
    assert "NEW" not in await coins(mart)
    done = by_dimension(await seed(mart, wanted(*many[5:]), pruning=Pruning()))
    assert len(done["coin"].soft_deleted) == 5


async def test_three_rows_may_always_go(mart: AsyncEngine) -> None:
    await seed(mart, wanted("A1", "B1", "C1", "D1"), pruning=Pruning())
    await seed(mart, wanted("A1"), pruning=Pruning())
    assert sum((await coins(mart)).values()) == 3


async def test_a_dry_run_tells_the_plan_and_writes_nothing(mart: AsyncEngine) -> None:
    plans = by_dimension(await seed(mart, wanted("BTC"), pruning=Pruning(), dry_run=True))
    assert plans["coin"].added == ("BTC",)
    assert await coins(mart) == {}


async def test_two_seedings_at_once_end_well(mart: AsyncEngine) -> None:
    seeds = [wanted(*(f"C{n:02}" for n in range(40)))] * 4
    results = await asyncio.gather(*(seed(mart, one, pruning=Pruning()) for one in seeds))
    added = [len(by_dimension(plans)["coin"].added) for plans in results]
    assert sorted(added) == [0, 0, 0, 40]


async def test_a_delisting_frees_the_place_for_the_next_symbol(mart: AsyncEngine) -> None:
    old = instrument("LUNA")
    await seed(mart, Seed(instruments=(old,)), pruning=Pruning())
    gone = attrs.evolve(old, delisted_at=datetime(2022, 5, 13, tzinfo=UTC))
    new = instrument("LUNA", symbol="LUNA2USDT", listed_at=datetime(2022, 5, 31, tzinfo=UTC))
    plans = by_dimension(await seed(mart, Seed(instruments=(new, gone)), pruning=Pruning()))
    assert plans["symbol"].changed == ("BINANCE_SPOT:LUNAUSDT",)
    assert plans["symbol"].added == ("BINANCE_SPOT:LUNA2USDT",)
    async with mart.connect() as connection:
        live = await connection.execute(
            sa.select(SYMBOLS.c.symbol).where(SYMBOLS.c.delisted_at.is_(None))
        )
        assert live.scalars().all() == ["LUNA2USDT"]


async def test_a_second_live_symbol_for_a_place_is_refused(mart: AsyncEngine) -> None:
    await seed(mart, wanted("BTC"))
    with pytest.raises(Refused, match="BINANCE_SPOT:XBTUSDT cannot stand for BTC/USDT"):
        await seed(mart, Seed(instruments=(instrument("BTC", symbol="XBTUSDT"),)))
