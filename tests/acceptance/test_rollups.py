"""The rollups on recorded klines, against truths that others computed, at each stage of a chunk."""

from __future__ import annotations

import csv
import gzip
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.instrument import Contract, Instrument
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.domain.series import to_ns
from ravenwh.schema import DIMENSIONS, ROLLUPS
from ravenwh.sources.catalog import find_files
from tests.conftest import engine_on, migrate
from tests.engines.fixtures import EngineDatabase
from tests.warehouse.conftest import kline_sink

PERPETUAL = Instrument(
    exchange="BINANCE_FUTURES",
    symbol="BTCPERP",
    coin="BTC",
    quote="USD",
    contract=Contract.PERPETUAL,
)
Bucket = tuple[float, float, float, float, float, int]  # OHLC, volume, base_rows
Rows = dict[int, Bucket]  # by start in ms


def klines(folder: Path) -> list[Candle]:
    """Every recorded kline."""
    found: list[Candle] = []
    for file in find_files([folder], venue="BINANCE_SPOT", kind=None)[0]:
        venue = "BINANCE_FUTURES" if file.symbol == "BTCPERP" else file.venue
        for message in attrs.evolve(file, venue=venue).messages(pytest.fail):
            assert isinstance(message, Candle)
            found.append(message)
    return found


def truths(folder: Path) -> Iterator[tuple[str, str, str, Rows]]:
    """Symbol, base, bucket and rows of every truth that duckdb and pandas agreed on."""
    for path in sorted(folder.glob("[A-Z]*.csv.gz")):
        symbol, base, _, target = path.name.removesuffix(".csv.gz").split("-")
        with gzip.open(path, "rt") as file:
            rows = {
                int(row["bucket_ms"]): (
                    *(float(row[name]) for name in ("open", "high", "low", "close", "volume")),
                    int(row["n_src"]),
                )
                for row in csv.DictReader(file)
            }
        yield symbol, base, target, rows


async def rolled(engine: AsyncEngine, symbol: str, base: str, target: str) -> Rows:
    """What the mart says."""
    coin, quote = ("BTC", "USD") if symbol == "BTCPERP" else split(symbol)
    agg = ROLLUPS[target]
    statement = sa.select(
        agg.c.open_time,
        agg.c.open,
        agg.c.high,
        agg.c.low,
        agg.c.close,
        agg.c.volume,
        agg.c.base_rows,
    )
    for dimension, name in zip(
        (DIMENSIONS[0], DIMENSIONS[1], DIMENSIONS[3]), (coin, quote, base), strict=True
    ):
        ids = sa.select(dimension.id).where(dimension.label == name).scalar_subquery()
        statement = statement.where(agg.c[f"{dimension.name}_id"] == ids)
    async with engine.connect() as connection:
        found = await connection.execute(statement)
        return {to_ns(row[0]) // 1_000_000: tuple(row[1:]) for row in found}  # type: ignore[misc]


def split(symbol: str) -> tuple[str, str]:
    quote = "USDT" if symbol.endswith("USDT") else "BTC"
    return symbol.removesuffix(quote), quote


def exact(bucket: Bucket) -> tuple[float, ...]:
    """The prices, to the eight decimals that the files have: the truths carry a float's noise."""
    return tuple(round(price, 8) for price in bucket[:4])


def same(found: Rows, expected: Rows) -> bool:
    """OHLC and counts exactly, volume within 1e-9."""
    return found.keys() == expected.keys() and all(
        exact(found[at]) == exact(expected[at])
        and found[at][5] == expected[at][5]
        and found[at][4] == pytest.approx(expected[at][4], rel=1e-9)
        for at in expected
    )


async def all_agree(engine: AsyncEngine, folder: Path) -> None:
    compared = 0
    for symbol, base, target, expected in truths(folder):
        found = await rolled(engine, symbol, base, target)
        assert same(found, expected), f"{symbol} {base} to {target}"
        compared += 1
    assert compared == 26


@pytest.fixture
def migrated(each_engine: EngineDatabase) -> str:
    """The URL of a migrated and empty mart, on each engine."""
    migrate(each_engine.url)
    return each_engine.url


@pytest.fixture
async def rollups(migrated: str) -> AsyncIterator[AsyncEngine]:
    """An engine on it."""
    async with engine_on(migrated) as engine:
        yield engine


async def test_every_rollup_equals_its_truth_at_every_stage(
    rollups: AsyncEngine, each_engine: EngineDatabase, shared_data: Path
) -> None:
    engine = rollups
    sink = kline_sink(engine, Register(listings=(PERPETUAL,)))
    recorded = klines(shared_data / "klines_vision")
    wrong = [altered(one) if n % 1000 == 0 else one for n, one in enumerate(recorded)]
    for at in range(0, len(wrong), 5000):
        await sink.write(wrong[at : at + 5000])
    truth = shared_data / "rollups_truth"
    with pytest.raises(AssertionError):
        await all_agree(engine, truth)  # the altered ones show
    late = [later(one) for n, one in enumerate(recorded) if n % 1000 == 0]
    assert (await sink.write(late)).written == len(late)
    await all_agree(engine, truth)  # nothing is materialised yet
    await own_candles_agree(engine, shared_data / "exchange_own_rollups")
    if each_engine.level != "community":
        return
    await refresh(engine)
    await all_agree(engine, truth)
    await compress(engine)
    await all_agree(engine, truth)
    corrections = [altered(later(later(one))) for n, one in enumerate(recorded) if n % 997 == 0]
    assert (await sink.write(corrections)).written == len(corrections)
    back = [later(later(later(one))) for n, one in enumerate(recorded) if n % 997 == 0]
    assert (await sink.write(back)).written == len(back)
    await refresh(engine)
    await all_agree(engine, truth)


def changed(one: Candle, **changes: Any) -> Candle:
    return Candle(**{name: getattr(one, name) for name in one.__struct_fields__} | changes)


def altered(one: Candle) -> Candle:
    """With another low and volume, as an early version may have."""
    return changed(one, low=one.low / 2, volume=one.volume + 1)


def later(one: Candle) -> Candle:
    """The same, said a second later."""
    return changed(one, event_time=one.event_time + 1_000_000_000)


def own_candles(folder: Path) -> Iterator[tuple[str, str, dict[int, tuple[float, ...]]]]:
    """Base, bucket and prices of Binance's own candles."""
    for name, base in (("2023-01", "1h"), ("2025-01", "15m")):
        for path in sorted(folder.glob(f"*-binance-{name}.csv.gz")):
            with gzip.open(path, "rt") as file:
                prices = {
                    int(row["open_time"]): tuple(
                        float(row[n]) for n in ("open", "high", "low", "close")
                    )
                    for row in csv.DictReader(file)
                }
            yield base, path.name.split("-")[1], prices


async def own_candles_agree(engine: AsyncEngine, folder: Path) -> None:
    """Binance's own candles, except the one bucket that its outage cut."""
    differing, compared = [], 0
    for base, target, prices in own_candles(folder):
        found = await rolled(engine, "BTCUSDT", base, target)
        compared += len(found.keys() & prices.keys())
        differing += [
            (target, at) for at in found.keys() & prices.keys() if found[at][:4] != prices[at]
        ]
    assert compared > 4000
    assert differing == [("4h", 1_679_659_200_000)]  # 2023-03-24 12:00


async def refresh(engine: AsyncEngine) -> None:
    """All rollups over everything, lower ones first."""
    async with engine.connect() as connection:
        connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
        for code in ROLLUPS:
            await connection.execute(
                sa.text(f"CALL refresh_continuous_aggregate('mart.agg__kline_{code}', NULL, NULL)")
            )


async def compress(engine: AsyncEngine) -> None:
    """Every chunk of the fact into the columnstore."""
    async with engine.connect() as connection:
        connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
        chunks = await connection.scalars(sa.text("SELECT show_chunks('mart.fact__kline')::text"))
        for chunk in chunks.all():
            await connection.execute(sa.text(f"CALL convert_to_columnstore('{chunk}')"))
