"""Ticks on their whole way but the socket, through outages: journal, decode, prices, points."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import attrs
import pytest
from msgspec.structs import replace

from ravenwh.config.secret_file import secret_of
from ravenwh.domain.messages import Message, OrderBook, Trade
from ravenwh.feed import wire
from ravenwh.ingest import Counts, Limits, Worker
from ravenwh.journal import Store
from ravenwh.ports import Frame
from ravenwh.staging.books import BestPrices
from ravenwh.staging.server import Server
from ravenwh.staging.sink import TickSink
from tests.engines.influx import InfluxBucket, bucket_on
from tests.engines.influx_shim import Fault
from tests.engines.influxd import Influxd

AT = 1_723_161_255_342_000_000
MS = 1_000_000
EPOCH = 1_723_000_000_000_000_000
LIMITS = Limits(
    batch_rows=500,
    flush_after_s=0.02,
    retry_initial_s=0.01,
    retry_max_s=0.05,
    shutdown_grace_s=10,
)
PATIENCE_S = 60


class Frames:
    """A source that gives what it was fed, and then waits."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Frame] = asyncio.Queue()
        self._numbers: defaultdict[bytes, Iterator[int]] = defaultdict(lambda: count(1))

    def feed(self, messages: Sequence[Message]) -> None:
        for message in messages:
            topic, payload = wire.encode(message)
            header = wire.header(EPOCH, next(self._numbers[topic]))
            self._queue.put_nowait(Frame("f", topic, header, payload, time.time_ns()))

    async def receive(self, limit: int) -> list[Frame]:
        frames = [await self._queue.get()]
        while len(frames) < limit and not self._queue.empty():
            frames.append(self._queue.get_nowait())
        return frames

    def close(self) -> None:
        pass


def trades(number: int, *, first: int = 0, at: int = AT) -> list[Message]:
    return [
        Trade(
            venue="V",
            symbol="S",
            event_time=at + i // 5 * MS,
            price=float(i),
            quantity=1.0,
            side="buy",
            trade_id=str(i),
        )
        for i in range(first, first + number)
    ]


@attrs.define(kw_only=True)
class Bench:
    """A worker with a journal, in front of a bucket."""

    path: Path
    server: Server
    source: Frames = attrs.field(factory=Frames)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Worker[Message]]:
        """The worker while it runs; at the end it is stopped and its counts add up."""
        store, stop = Store(self.path, keep_s=3600), asyncio.Event()
        worker = Worker[Message](
            source=self.source,
            decode=BestPrices(decode=wire.decode, position_of=wire.position),
            wants=lambda message: True,
            sink=TickSink(server=self.server),
            journal=store,
            dead_letters=store,
            limits=LIMITS,
        )
        task = asyncio.create_task(worker.run(stop))
        try:
            yield worker
            stop.set()
            counts = await asyncio.wait_for(task, 60)
            settled = counts.written + counts.expired + counts.dead + counts.ignored
            assert (counts.unchanged, counts.folded) == (0, 0)
            assert counts.received + counts.recovered == settled + worker.in_journal
        finally:
            task.cancel()
            store.close()


async def until(worker: Worker[Message], fits: Callable[[Counts], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not fits(worker.counts):  # noqa: ASYNC110  they change without telling
            await asyncio.sleep(0.005)


async def written(worker: Worker[Message], number: int) -> None:
    await until(worker, lambda counts: counts.written == number)


async def away(worker: Worker[Message], words: str) -> None:
    """Until the worker is held up by this."""
    async with asyncio.timeout(PATIENCE_S):
        while not any(words in trouble for trouble in worker.troubles):  # noqa: ASYNC110  as above
            await asyncio.sleep(0.002)


@pytest.fixture
def bench(influx: InfluxBucket, tmp_path: Path) -> Bench:
    return Bench(path=tmp_path / "j.sqlite", server=influx.server())


async def test_faults_of_every_kind_lose_nothing(bench: Bench, influx: InfluxBucket) -> None:
    influx.shim.faults += [
        Fault(status=503),
        Fault(status=429, headers={"Retry-After": "2"}),
        Fault(status=0),
        Fault(status=0, is_stored=True),
        Fault(status=500, message="timeout"),
        Fault(status=422, message="partial write: no space left on device dropped=1"),
    ]
    bench.source.feed(trades(3000))
    async with bench.running() as worker:
        await until(worker, lambda counts: counts.written == 3000)
        assert worker.counts.dead == 0
    refused = next(i for i, seen in enumerate(influx.shim.seen) if seen.status == 429)
    told, again = influx.shim.seen[refused : refused + 2]
    assert again.body == told.body
    assert again.at - told.at >= 2  # by itself the worker would be back after LIMITS.retry_max_s
    assert influx.count() == 3000


async def test_what_was_written_and_not_acknowledged_is_written_again(
    bench: Bench, influx: InfluxBucket
) -> None:
    """A kill between the two: the next process finds the frames in its journal."""
    bench.source.feed(trades(1000))
    async with bench.running() as worker:
        await until(worker, lambda counts: counts.written == 1000)
    store = Store(bench.path, keep_s=3600)
    frames = [frame for _, frame in store.read(0, 2000, 1 << 30)]
    store.close()
    again = attrs.evolve(bench, path=bench.path.with_name("again.sqlite"))
    store = Store(again.path, keep_s=3600)
    store.append(frames)
    store.close()
    async with again.running() as worker:
        await until(worker, lambda counts: counts.written == len(frames) > 0)
        assert worker.counts.recovered == len(frames)
    assert influx.count() == 1000


async def test_a_token_that_ended_and_a_new_one_in_the_file(
    influx: InfluxBucket, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("ended")
    bench = Bench(path=tmp_path / "j.sqlite", server=influx.server(token=secret_of(file)))
    bench.source.feed(trades(2000))
    async with bench.running() as worker:
        await away(worker, "401")
        await until(worker, lambda counts: counts.received == 2000)
        assert influx.count() == 0
        file.write_text(influx.settings.token.reveal() if influx.settings.token else "")
        await until(worker, lambda counts: counts.written == 2000)
        assert worker.troubles == []
    assert influx.count() == 2000


async def test_a_server_that_is_stopped_and_killed(
    influxd_of_its_own: Influxd, tmp_path: Path
) -> None:
    """What goes on arriving waits in the journal, and is written in order."""
    influxd = influxd_of_its_own
    with bucket_on(influxd, "partial") as influx:
        bench = Bench(path=tmp_path / "j.sqlite", server=influx.server())
        async with bench.running() as worker:
            for i, how in enumerate((signal.SIGTERM, signal.SIGKILL)):
                bench.source.feed(trades(500, first=1500 * i))
                await written(worker, 1500 * i + 500)
                influxd.stop(how)
                bench.source.feed(trades(1000, first=1500 * i + 500))
                await away(worker, "503")
                influxd.start()
                await written(worker, 1500 * i + 1500)
            assert worker.counts.dead == 0
        assert influx.count() == 3000


async def test_points_that_are_too_old_are_counted(bench: Bench, influx: InfluxBucket) -> None:
    if influx.influxd is None:
        pytest.skip("a real version 2 keeps the buckets of tests for ever")
    keeps = f"CREATE RETENTION POLICY kept ON {influx.settings.bucket} DURATION 1h"
    influx.influxd.query(f"{keeps} REPLICATION 1 DEFAULT")
    bench.source.feed([*trades(700), *trades(300, first=700, at=time.time_ns())])
    async with bench.running() as worker:
        await until(worker, lambda counts: counts.written + counts.expired == 1000)
        assert (worker.counts.expired, worker.counts.dead) == (700, 0)
    assert influx.count() == 300


async def test_what_can_be_no_point_is_a_dead_letter(bench: Bench, influx: InfluxBucket) -> None:
    bad = replace(trades(1)[0], price=float("nan"))
    bench.source.feed([*trades(10), bad, *trades(10, first=10)])
    async with bench.running() as worker:
        await until(worker, lambda counts: counts.written + counts.dead == 21)
    store = Store(bench.path, keep_s=3600)
    (letter,) = store.dead_letters()
    store.close()
    assert (letter.error, letter.code) == ("Rejected", "NOT_FINITE")
    assert influx.count() == 20


async def test_books_become_best_prices(bench: Bench, influx: InfluxBucket) -> None:
    """Also where the batch is tried again: what a book was then is what is written."""
    book = OrderBook(
        venue="V",
        symbol="S",
        event_time=AT,
        bids=((10.0, 1.0),),
        asks=((20.0, 3.0),),
        snapshot=True,
    )
    changes = [
        replace(book, event_time=AT + i * MS, bids=((10.0 + i, 1.0),), asks=(), snapshot=False)
        for i in range(1, 6)
    ]
    unknown = replace(changes[0], symbol="OTHER")
    influx.shim.faults += [Fault(status=0, is_stored=True), Fault(status=503)]
    bench.source.feed([book, unknown, *changes])
    async with bench.running() as worker:
        await until(worker, lambda counts: counts.written == 6)
        assert worker.counts.ignored == 1
    points = sorted(influx.points("orderbook"), key=lambda point: point["time"])
    assert [point["bid_price"] for point in points] == [10, 11, 12, 13, 14, 15]
    assert [point["imbalance"] for point in points] == [0.25] * 6
    assert json.loads(influx.query("SHOW SERIES"))["results"][0]["series"][0]["values"] == [
        ["orderbook,exchange=V,symbol=S"]
    ]
