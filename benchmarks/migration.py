"""How long writers pause for a migration, while a long reader stands in its way.

The mart with rows, refreshed rollups and old chunks in the columnstore. One writer sends klines
through the repository as fast as they are committed; a reader keeps a transaction open on the fact;
then a release is migrated to, and back, that adds a column to the fact, changes its chunk interval
and builds a rollup and all that reads it anew. The migration queues for its lock, and the writer
behind it, at most lock_timeout_s a try. Told is the longest time between two commits.

    python -m benchmarks.migration [--series 50] [--days 30] [--reader-s 10] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count, islice, pairwise
from pathlib import Path

import attrs
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks._timescale import START, convert, fill, mart_on, on_a_server, parser_for, refresh
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.schema import KLINES
from ravenwh.warehouse.engine import make_engine
from ravenwh.warehouse.rows import kline_values
from ravenwh.warehouse.upsert import Upsert
from ravenwh.warehouse.write import FactSink
from tests.engines.native import NativeServer
from tests.migrations import successor

BATCH = 500
MINUTE = 60_000_000_000
ALONE_S = 5.0


def klines(series: int, days: int) -> Iterator[Candle]:
    """What comes after the rows that are there, minute by minute, without end."""
    first = int((START + timedelta(days=days)).timestamp()) * 1_000_000_000
    for minute, number in ((m, n) for m in count() for n in range(1, series + 1)):
        opened = first + minute * MINUTE
        yield Candle(
            venue="BINANCE_FUTURES",
            symbol=f"C{number:03}USDT",
            event_time=opened + MINUTE,
            interval="1m",
            open_time=opened,
            close_time=opened + MINUTE - 1_000_000,
            open=100.25,
            high=112.5,
            low=90.125,
            close=101.75,
            volume=minute % 100,
        )


@attrs.define(kw_only=True)
class Writer:
    """Commits batch after batch, and notes when."""

    sink: FactSink[Candle]
    messages: Iterator[Candle]
    commits: list[float] = attrs.Factory(list)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            result = await self.sink.write(list(islice(self.messages, BATCH)))
            assert result.written == BATCH
            self.commits.append(time.perf_counter())

    def longest_pause(self, since: float) -> float:
        """Seconds between two commits, of which the second was not before that time."""
        return max(later - one for one, later in pairwise(self.commits) if later >= since)


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[None]:
    """A transaction that has read from the fact."""
    async with engine.connect() as connection:
        await connection.scalar(sa.select(sa.func.count()).select_from(KLINES))
        yield


async def migrate(folder: Path, url: str, *direction: str) -> tuple[int, float]:
    """Migrate in a process of its own; how often it gave way, and when it had ended."""
    program = ("-m", "tests.migrations.successor", str(folder), url, *direction)
    process = await asyncio.create_subprocess_exec(sys.executable, *program, stdout=PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.count(b"trying again"), time.perf_counter()


async def under_load(engine: AsyncEngine, url: str, options: argparse.Namespace) -> None:
    """The rounds, each told in a line for the way there and one for the way back."""
    sink = FactSink(
        engine=engine, register=Register(), upsert=Upsert.into(KLINES), to_values=kline_values
    )
    writer = Writer(sink=sink, messages=klines(options.series, options.days))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(writer.run())
        await asyncio.sleep(ALONE_S)
        rate = BATCH * len(writer.commits) / ALONE_S
        print(f"nobody else: {writer.longest_pause(0):.2f} s, {rate:,.0f} rows/s", flush=True)
        for _ in range(options.rounds):
            for what, direction in (("there", ()), ("back", ("--down",))):
                began = time.perf_counter()
                async with reading(engine):
                    migration = asyncio.create_task(migrate(options.folder, url, *direction))
                    await asyncio.sleep(options.reader_s)
                    assert not migration.done()
                let = time.perf_counter()
                tries, ended = await migration
                await asyncio.sleep(1)
                print(
                    f"{what:<6} longest pause {writer.longest_pause(began):.2f} s; gave way "
                    f"{tries} times; done {ended - let:.1f} s after the reader",
                    flush=True,
                )
        task.cancel()


async def rounds(url: str, options: argparse.Namespace) -> None:
    """With an engine of the writer's and the reader's."""
    engine = make_engine(url)
    try:
        await under_load(engine, url, options)
    finally:
        await engine.dispose()


def measure(server: NativeServer, options: argparse.Namespace) -> None:
    """Fill a mart, write the release, migrate."""
    with mart_on(server) as mart, tempfile.TemporaryDirectory(prefix="ravenwh-bench-") as folder:
        options.folder = Path(folder)
        fill(mart, options.series, options.days)
        refresh(mart)
        convert(mart, "fact__kline")
        successor.project(options.folder, mart.url).revision(successor.models())
        asyncio.run(rounds(mart.url, options))


def main() -> None:
    """Parse, find a server, measure."""
    parser = parser_for(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--series", type=int, default=50)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--reader-s", type=float, default=10.0)
    on_a_server(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
