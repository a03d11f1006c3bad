"""Seeding: adds, brings back, and soft-deletes only what the settings named and forgot."""

from __future__ import annotations

import asyncio
import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.app.instruments import register_of
from ravenwh.domain.errors import Refused, Unavailable
from ravenwh.domain.instrument import Contract, Instrument, VolumeUnit
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.domain.seed import Seed
from ravenwh.domain.settings import Settings
from ravenwh.schema import DIMENSIONS, SYMBOLS
from ravenwh.warehouse.seed import LOCK, Plan, Pruning, seed
from ravenwh.warehouse.write import FactSink
from tests.warehouse.conftest import candle, kline_sink

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


async def symbols(engine: AsyncEngine) -> list[dict[str, Any]]:
    """The register, in the order in which its rows were made."""
    async with engine.connect() as connection:
        found = await connection.execute(sa.select(SYMBOLS).order_by(SYMBOLS.c.symbol_id))
        return [dict(row) for row in found.mappings()]


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
    [_, ether] = await symbols(mart)
    assert ether["is_deleted"]
    assert ether["deleted_date"] is not None
    back = by_dimension(await seed(mart, wanted("BTC", "ETH")))
    assert back["coin"].reactivated == ("ETH",)
    assert back["symbol"].reactivated == ("BINANCE_SPOT:ETHUSDT",)
    assert await coins(mart) == {"BTC": False, "ETH": False}
    [_, ether] = await symbols(mart)
    assert (ether["is_deleted"], ether["deleted_date"]) == (False, None)


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
    results = await asyncio.gather(
        *(seed(mart, one, pruning=Pruning(), wait_s=60.0) for one in seeds)
    )
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


async def test_another_seeding_is_not_waited_for_unless_asked_to(mart: AsyncEngine) -> None:
    async with mart.begin() as other:
        await other.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        with pytest.raises(Unavailable, match="another seeding is at work; it is tried again"):
            await seed(mart, wanted("BTC"))
        with pytest.raises(Unavailable, match=r"still at work after 0\.1 s"):
            await seed(mart, wanted("BTC"), wait_s=0.1)
    assert await coins(mart) == {}


async def test_a_seeding_goes_on_when_the_other_has_ended(mart: AsyncEngine) -> None:
    tried = asyncio.Event()
    async with mart.begin() as other:
        await other.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        sa.event.listen(mart.sync_engine, "commit", lambda _: tried.set())
        waiting = asyncio.create_task(seed(mart, wanted("BTC"), wait_s=60.0))
        await asyncio.wait_for(tried.wait(), 30)
        assert not waiting.done()
    await waiting
    assert await coins(mart) == {"BTC": False}


LUNC = instrument("LUNC", symbol="LUNAUSDT", delisted_at=datetime(2022, 5, 13, tzinfo=UTC))
LUNA = instrument("LUNA", listed_at=datetime(2022, 5, 31, tzinfo=UTC))


async def test_a_symbol_that_stays_is_not_soft_deleted_with_its_old_entry(
    mart: AsyncEngine,
) -> None:
    stay = (LUNA, instrument("LUNC"))
    await seed(mart, Seed(instruments=(LUNC, *stay)), pruning=Pruning())
    with pytest.raises(Refused, match="1 of 3 rows of dim__symbol"):
        await seed(mart, Seed(instruments=stay), pruning=Pruning(share=0.0, rows=0))
    plan = by_dimension(await seed(mart, Seed(instruments=stay), pruning=Pruning()))["symbol"]
    assert plan.soft_deleted == ("BINANCE_SPOT:LUNAUSDT",)
    assert plan.existing == ("BINANCE_SPOT:LUNAUSDT", "BINANCE_SPOT:LUNCUSDT")
    gone = {row["listed_at"] for row in await symbols(mart) if row["is_deleted"]}
    assert gone == {None}
    plan = by_dimension(await seed(mart, Seed(instruments=(LUNC, *stay))))["symbol"]
    assert plan.reactivated == ("BINANCE_SPOT:LUNAUSDT",)
    assert plan.existing == ("BINANCE_SPOT:LUNAUSDT", "BINANCE_SPOT:LUNCUSDT")
    assert not any(row["is_deleted"] for row in await symbols(mart))


def bonk(**changes: Any) -> Instrument:
    values: dict[str, Any] = {"exchange": "BINANCE_FUTURES", "contract": Contract.PERPETUAL}
    values |= {"symbol": "1000BONKUSDT", "multiplier": 1000.0} | changes
    return instrument(values.pop("coin", "BONK"), **values)


async def write_one(engine: AsyncEngine, *register: Instrument) -> None:
    result = await kline_sink(engine, Register(listings=register)).write(
        [candle(venue="BINANCE_FUTURES", symbol="1000BONKUSDT")]
    )
    assert result.written == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"coin": "KBONK", "multiplier": 1.0},
        {"multiplier": 1.0},
        {"quote": "USDC"},
        {"volume_unit": VolumeUnit(kind="quote")},
        {"volume_unit": VolumeUnit(kind="contract", size=10.0, of="coin")},
    ],
    ids=str,
)
async def test_what_is_stored_keeps_its_meaning(mart: AsyncEngine, changes: dict[str, Any]) -> None:
    await seed(mart, Seed(instruments=(bonk(),)), pruning=Pruning())
    await write_one(mart, bonk())
    before = await symbols(mart)
    other = Seed(instruments=(bonk(**changes), instrument("BTC")))
    for pruning in (None, Pruning(share=1.0)):
        for dry_run in (False, True):
            with pytest.raises(Refused) as caught:
                await seed(mart, other, pruning=pruning, dry_run=dry_run)
            assert "BINANCE_FUTURES:1000BONKUSDT is BONK/USDT with multiplier 1000" in str(
                caught.value
            )
    assert await symbols(mart) == before
    assert "BTC" not in await coins(mart)

    told = str(caught.value).partition("as two entries: ")[2].partition(".\n")[0]
    lines = told.replace("<when it changed>", "2024-01-02T00:00:00Z").replace(" and ", "\n")
    settings = Settings(routing={"symbol_map": tomllib.loads(lines)})
    both = register_of(settings).listings
    plan = by_dimension(await seed(mart, Seed(instruments=both), pruning=Pruning()))["symbol"]
    assert plan.changed == plan.added == ("BINANCE_FUTURES:1000BONKUSDT",)
    assert plan.soft_deleted == ()


async def test_a_soft_deleted_row_keeps_its_meaning_too(mart: AsyncEngine) -> None:
    await seed(mart, Seed(instruments=(bonk(),)), pruning=Pruning())
    await write_one(mart, bonk())
    async with mart.begin() as connection:
        await connection.execute(
            sa.update(SYMBOLS).values(is_deleted=True, deleted_date=sa.func.now())
        )
    with pytest.raises(Refused, match="the settings say BONK/USDT with multiplier 1 "):
        await seed(mart, Seed(instruments=(bonk(multiplier=1.0),)))


async def test_a_meaning_by_which_nothing_is_stored_may_change(mart: AsyncEngine) -> None:
    await seed(mart, Seed(instruments=(bonk(multiplier=10.0), instrument("BTC"))))
    await kline_sink(mart, Register()).write([candle()])  # of another series
    plan = by_dimension(await seed(mart, Seed(instruments=(bonk(), instrument("BTC")))))["symbol"]
    assert plan.changed == ("BINANCE_FUTURES:1000BONKUSDT",)
    assert [row["multiplier"] for row in await symbols(mart)] == [1000.0, 1.0]


@pytest.mark.parametrize("pruning", [None, Pruning()])
async def test_when_a_symbol_held_may_change(mart: AsyncEngine, pruning: Pruning | None) -> None:
    await seed(mart, Seed(instruments=(bonk(),)), pruning=pruning)
    await write_one(mart, bonk())
    [before] = await symbols(mart)
    times = {
        "listed_at": datetime(2023, 11, 22, tzinfo=UTC),
        "delisted_at": datetime(2024, 2, 1, tzinfo=UTC),
    }
    for said in ({"listed_at": times["listed_at"]}, times, {}):
        plans = await seed(mart, Seed(instruments=(bonk(**said),)), pruning=pruning)
        assert by_dimension(plans)["symbol"].changed == ("BINANCE_FUTURES:1000BONKUSDT",)
        [after] = await symbols(mart)
        assert after == before | dict.fromkeys(times) | said
