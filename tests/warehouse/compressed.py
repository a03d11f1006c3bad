"""A mart whose klines are compressed, and what its rollups must say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import sqlalchemy as sa
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ravenwh.domain.interval import INTERVALS
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.schema import KLINES, ROLLUPS
from tests.warehouse.conftest import MINUTE, START, candle, kline_sink

LIMIT = "timescaledb.max_tuples_decompressed_per_dml_transaction"

# the values of kline() for every minute but the first, whose rows are there already
FILL = sa.text("""
INSERT INTO mart.fact__kline (
  coin_id, quote_id, exchange_id, interval_id, open_time, open, high, low, close, volume,
  quote_volume, trade_count, taker_buy_volume, taker_buy_quote_volume, event_time, source,
  ingested_at)
SELECT
  coin_id, quote_id, exchange_id, interval_id, open_time + m * interval '1 minute',
  100 + m % 5, 110 + m % 7, 90 - m % 3, 95 + m % 11, 1 + m % 13,
  quote_volume, 1 + m % 17, taker_buy_volume, taker_buy_quote_volume,
  event_time + m * interval '1 minute', source, ingested_at
FROM mart.fact__kline CROSS JOIN generate_series(1, CAST(:minutes AS int) - 1) AS m
""")

ROLLED = """
SELECT date_bin(:width, open_time, TIMESTAMPTZ '2000-01-03 00:00+00') AS open_time,
  coin_id, quote_id, exchange_id, interval_id,
  (array_agg(open ORDER BY open_time))[1] AS open, max(high) AS high, min(low) AS low,
  (array_agg(close ORDER BY open_time DESC))[1] AS close, sum(volume) AS volume,
  sum(quote_volume) AS quote_volume, sum(trade_count)::bigint AS trade_count,
  sum(taker_buy_volume) AS taker_buy_volume,
  sum(taker_buy_quote_volume) AS taker_buy_quote_volume, count(*) AS base_rows
FROM mart.fact__kline GROUP BY 1, 2, 3, 4, 5
"""


def kline(symbol: str, minute: int, **changes: Any) -> Candle:
    """The kline that FILL stores of that minute; sums of its values are exact in any order."""
    m = minute
    values: dict[str, Any] = {
        "open": 100.0 + m % 5,
        "high": 110.0 + m % 7,
        "low": 90.0 - m % 3,
        "close": 95.0 + m % 11,
        "volume": 1.0 + m % 13,
        "trade_count": 1 + m % 17,
    }
    return candle(minute, symbol=symbol, **values | changes)


def corrected(symbol: str, minute: int, version: int = 1) -> Candle:
    """What the venue says later of the same minute: another low, close and volume."""
    return kline(
        symbol,
        minute,
        event_time=START + (minute + 1) * MINUTE + version * 1_000_000_000,
        low=80.0 - minute % 5,
        close=97.0 + minute % 3,
        volume=20.0 + minute % 4 + version,
    )


def symbols(count: int) -> list[str]:
    return [f"C{n:03}USDT" for n in range(count)]


async def fill(engine: AsyncEngine, names: list[str], minutes: int) -> None:
    """Every minute of every series, compressed."""
    sink = kline_sink(engine, Register())
    await sink.write([kline(name, 0) for name in names])
    async with engine.begin() as connection:
        await connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        await connection.execute(FILL, {"minutes": minutes})
    await compress(engine, KLINES)


@asynccontextmanager
async def outside_transactions(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    async with engine.connect() as connection:
        yield await connection.execution_options(isolation_level="AUTOCOMMIT")


async def compress(engine: AsyncEngine, table: sa.Table) -> None:
    """Every chunk of it into the columnstore."""
    async with outside_transactions(engine) as connection:
        chunks = await connection.scalars(sa.text(f"SELECT show_chunks('{table}')::text"))
        for chunk in chunks.all():
            await connection.execute(sa.text(f"CALL convert_to_columnstore('{chunk}')"))


async def refresh(engine: AsyncEngine) -> None:
    """All rollups over everything, lower ones first.

    Without bitmap scans: under them the DELETE of a refresh passes over rows of partly compressed
    chunks that it has just decompressed, and leaves buckets twice (TimescaleDB before 2.25 on
    PostgreSQL 16 and older).
    """
    async with outside_transactions(engine) as connection:
        await connection.execute(sa.text("SET enable_bitmapscan = off"))
        for table in ROLLUPS.values():
            await connection.execute(
                sa.text(f"CALL refresh_continuous_aggregate('{table}', NULL, NULL)")
            )
        await connection.execute(sa.text("RESET enable_bitmapscan"))


async def wrong_buckets(engine: AsyncEngine, code: str) -> int:
    """Buckets of a rollup that are not what the klines give, too many ones included."""
    names = ", ".join(column.name for column in ROLLUPS[code].columns)
    kept, width = ROLLUPS[code], sa.bindparam("width", INTERVALS[code].duration, sa.Interval())
    names = [sa.column(column.name, column.type) for column in kept.columns]
    given = sa.text(ROLLED).bindparams(width).columns(*names).cte("given")
    one, other = sa.select(kept), sa.select(*(given.c[column.name] for column in kept.columns))
    differing = sa.union_all(sa.except_all(one, other), sa.except_all(other, one)).subquery()
    async with engine.connect() as connection:
        return await connection.scalar(sa.select(sa.func.count()).select_from(differing)) or 0


async def rollups_are_right(engine: AsyncEngine) -> None:
    """Each bucket of each rollup equals what its klines give."""
    assert {code: await wrong_buckets(engine, code) for code in ROLLUPS} == dict.fromkeys(
        ROLLUPS, 0
    )


async def partly_compressed(engine: AsyncEngine) -> int:
    """How many chunks of the fact hold rows beside their compressed ones."""
    statement = """
    SELECT count(*) FROM _timescaledb_catalog.chunk
    JOIN timescaledb_information.chunks
      ON (chunk_schema, chunk_name) = (chunk.schema_name, chunk.table_name)
    WHERE hypertable_name = 'fact__kline' AND is_compressed AND status & 8 <> 0
    """
    async with engine.connect() as connection:
        return int(await connection.scalar(sa.text(statement)) or 0)


@contextmanager
def batches_split() -> Iterator[list[int]]:
    """The parts of each batch that was split meanwhile."""
    parts: list[int] = []
    handler = logger.add(
        lambda line: parts.append(line.record["extra"]["parts"]),
        filter=lambda record: record["message"] == "BATCH_SPLIT",
    )
    try:
        yield parts
    finally:
        logger.remove(handler)


def in_each_session(engine: AsyncEngine, *statements: str) -> None:
    """Have every new session of the engine begin with the statements."""

    def begin(driver: Any, _: object) -> None:
        cursor = driver.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
        driver.commit()

    sa.event.listen(engine.sync_engine, "connect", begin)
