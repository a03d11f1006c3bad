"""What a batch of klines becomes in the table."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.errors import Rejected, SeriesTaken, Unavailable
from ravenwh.domain.instrument import Contract, Instrument
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.schema import DIMENSIONS, KLINES, SYMBOLS
from ravenwh.warehouse.write import FactSink
from tests.conftest import engine_on
from tests.warehouse.conftest import MINUTE, START, candle, kline_sink, rows

VALUES = [c for c in KLINES.columns if c.name not in {"ingested_at", "revised_at"}]


async def test_a_kline_becomes_a_row_with_every_value(
    sink: FactSink[Candle], mart: AsyncEngine
) -> None:
    result = await sink.write([candle()])
    assert (result.written, result.unchanged, result.folded, result.rejected) == (1, 0, 0, ())
    (row,) = await rows(mart, *KLINES.columns)
    assert row.open_time == datetime(2024, 1, 1, tzinfo=UTC)
    assert (row.open, row.high, row.low, row.close) == (100.0, 110.0, 90.0, 105.0)
    assert (row.volume, row.quote_volume, row.trade_count) == (12.5, 1250.0, 42)
    assert (row.taker_buy_volume, row.taker_buy_quote_volume) == (6.0, 600.0)
    assert row.event_time == datetime(2024, 1, 1, 0, 1, tzinfo=UTC)
    assert row.source == "stream"
    assert row.revised_at is None


async def test_a_replay_changes_nothing(sink: FactSink[Candle], mart: AsyncEngine) -> None:
    klines = [candle(minute) for minute in range(100)]
    await sink.write(klines)
    before = await rows(mart, *KLINES.columns)
    random.Random(7).shuffle(klines)
    result = await sink.write(klines)
    assert (result.written, result.unchanged) == (0, 100)
    assert await rows(mart, *KLINES.columns) == before


async def test_a_correction_is_written_and_dated(sink: FactSink[Candle], mart: AsyncEngine) -> None:
    await sink.write([candle()])
    ((first,),) = await rows(mart, KLINES.c.ingested_at)
    result = await sink.write([candle(close=106.0, event_time=START + 2 * MINUTE)])
    assert result.written == 1
    ((close, ingested, revised),) = await rows(
        mart, KLINES.c.close, KLINES.c.ingested_at, KLINES.c.revised_at
    )
    assert close == 106.0
    assert ingested == first
    assert revised > first


async def test_every_order_of_arrival_ends_in_the_same_row(mart: AsyncEngine) -> None:
    versions = [
        candle(),
        candle(close=106.0, event_time=START + 2 * MINUTE),
        candle(event_time=START + 3 * MINUTE),  # the first values again, said later
        candle(volume=13.0, event_time=START + 3 * MINUTE),  # two versions of one event_time
        candle(quote_volume=None, event_time=START + 3 * MINUTE),
    ]
    ends = set()
    for order in itertools.permutations(versions):
        sink = kline_sink(mart, Register())
        for version in order:
            await sink.write([version])
        ends.update(await rows(mart, *VALUES))
        async with mart.begin() as connection:
            await connection.execute(sa.delete(KLINES))
    folded = kline_sink(mart, Register())
    for order in itertools.permutations(versions):
        result = await folded.write(order)
        assert result.folded == len(versions) - 1
        ends.update(await rows(mart, *VALUES))
        async with mart.begin() as connection:
            await connection.execute(sa.delete(KLINES))
    assert len(ends) == 1
    assert ends.pop().volume == 13.0


async def test_a_lower_source_never_replaces_a_higher_one(
    sink: FactSink[Candle], mart: AsyncEngine
) -> None:
    archive = kline_sink(mart, Register())
    archive.source = "archive"
    await archive.write([candle(close=101.0)])
    assert (await sink.write([candle(event_time=START + 9 * MINUTE)])).unchanged == 1
    assert (await rows(mart, KLINES.c.close, KLINES.c.source)) == [(101.0, "archive")]


@pytest.mark.parametrize(
    "other",
    [
        {"symbol": "BTCUSDC"},
        {"symbol": "ETHUSDT"},
        {"venue": "BINANCE_FUTURES"},
        {"interval": "5m"},
        {"open_time": START + 5 * MINUTE},
    ],
    ids=lambda other: next(iter(other)) + "=" + str(next(iter(other.values()))),
)
async def test_rows_that_differ_in_one_part_of_the_key_stay_two(
    sink: FactSink[Candle], mart: AsyncEngine, other: dict[str, object]
) -> None:
    result = await sink.write([candle(), candle(**other, close=99.0)])
    assert (result.written, result.folded) == (2, 0)
    assert {row.close for row in await rows(mart, KLINES.c.close)} == {105.0, 99.0}


async def test_a_taken_series_is_rejected_and_the_rest_is_written(mart: AsyncEngine) -> None:
    register = Register(
        listings=(
            Instrument(
                exchange="BINANCE_SPOT",
                symbol="OLDBTC",
                coin="BTC",
                quote="USDT",
                contract=Contract.SPOT,
            ),
        )
    )
    await kline_sink(mart, register).write([candle(symbol="OLDBTC")])
    result = await kline_sink(mart, Register()).write([candle(), candle(symbol="ETHUSDT")])
    assert result.written == 1
    ((index, error),) = result.rejected
    assert index == 0
    assert isinstance(error, SeriesTaken)
    assert error.code == "SERIES_TAKEN"
    assert "OLDBTC" in str(error)
    assert "BTCUSDT" in str(error)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"close": float("nan")}, "NOT_FINITE"),
        ({"high": float("inf")}, "NOT_FINITE"),
        ({"volume": float("nan")}, "NOT_FINITE"),
        ({"volume": -1.0}, "BAD_VOLUME"),
        ({"quote_volume": float("inf")}, "BAD_VOLUME"),
        ({"trade_count": 2**63}, "BAD_VOLUME"),
        ({"high": 99.0}, "BAD_OHLC"),
        ({"low": 101.0}, "BAD_OHLC"),
        ({"open_time": START + 1_000_000_000}, "MISALIGNED"),
        ({"open_time": 1_704_067_200_000}, "BAD_TIME"),
        ({"event_time": 0}, "BAD_TIME"),
        ({"interval": "7m"}, "UNKNOWN_INTERVAL"),
        ({"parameters_hash": "abc"}, "NOT_A_KLINE"),
        ({"symbol": "nonsense"}, "UNKNOWN_SYMBOL"),
        ({"venue": "NOWHERE"}, "UNKNOWN_SYMBOL"),
        ({"symbol": "BTCUSDT_240329", "venue": "BINANCE_FUTURES"}, "NOT_IN_MART"),
    ],
)
async def test_what_can_never_be_a_row_is_rejected_alone(
    sink: FactSink[Candle], mart: AsyncEngine, changes: dict[str, object], code: str
) -> None:
    result = await sink.write([candle(1), candle(**changes), candle(2)])
    assert result.written == 2
    ((index, error),) = result.rejected
    assert index == 1
    assert isinstance(error, Rejected)
    assert error.code == code
    assert len(await rows(mart, KLINES.c.open_time)) == 2


async def test_optional_columns_are_null_where_the_venue_does_not_say(
    sink: FactSink[Candle], mart: AsyncEngine
) -> None:
    zeros = {
        "trade_count": 0,
        "quote_volume": 0.0,
        "taker_buy_volume": 0.0,
        "taker_buy_quote_volume": 0.0,
    }
    await sink.write([candle(0, **zeros), candle(1, **zeros, volume=0.0)])
    optional = [KLINES.c[name] for name in ("volume", *zeros)]
    said, quiet = await rows(mart, *optional)
    assert tuple(said) == (12.5, None, None, None, None)
    assert tuple(quiet) == (0.0, 0, 0.0, 0.0, 0.0)


async def test_contracts_never_stand_in_a_coin_column(
    sink: FactSink[Candle], mart: AsyncEngine
) -> None:
    kline = candle(
        venue="BINANCE_COIN_FUTURES",
        symbol="BTCUSD_PERP",
        volume=1000.0,
        quote_volume=2.5,  # Binance gives the coins here, facts of its coin-margined klines
        taker_buy_volume=None,
        taker_buy_quote_volume=None,
    )
    result = await sink.write([kline])
    assert result.rejected == ()
    assert await rows(mart, KLINES.c.volume, KLINES.c.quote_volume) == [(2.5, 100_000.0)]


async def test_a_name_that_was_soft_deleted_comes_back_with_the_first_message(
    sink: FactSink[Candle], mart: AsyncEngine
) -> None:
    await sink.write([candle()])
    coins = DIMENSIONS[0].table
    async with mart.begin() as connection:
        await connection.execute(
            sa.update(coins).values(is_deleted=True, deleted_date=sa.func.now(), origin="seed")
        )
    assert (await sink.write([candle(1)])).written == 1  # the sink had the id in its cache
    async with mart.connect() as connection:
        found = (await connection.execute(sa.select(coins))).one()
    assert (found.coin, found.is_deleted, found.deleted_date, found.origin) == (
        "BTC",
        False,
        None,
        "feed",
    )


async def test_the_register_holds_what_was_written(
    sink: FactSink[Candle], mart: AsyncEngine
) -> None:
    await sink.write([candle(venue="BINANCE_FUTURES", symbol="1000PEPEUSDT")])
    async with mart.connect() as connection:
        found = (await connection.execute(sa.select(SYMBOLS))).one()
    assert (found.symbol, found.multiplier, found.contract) == ("1000PEPEUSDT", 1000, "perpetual")


async def test_two_writers_with_the_same_new_names_at_once(mart_url: str) -> None:
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(engine_on(mart_url)) for _ in range(4)]
        sinks = [kline_sink(engine, Register()) for engine in engines]
        batch = [candle(symbol=f"{coin}USDT") for coin in ("BTC", "ETH", "SOL", "XRP", "ADA")]
        results = await asyncio.gather(
            *(sink.write(batch if n % 2 else batch[::-1]) for n, sink in enumerate(sinks))
        )
        assert sum(result.written for result in results) == 5
        assert sum(result.unchanged for result in results) == 15
        assert len(await rows(engines[0], KLINES.c.coin_id)) == 5


async def test_a_server_that_is_away_is_unavailable() -> None:
    async with engine_on("postgresql+asyncpg://nobody@127.0.0.1:1/nothing") as engine:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await kline_sink(engine, Register()).write([candle()])
