"""The worker: order of things, failures of the sink, the identity of the counts, stopping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from loguru import logger

from ravenwh.domain.errors import JournalFull, RavenwhError, Rejected, TooLarge, Unavailable
from ravenwh.domain.messages import Candle, Message
from ravenwh.feed import wire
from ravenwh.ingest import Counts, Finality, Limits, Worker
from ravenwh.journal import Store
from ravenwh.ports import Entry, Frame, WriteResult
from tests.warehouse.conftest import START, candle

FAST = Limits(
    batch_rows=10,
    flush_after_s=0.01,
    retry_initial_s=0.001,
    retry_max_s=0.002,
    room_retry_s=0.01,
    shutdown_grace_s=30,
    receive_frames=7,
)


class Frames:
    """A source that gives what it was fed, and then waits."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Frame] = asyncio.Queue()

    def feed(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self._queue.put_nowait(frame)

    async def receive(self, limit: int) -> list[Frame]:
        frames = [await self._queue.get()]
        while len(frames) < limit and not self._queue.empty():
            frames.append(self._queue.get_nowait())
        return frames

    def close(self) -> None:
        pass


class Table:
    """A sink that keeps the latest version of a key, and fails as it is told to."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], Candle] = {}
        self.batches: list[int] = []
        self.failures: list[RavenwhError] = []
        self.refuses: Callable[[Candle], RavenwhError | None] = lambda message: None
        self.largest = 10**9
        self.changed = asyncio.Event()

    async def write(self, messages: Sequence[Candle]) -> WriteResult:
        self.batches.append(len(messages))
        if self.failures:
            raise self.failures.pop(0)
        if len(messages) > self.largest:
            raise TooLarge("too many rows")
        for message in messages:
            error = self.refuses(message)
            if error is not None:
                raise error
        keys = {(m.symbol, m.open_time): m for m in messages}
        unchanged = sum(self.rows.get(key) == m for key, m in keys.items())
        self.rows |= keys
        self.changed.set()
        return WriteResult(
            written=len(keys) - unchanged, unchanged=unchanged, folded=len(messages) - len(keys)
        )


class Failing(Store):
    """A journal on a disk that fails as it is told to: one failure is used up by each call."""

    failures: dict[str, list[RavenwhError]]
    largest_read = 0

    def _fail(self, name: str) -> None:
        if failures := self.failures.get(name):
            raise failures.pop(0)

    def append(self, frames: Sequence[Frame], **noted: Any) -> int:
        self._fail("append")
        return super().append(frames, **noted)

    def put(self, letters: Sequence[tuple[Entry, RavenwhError]]) -> None:
        self._fail("put")
        super().put(letters)

    def acknowledge(self, upto: int, held: Sequence[Entry] = ()) -> None:
        self._fail("acknowledge")
        super().acknowledge(upto, held)

    def read(self, after: int, limit: int, max_bytes: int) -> list[Entry]:
        entries = super().read(after, limit, max_bytes)
        self.largest_read = max(self.largest_read, sum(frame.size for _, frame in entries))
        return entries


def frame_of(message: Message) -> Frame:
    topic, payload = wire.encode(message)
    return Frame("f", topic, wire.header(1, 1), payload, START)


def is_candle(message: Message) -> bool:
    return isinstance(message, Candle)


@attrs.define
class Bench:
    """A worker at work on a source, a journal and a table of the test's."""

    path: Path
    source: Frames = attrs.field(factory=Frames)
    table: Table = attrs.field(factory=Table)
    limits: Limits = FAST
    finality: Finality | None = None
    wants: Callable[[Message], bool] = is_candle
    max_bytes: int = 1 << 20
    failures: dict[str, list[RavenwhError]] = attrs.field(factory=dict)
    stop: asyncio.Event = attrs.field(factory=asyncio.Event)
    lines: list[str] = attrs.field(factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Worker[Candle]]:
        """The worker while it runs; at the end it is stopped and its counts add up."""
        store = Failing(self.path, max_bytes=self.max_bytes, keep_s=0)
        store.failures = self.failures
        handler = logger.add(lambda line: self.lines.append(str(line)), format="{message}")
        worker = Worker[Candle](
            source=self.source,
            decode=wire.decode,
            wants=self.wants,
            sink=self.table,
            journal=store,
            dead_letters=store,
            limits=self.limits,
            holding=self.finality,
        )
        self.stop.clear()
        task = asyncio.create_task(worker.run(self.stop))
        try:
            yield worker
            self.stop.set()
            counts = await asyncio.wait_for(task, 60)
            settled = counts.written + counts.unchanged + counts.folded + counts.dead
            assert counts.received + counts.recovered == (
                settled + counts.ignored + worker.in_journal
            )
        finally:
            task.cancel()
            store.close()
            logger.remove(handler)

    async def until(self, worker: Worker[Candle], settled: Callable[[Counts], bool]) -> None:
        """Return when the counts are as asked; they change only when the worker runs."""
        async with asyncio.timeout(60):
            while not settled(worker.counts):  # noqa: ASYNC110  a turn of the loop, not a time
                await asyncio.sleep(0)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(path=tmp_path / "j.sqlite")


async def test_every_frame_ends_in_a_row(bench: Bench) -> None:
    bench.source.feed([frame_of(candle(minute)) for minute in range(95)])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written == 95)
    assert max(bench.table.batches) <= FAST.batch_rows


async def test_what_nobody_can_read_is_a_dead_letter_and_the_rest_goes_on(bench: Bench) -> None:
    broken = Frame("f", b"BINANCE_SPOT:CANDLE:BTCUSDT ", wire.header(1, 1), b"\xc1", START)
    bench.source.feed([frame_of(candle(0)), broken, frame_of(candle(1))])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written == 2 and counts.dead == 1)
    with closing(Store(bench.path)) as store:
        (letter,) = store.dead_letters()
    assert (letter.error, letter.frame) == ("DecodeError", broken)


async def test_a_cause_is_told_once_a_topic_and_every_letter_is_kept(bench: Bench) -> None:
    bench.source.feed([broken_frame(symbol, n) for n in range(40) for symbol in ("AAA", "BBB")])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.dead == 80)
    told = [line for line in bench.lines if line.startswith("DEAD_LETTER")]
    assert len(told) == 2
    with closing(Store(bench.path)) as store:
        assert len(store.dead_letters()) == 80


def broken_frame(symbol: str, number: int) -> Frame:
    topic = f"BINANCE_SPOT:CANDLE:{symbol} ".encode()
    return Frame("f", topic, wire.header(1, number), b"\xc1", START)


async def test_messages_of_others_are_ignored_and_counted(bench: Bench) -> None:
    bench.wants = lambda message: isinstance(message, Candle) and message.interval == "1m"
    bench.source.feed([frame_of(candle(0)), frame_of(candle(0, interval="5m"))])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written == 1 and counts.ignored == 1)


async def test_a_sink_that_is_away_is_tried_until_it_is_back(bench: Bench) -> None:
    bench.table.failures = [Unavailable("away") for _ in range(30)]
    bench.source.feed([frame_of(candle(minute)) for minute in range(25)])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written == 25)
    assert not bench.table.failures


async def test_frames_are_journaled_while_the_sink_is_away(bench: Bench) -> None:
    bench.table.failures = [Unavailable("away") for _ in range(10_000)]
    bench.source.feed([frame_of(candle(minute)) for minute in range(50)])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.received == 50)
        assert worker.in_journal == 50
    assert bench.table.rows == {}
    bench.table.failures = []
    async with bench.running() as worker:  # the next start works them off
        assert worker.counts.received == 0
        await bench.until(worker, lambda counts: counts.written == 50)
        assert worker.counts.recovered == 50


async def test_rows_that_the_sink_refuses_are_isolated(bench: Bench) -> None:
    bad = {START + minute * 60_000_000_000 for minute in (3, 4, 17)}
    bench.table.refuses = lambda m: Rejected("no", code="TEST") if m.open_time in bad else None
    bench.limits = attrs.evolve(FAST, batch_rows=64)
    bench.source.feed([frame_of(candle(minute)) for minute in range(64)])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written == 61 and counts.dead == 3)
    assert {key[1] for key in bench.table.rows}.isdisjoint(bad)
    with closing(Store(bench.path)) as store:
        assert [letter.code for letter in store.dead_letters()] == ["TEST"] * 3


async def test_a_batch_that_is_too_large_is_split(bench: Bench) -> None:
    bench.table.largest = 3
    bench.source.feed([frame_of(candle(minute)) for minute in range(40)])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written == 40)


async def test_only_final_klines_are_written_and_open_ones_survive_a_restart(bench: Bench) -> None:
    bench.finality = Finality(grace_ns=5 * 10**9)
    versions = [candle(0, closed=False, event_time=START + second) for second in (1, 2, 3)]
    bench.source.feed([*map(frame_of, versions), frame_of(candle(0, symbol="ETHUSDT"))])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written == 1 and counts.folded == 2)
        assert worker.in_journal == 1
    bench.finality = Finality(grace_ns=5 * 10**9)  # what a new process has
    bench.source.feed([frame_of(candle(1, closed=False))])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written == 1)
    assert bench.table.rows["BTCUSDT", START] == versions[2]


async def test_what_was_held_and_is_to_be_written_now_does_not_wait_for_other_frames(
    bench: Bench,
) -> None:
    bench.finality = Finality(grace_ns=10**9)
    bench.source.feed([frame_of(candle(0, closed=False))])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.received == 1)
    bench.finality = None
    async with bench.running() as worker:
        assert worker.counts.recovered == 0  # it has not begun
        await bench.until(worker, lambda counts: counts.written == 1)


async def test_a_full_journal_stops_the_reading_and_loses_nothing(bench: Bench) -> None:
    one = frame_of(candle(0))
    bench.max_bytes = 25 * len(one.payload)
    bench.table.failures = [Unavailable("away") for _ in range(200)]
    bench.source.feed([frame_of(candle(minute)) for minute in range(200)])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written == 200)
        assert worker.counts.lost == 0
    assert len(bench.table.rows) == 200


async def test_a_part_that_dies_ends_the_worker_with_its_reason(bench: Bench) -> None:
    bench.table.failures = [RuntimeError("bug")]  # type: ignore[list-item]  # no error of ours
    bench.source.feed([frame_of(candle(0))])
    with pytest.raises(ExceptionGroup) as caught:
        async with bench.running() as worker:
            await bench.until(worker, lambda counts: not bench.table.failures)
    assert caught.group_contains(RuntimeError, match="bug")


DISK_FULL = [JournalFull("the disk is full"), Unavailable("the disk fails", needs_person=True)]


@pytest.mark.parametrize("error", DISK_FULL)
async def test_reading_goes_on_when_the_disk_has_room_again_though_nothing_is_flushed(
    bench: Bench, error: RavenwhError
) -> None:
    bench.failures["append"] = [error] * 3
    bench.source.feed([frame_of(candle(minute)) for minute in range(3)])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written == 3)
        assert worker.counts.lost == 0
    told = [line for line in bench.lines if line.startswith(("JOURNAL_FULL", "JOURNAL_UNAV"))]
    assert len(told) == 1


@pytest.mark.parametrize("call", ["put", "acknowledge"])
@pytest.mark.parametrize("error", DISK_FULL)
async def test_a_disk_that_fails_after_the_commit_is_tried_until_it_is_back(
    bench: Bench, call: str, error: RavenwhError
) -> None:
    bench.failures[call] = [error] * 5
    bench.source.feed([frame_of(candle(0)), broken_frame("AAA", 1)])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written == 1 and counts.dead == 1)
        assert not bench.failures[call]
    with closing(Store(bench.path)) as store:
        assert (store.acknowledged, len(store.dead_letters())) == (2, 1)


async def test_frames_that_arrive_together_may_be_more_than_the_journal_holds(bench: Bench) -> None:
    frames = [frame_of(candle(minute)) for minute in range(200)]
    bench.max_bytes = 25 * frames[0].size
    bench.limits = attrs.evolve(FAST, receive_frames=2000)
    bench.source.feed(frames)
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written == 200)
        assert worker.counts.lost == 0


async def test_a_frame_that_no_journal_holds_is_lost_counted_and_told(bench: Bench) -> None:
    bench.max_bytes = 4000
    huge = Frame("f", b"BINANCE_SPOT:CANDLE:BTCUSDT ", wire.header(1, 1), b"\xc1" * 5000, START)
    bench.source.feed([frame_of(candle(0)), huge, frame_of(candle(1))])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written == 2)
        assert (worker.counts.lost, worker.counts.received) == (1, 2)
    assert bench.lines.count("FRAMES_LOST\n") == 1


async def test_a_full_file_loses_nothing_and_goes_on_with_room(bench: Bench) -> None:
    bench.table.failures = [Unavailable("away") for _ in range(10**6)]
    bench.source.feed([frame_of(candle(minute)) for minute in range(400)])
    async with bench.running() as worker:
        assert isinstance(worker.journal, Store)
        limit = worker.journal._db.execute("PRAGMA max_page_count = 20").fetchone()
        assert limit == (20,)
        async with asyncio.timeout(60):
            while "JOURNAL_FULL\n" not in bench.lines:  # noqa: ASYNC110  a turn of the loop
                await asyncio.sleep(0)
        assert worker.counts.received < 400
        assert any(one.startswith("nothing is received: ") for one in worker.troubles)
        worker.journal._db.execute("PRAGMA max_page_count = 1000").fetchone()
        bench.table.failures.clear()
        await bench.until(worker, lambda counts: counts.written == 400)
        assert worker.counts.lost == 0
        assert worker.troubles == []


async def test_a_batch_closes_by_bytes_and_no_more_is_read(bench: Bench) -> None:
    frames = [frame_of(candle(minute)) for minute in range(60)]
    size = max(frame.size for frame in frames)
    bench.limits = attrs.evolve(
        FAST, batch_rows=1000, batch_bytes=6 * size, flush_after_s=60, receive_frames=100
    )
    bench.source.feed(frames)
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.written >= 50)
        assert isinstance(worker.journal, Failing)
        assert worker.journal.largest_read <= 6 * size
    assert set(bench.table.batches[:-1]) <= {6, 7}


async def test_dead_letters_count_for_the_size_of_a_batch(bench: Bench) -> None:
    bench.limits = attrs.evolve(FAST, batch_rows=10, flush_after_s=60)
    bench.source.feed([broken_frame("AAA", number) for number in range(30)])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: counts.dead == 30)


async def test_a_stop_in_an_outage_is_followed_by_one_last_write(bench: Bench) -> None:
    away: list[RavenwhError] = [Unavailable("away") for _ in range(10**6)]
    bench.table.failures = away
    bench.limits = attrs.evolve(FAST, retry_initial_s=30, retry_max_s=60)
    bench.source.feed([frame_of(candle(minute)) for minute in range(5)])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: bool(bench.table.batches))
        away.clear()  # it is back, and the worker still waits
        bench.stop.set()
    assert worker.counts.written == 5


async def test_what_the_last_write_does_not_bring_home_stays_in_the_journal(bench: Bench) -> None:
    bench.table.failures = [Unavailable("away") for _ in range(10**6)]
    bench.limits = attrs.evolve(FAST, retry_initial_s=30, retry_max_s=60)
    bench.source.feed([frame_of(candle(minute)) for minute in range(5)])
    async with bench.running() as worker:
        await bench.until(worker, lambda counts: bool(bench.table.batches))
        before = len(bench.table.batches)
    assert len(bench.table.batches) == before + 1
    assert (worker.counts.written, worker.in_journal) == (0, 5)
    assert "SHUTDOWN_GRACE_OVER\n" not in bench.lines
