"""Klines into the mart: the bare statement, the repository, and the whole way from the socket.

The whole way is measured twice: with the journal, and with one in memory that keeps nothing. All of
them write the same klines in the same batches into the same table of one server, in turn, so that
the machine's mood is the same for all. What counts are the ratios.

    python -m benchmarks.kline [--klines 60000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

import attrs
import sqlalchemy as sa
from alembic import command
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.app.preflight import alembic_config
from ravenwh.cli.terminal import collect_seldom
from ravenwh.domain.errors import RavenwhError
from ravenwh.domain.messages import Candle, Message
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Settings
from ravenwh.embedded import EmbeddedPostgres
from ravenwh.feed import wire
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.subscriber import Upstream, ZmqSource
from ravenwh.ingest import Finality, Limits, Worker
from ravenwh.journal import Store
from ravenwh.ports import Entry, Frame, Gap, Position, Stream, WriteResult
from ravenwh.schema import KLINES
from ravenwh.warehouse.engine import make_engine
from ravenwh.warehouse.rows import kline_values
from ravenwh.warehouse.upsert import Upsert
from ravenwh.warehouse.write import FactSink

BATCH = 5000
SERIES = 500
MINUTE = 60_000_000_000
START = 1_704_067_200_000_000_000  # 2024-01-01
UPSERT = Upsert.into(KLINES)


def klines(count: int) -> list[Candle]:
    """Klines of many series, minute by minute, as an exchange sends them."""
    return [
        Candle(
            venue="BINANCE_FUTURES",
            symbol=f"C{number % SERIES:03}USDT",
            event_time=START + (number // SERIES + 1) * MINUTE,
            interval="1m",
            open_time=START + number // SERIES * MINUTE,
            close_time=START + (number // SERIES + 1) * MINUTE - 1_000_000,
            open=100.25 + number % 7,
            high=112.5,
            low=90.125,
            close=101.75 + number % 5,
            volume=number * 0.37 % 100,
            quote_volume=number * 0.53 % 10_000,
            trade_count=number % 500 + 1,
            taker_buy_volume=number * 0.11 % 50,
            taker_buy_quote_volume=number * 0.29 % 5_000,
        )
        for number in range(count)
    ]


def sink_on(engine: AsyncEngine) -> FactSink[Candle]:
    """The repository, with an empty cache."""
    return FactSink(engine=engine, register=Register(), upsert=UPSERT, to_values=kline_values)


async def empty(engine: AsyncEngine) -> None:
    """The table as it was at first."""
    async with engine.begin() as connection:
        await connection.execute(sa.text("TRUNCATE mart.fact__kline"))
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(sa.text("CHECKPOINT"))


async def bare(engine: AsyncEngine, batches: Sequence[Sequence[Candle]]) -> float:
    """Seconds for the statement alone: its text and its arrays are made before the clock runs."""
    sink = sink_on(engine)
    prepared = []
    async with engine.connect() as connection:
        for batch in batches:
            valued = sink._valued(batch, [])
            refused = await sink._look_up(connection, valued)
            prepared.append(sink._fold(valued, refused).columns(UPSERT.columns))
        compiled = UPSERT.statement.compile(dialect=engine.dialect)
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        arguments = []
        for columns in prepared:
            named = compiled.construct_params(
                {**columns, "source": "stream", "now": datetime.now(UTC)}
            )
            arguments.append([named[name] for name in compiled.positiontup or ()])
        began = time.perf_counter()
        for values in arguments:
            async with driver.transaction():
                await driver.fetchrow(str(compiled), *values)
        return time.perf_counter() - began


async def repository(engine: AsyncEngine, batches: Sequence[Sequence[Candle]]) -> float:
    """Seconds for decoded messages through the repository, with no name in its cache."""
    sink = sink_on(engine)
    began = time.perf_counter()
    for batch in batches:
        await sink.write(batch)
    return time.perf_counter() - began


@attrs.define
class Clocked:
    """A sink that notes when each batch was committed."""

    inner: FactSink[Candle]
    committed: list[tuple[float, int]] = attrs.field(factory=list)

    async def write(self, messages: Sequence[Candle]) -> WriteResult:
        """Write, and note the time."""
        result = await self.inner.write(messages)
        self.committed.append((time.time(), len(messages)))
        return result


@attrs.define
class Arrivals:
    """A source that notes when each frame was received."""

    inner: ZmqSource
    received: list[float] = attrs.field(factory=list)

    async def receive(self, limit: int):  # type: ignore[no-untyped-def]  # as the inner one
        """Receive, and note the times."""
        frames = await self.inner.receive(limit)
        self.received += [frame.received_at / 1e9 for frame in frames]
        return frames

    def close(self) -> None:
        """Close."""
        self.inner.close()


@attrs.define
class Forgetful:
    """A journal that keeps nothing: what there would be without one."""

    frames: deque[Entry] = attrs.field(factory=deque)
    last: int = 0
    acknowledged: int = 0

    def append(self, frames: Sequence[Frame], **_: object) -> int:
        """Hold the frames until they are read."""
        self.frames.extend(enumerate(frames, self.last + 1))
        self.last += len(frames)
        return self.last

    def read(self, after: int, limit: int, max_bytes: int) -> list[Entry]:
        """The next frames; they are read once."""
        return [self.frames.popleft() for _ in range(min(limit, len(self.frames)))]

    def acknowledge(self, upto: int, held: Sequence[Entry] = ()) -> None:
        """Note it."""
        self.acknowledged = upto

    def held(self) -> list[Entry]:
        """Nothing."""
        return []

    def positions(self) -> dict[Stream, Position]:
        """Nothing."""
        return {}

    def gaps(self) -> list[tuple[int, Gap]]:
        """Nothing."""
        return []

    def settle_gaps(self, numbers: Sequence[int]) -> None:
        """Nothing."""

    def put(self, letters: Sequence[tuple[Entry, RavenwhError]]) -> None:
        """There are none here."""
        assert not letters

    def close(self) -> None:
        """Nothing."""


async def whole_way(
    engine: AsyncEngine, folder: Path, count: int, *, journal: bool = True
) -> tuple[float, list[float]]:
    """Seconds from the first frame to the last commit, and each kline's from frame to commit."""
    address = f"ipc://{folder}/feed"
    store = Store(folder / f"{time.time_ns()}.sqlite") if journal else Forgetful()
    sink, stop = Clocked(sink_on(engine)), asyncio.Event()
    upstream = Upstream(
        feed="bench", endpoint=Endpoint(address=address), topics=(b"BINANCE_FUTURES:CANDLE:",)
    )
    with ZmqSource(upstreams=[upstream]) as inner:
        source = Arrivals(inner)

        def wants(message: Message) -> bool:
            return isinstance(message, Candle)

        worker = Worker[Candle](
            source=source,
            decode=wire.decode,
            wants=wants,
            sink=sink,
            journal=store,
            dead_letters=store,
            limits=Limits(batch_rows=BATCH),
            holding=Finality(grace_ns=5_000_000_000),
            position_of=wire.position,
        )
        task = asyncio.create_task(worker.run(stop))
        publisher = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.kline", "--publish", address, "--klines", str(count)
        )
        await publisher.wait()
        while worker.counts.written + worker.counts.unchanged < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # the figures come from the times of the commits
        stop.set()
        await task
    store.close()
    latencies: list[float] = []
    at = 0
    for committed, size in sink.committed:
        latencies += [committed - received for received in source.received[at : at + size]]
        at += size
    return sink.committed[-1][0] - source.received[0], latencies


async def publish(address: str, count: int) -> None:
    """Be the publisher."""
    messages = klines(count)
    async with Publisher(endpoint=Endpoint(address=address, mode="bind")) as publisher:
        topics = {wire.topic(k.venue, "CANDLE", k.symbol) for k in messages[:SERIES]}
        await publisher.wait_for_subscribers(topics, timeout_s=30)
        for message in messages:
            await publisher.publish(message)


async def measure(url: str, folder: Path, count: int, rounds: int) -> None:
    """Run them in turn, and tell the medians and their ratios."""
    engine = make_engine(url)
    messages = klines(count)
    batches = [messages[at : at + BATCH] for at in range(0, count, BATCH)]
    names = ("bare", "repository", "without journal", "socket")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        await empty(engine)
        seconds["bare"].append(await bare(engine, batches))
        await empty(engine)
        seconds["repository"].append(await repository(engine, batches))
        for name, journal in (("without journal", False), ("socket", True)):
            await empty(engine)
            took, _ = await whole_way(engine, folder, count, journal=journal)
            seconds[name].append(took)
    rate = {name: count / median(taken) for name, taken in seconds.items()}
    print(f"klines of {SERIES} series in batches of {BATCH}, medians of {rounds} rounds")
    print(f"bare statement      {rate['bare']:>10,.0f} rows/s")
    for name, over in (
        ("repository", "bare"),
        ("without journal", "repository"),
        ("socket", "repository"),
        ("socket", "without journal"),
    ):
        ratio = rate[name] / rate[over]
        print(f"{name:<19} {rate[name]:>10,.0f} rows/s  {ratio:.2f} of {over}")
    await empty(engine)
    _, latencies = await whole_way(engine, folder, 10_000)
    cuts = quantiles(latencies, n=100)
    print(
        f"burst of 10,000     frame to commit: median {cuts[49] * 1000:,.0f} ms, "
        f"p99 {cuts[98] * 1000:,.0f} ms"
    )
    await engine.dispose()


def main() -> None:
    """Parse, and measure on a server of its own with full durability."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--klines", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--publish", help=argparse.SUPPRESS)
    logger.disable("ravenwh")
    collect_seldom()  # as the runners do
    options = parser.parse_args()
    if options.publish:
        asyncio.run(publish(options.publish, options.klines))
        return
    with tempfile.TemporaryDirectory(prefix="ravenwh-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedPostgres(root=folder / "pg") as server:
            settings = Settings(timescale={"url": server.url})
            command.upgrade(alembic_config(settings), "head")
            asyncio.run(measure(server.url, folder, options.klines, options.rounds))


if __name__ == "__main__":
    main()
