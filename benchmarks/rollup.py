"""What TimescaleDB gives the mart: rollups against raw rows, and bytes a row.

A year of synthetic 1m klines of many series (``_timescale.py`` tells how, and which server), and a
recorded month through the repository.

    python -m benchmarks.rollup [--series 10] [--days 365] [--rounds 5] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import attrs
import sqlalchemy as sa

from benchmarks._timescale import (
    START,
    Mart,
    convert,
    fill,
    mart_on,
    on_a_server,
    parser_for,
    refresh,
)
from ravenwh.domain.instrument import Contract, Instrument
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.schema import KLINES, ROLLUPS, VIEWS
from ravenwh.schema.aggregates import SUMS, rollup
from ravenwh.sources.catalog import find_files
from ravenwh.timescale import time_bucket
from ravenwh.warehouse.engine import make_engine
from ravenwh.warehouse.read import Warehouse
from ravenwh.warehouse.rows import kline_values
from ravenwh.warehouse.upsert import Upsert
from ravenwh.warehouse.write import FactSink
from tests.engines.native import NativeServer

BATCH = 5000
BTCPERP = Instrument(
    exchange="BINANCE_FUTURES",
    symbol="BTCPERP",
    coin="BTC",
    quote="USD",
    contract=Contract.PERPETUAL,
)

COLUMNS = """
SELECT format('SELECT %L AS name, sum(pg_column_size(%I)) AS bytes FROM %s',
              attname, attname, chunk)
FROM (SELECT format('%I.%I', c.schema_name, c.table_name) AS chunk
      FROM _timescaledb_catalog.chunk u
      JOIN _timescaledb_catalog.hypertable h ON h.id = u.hypertable_id
      JOIN _timescaledb_catalog.chunk c ON c.id = u.compressed_chunk_id
      WHERE h.table_name = 'fact__kline') AS chunks
JOIN pg_attribute ON attrelid = CAST(chunk AS regclass) AND attnum > 0
"""
GROUPS = {
    "prices": ("open", "high", "low", "close"),
    "volumes and counts": (
        "volume",
        "quote_volume",
        "trade_count",
        "taker_buy_volume",
        "taker_buy_quote_volume",
    ),
    "provenance": ("event_time", "source", "ingested_at", "revised_at"),
}


async def record(mart: Mart, folder: Path) -> int:
    """The recorded BTCPERP month through the repository; how many klines."""
    found: list[Candle] = []
    for file in find_files([folder / "BTCPERP"], venue="BINANCE_SPOT", kind=None)[0]:
        for message in attrs.evolve(file, venue="BINANCE_FUTURES").messages(print):
            assert isinstance(message, Candle)
            found.append(message)
    engine = make_engine(mart.url)
    sink = FactSink(
        engine=engine,
        register=Register(listings=(BTCPERP,)),
        upsert=Upsert.into(KLINES),
        to_values=kline_values,
    )
    for at in range(0, len(found), BATCH):
        assert (await sink.write(found[at : at + BATCH])).rejected == ()
    await engine.dispose()
    return len(found)


def bytes_a_row(mart: Mart, table: str = "fact__kline") -> float:
    """Heap, indexes and TOAST of all chunks, over the rows of the fact."""
    rows = mart.number("SELECT count(*) FROM mart.fact__kline")
    return mart.number(f"SELECT hypertable_size('mart.{table}')") / rows


def tell_size(mart: Mart, what: str, before: float) -> None:
    """Bytes a row before and after, and where those after are."""
    after = bytes_a_row(mart)
    rows = mart.number("SELECT count(*) FROM mart.fact__kline")
    sizes: dict[str, float] = {}
    for (query,) in mart.run(COLUMNS):
        for name, size in mart.run(query):
            sizes[name] = sizes.get(name, 0) + float(size or 0) / rows
    told = {group: sum(sizes.pop(n) for n in names) for group, names in GROUPS.items()}
    told["keys and times"] = sum(sizes.values())
    parts = ", ".join(f"{group} {size:.1f}" for group, size in told.items())
    print(f"{what:<34} {before:6.1f} to {after:5.1f} bytes a row  {before / after:4.1f} times less")
    print(f"{'':<34} {parts}")


def seconds(rounds: int, work: Callable[[], object]) -> float:
    """The median, after one that warms up."""
    work()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return median(taken)


def ways(mart: Mart, coin: str, end: datetime) -> dict[str, Callable[[], Sequence[Any]]]:
    """The ways to the days of one series; all give the same rows."""
    (row,) = mart.run(
        "SELECT coin_id, 1 AS quote_id, 1 AS exchange_id, 1 AS interval_id FROM mart.dim__coin"
        " WHERE coin = :coin",
        coin=coin,
    )
    ids = dict(row._mapping)
    agg, raw = ROLLUPS["1d"], rollup(KLINES, "1 day")
    fact = raw.get_final_froms()[0]
    view, raw_view = VIEWS["kline_1d"].table, VIEWS["kline_1m"].table
    day = time_bucket("1 day", raw_view.c.open_time).label("open_time")
    names = {"coin": coin, "quote": "USDT", "exchange": "BINANCE_FUTURES"}

    def mine(table: sa.FromClause, wanted: Mapping[str, Any]) -> sa.ColumnElement[bool]:
        chosen = [table.c[name] == value for name, value in wanted.items()]
        return sa.and_(*chosen, table.c.open_time >= START, table.c.open_time < end)

    def fetched(statement: sa.Select[Any], jit: str = "off") -> Callable[[], Sequence[Any]]:
        def work() -> Sequence[Any]:
            with mart.engine.connect() as connection:
                # compiling a query on many chunks costs more than it saves
                connection.exec_driver_sql(f"SET LOCAL jit = {jit}")
                return connection.execute(statement.order_by("open_time")).all()

        return work

    reader = Warehouse(mart.url.replace("+asyncpg", ""))

    def resampled() -> Sequence[Any]:
        klines = reader.klines(coin, "USDT", "BINANCE_FUTURES", "1m", START, end).pandas()
        days = klines.resample("1D").agg(
            {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
        )
        return list(days.itertuples())

    return {
        "agg__kline_1d, by ids": fetched(sa.select(agg).where(mine(agg, ids))),
        "fact__kline, by ids": fetched(raw.where(mine(fact, ids))),
        "the same with JIT, by ids": fetched(raw.where(mine(fact, ids)), "on"),
        "kline_1d, by names": fetched(sa.select(view).where(mine(view, names))),
        "kline_1m, by names": fetched(
            sa.select(
                day,
                sa.func.first(raw_view.c.open, raw_view.c.open_time),
                sa.func.max(raw_view.c.high),
                sa.func.min(raw_view.c.low),
                sa.func.last(raw_view.c.close, raw_view.c.open_time),
                *(sa.func.sum(raw_view.c[name]) for name in SUMS),
            )
            .where(mine(raw_view, names))
            .group_by(day)
        ),
        "klines('1m') and pandas": resampled,
    }


def tell_queries(mart: Mart, days: int, rounds: int) -> None:
    """Each way's time, and how many times that of the rollup it is."""
    named = ways(mart, "C001", START + timedelta(days=days))
    results = {name: work() for name, work in named.items()}
    assert {len(rows) for rows in results.values()} == {days}
    for one, other in zip(
        results["agg__kline_1d, by ids"], results["fact__kline, by ids"], strict=True
    ):
        assert one[:9] == other[:9]  # the time, the ids, OHLC
        assert all(
            math.isclose(a, b, rel_tol=1e-9) for a, b in zip(one[9:], other[9:], strict=True)
        )
    taken = {name: seconds(rounds, work) for name, work in named.items()}
    print(f"{days} days of one series, refreshed, all in the columnstore")
    for name, took in taken.items():
        rolled = taken["agg__kline_1d, by ids" if "by ids" in name else "kline_1d, by names"]
        print(f"  {name:<26} {took * 1000:>9,.1f} ms  {took / rolled:>6,.1f} times the rollup")


def measure(server: NativeServer, options: argparse.Namespace) -> None:
    """All of it, told as it comes."""
    folder = options.data / "klines_vision"
    if folder.is_dir():
        with mart_on(server) as mart:
            klines = asyncio.run(record(mart, folder))
            before = bytes_a_row(mart)
            convert(mart, "fact__kline")
            tell_size(mart, f"recorded BTCPERP, {klines:,} klines", before)
    else:
        print(f"no recorded klines at {folder}: --data names them")
    with mart_on(server) as mart:
        began = time.perf_counter()

        def stage(name: str) -> None:
            nonlocal began
            print(f"({name}: {time.perf_counter() - began:.0f} s)", flush=True)
            began = time.perf_counter()

        fill(mart, options.series, options.days)
        stage(f"{options.series} series, {options.days} days, made")
        refresh(mart)
        stage("refreshed")
        before = bytes_a_row(mart)
        rollups = [table.name for table in ROLLUPS.values()]
        rolled = sum(bytes_a_row(mart, name) for name in rollups)
        convert(mart, "fact__kline", *rollups)
        stage("all chunks converted")
        tell_queries(mart, options.days, options.rounds)
        tell_size(mart, f"{options.series} synthetic series", before)
        kept = sum(bytes_a_row(mart, name) for name in rollups)
        print(f"{'the seven rollups, over 1m rows':<34} {rolled:6.1f} to {kept:5.1f}")


def main() -> None:
    """Parse, find a server, measure."""
    parser = parser_for(__doc__)
    parser.add_argument("--series", type=int, default=10)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RAVENWH_TEST_DATA", ".")))
    on_a_server(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
