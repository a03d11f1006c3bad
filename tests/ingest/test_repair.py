"""What did not arrive is asked for again, and what nobody has is noted, on a real journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

from ravenwh.domain.errors import Unavailable
from ravenwh.feed import wire
from ravenwh.ingest.intake import Intake
from ravenwh.ingest.limits import Counts, Limits
from ravenwh.ingest.repair import Repair
from ravenwh.ingest.sequences import Sequences
from ravenwh.journal import Store
from ravenwh.ports import Frame, Gap

EPOCH = 1_704_067_200_000_000_000
TOPIC = b"BINANCE_SPOT:CANDLE:BTCUSDT "
PATIENCE_S = 60.0


def frame(seq: int, *, epoch: int = EPOCH, topic: bytes = TOPIC) -> Frame:
    return Frame("main", topic, wire.header(epoch, seq), b"%d" % seq, EPOCH)


def seq_of(frame: Frame) -> int:
    return wire.parse_header(frame.header).seq


@attrs.define(kw_only=True)
class Ring:
    """A publisher's ring: the frames it can send again, a few at a time."""

    frames: list[Frame] = attrs.field(factory=list)
    is_away: bool = False
    piece: int = 3
    asked: int = 0

    def sent(self, numbers: Iterable[int], *, epoch: int = EPOCH, keep: int = 10**9) -> list[Frame]:
        new = [frame(seq, epoch=epoch) for seq in numbers]
        if new and self.frames and wire.position(self.frames[0]) != (epoch, 1):
            self.frames = [f for f in self.frames if wire.parse_header(f.header).epoch == epoch]
        self.frames = (self.frames + new)[-keep:]
        return new

    async def positions(self, feed: str) -> dict[bytes, tuple[int, int, int]]:
        self.asked += 1
        if self.is_away:
            raise Unavailable("the publisher does not answer")
        found: dict[bytes, tuple[int, int, int]] = {}
        for kept in self.frames:
            epoch, seq = wire.parse_header(kept.header)
            oldest = found[kept.topic][1] if kept.topic in found else seq
            found[kept.topic] = (epoch, oldest, seq)
        return found

    async def resend(
        self, feed: str, topic: bytes, epoch: int, first: int, last: int
    ) -> list[Frame]:
        if self.is_away:
            raise Unavailable("the publisher does not answer")
        fitting = [
            kept
            for kept in self.frames
            if kept.topic == topic
            and wire.parse_header(kept.header).epoch == epoch
            and first <= seq_of(kept) <= last
        ]
        return fitting[: self.piece]


class Silent:
    """A source from which nothing comes: frames are put by the test."""

    async def receive(self, limit: int) -> list[Frame]:
        await asyncio.Event().wait()
        return []

    def close(self) -> None:
        pass


@attrs.define(kw_only=True)
class Ledger:
    """Keeps gaps by their key, as the table does."""

    rows: dict[tuple[object, ...], Gap] = attrs.field(factory=dict)
    is_away: bool = False
    asked: int = 0
    changed: asyncio.Event = attrs.field(factory=asyncio.Event)

    def _key(self, gap: Gap) -> tuple[object, ...]:
        return (gap.feed, gap.topic, gap.epoch, gap.first_seq, gap.start_time)

    async def note(self, gaps: Sequence[Gap]) -> None:
        self.asked += 1
        if self.is_away:
            raise Unavailable("the database is away")
        self.rows |= {self._key(gap): gap for gap in gaps}
        self.changed.set()

    async def repaired(self, gaps: Sequence[Gap]) -> None:
        for gap in gaps:
            if (row := self.rows.get(self._key(gap))) is not None:
                self.rows[self._key(gap)] = attrs.evolve(row, repaired_at=gap.repaired_at)
                self.changed.set()

    @property
    def ranges(self) -> list[tuple[int | None, int | None, int | None]]:
        return [(gap.first_seq, gap.last_seq, gap.missing) for gap in self.rows.values()]


@attrs.define(kw_only=True)
class Bench:
    """An intake and its repair, on a journal in a file."""

    path: Path
    ring: Ring = attrs.field(factory=Ring)
    ledger: Ledger = attrs.field(factory=Ledger)
    patience_s: float = 60.0
    late_s: float = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Intake, Repair]]:
        store = Store(self.path)
        intake = Intake(
            source=Silent(),
            journal=store,
            limits=Limits(),
            counts=Counts(),
            sequences=Sequences(store.positions(), position_of=wire.position),
        )
        repair = Repair(
            journal=store,
            intake=intake,
            resender=self.ring,
            ledger=self.ledger,
            feeds=["main"],
            ask_every_s=0.01,
            patience_s=self.patience_s,
            late_s=self.late_s,
            on_its_way_s=0.0,
        )
        task = asyncio.create_task(repair.run())
        try:
            yield intake, repair
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            store.close()

    def numbers(self, epoch: int = EPOCH) -> list[int]:
        """The numbers in the journal, sorted, repeated ones included."""
        store = Store(self.path)
        entries = store.read(0, 10_000, 1 << 30)
        store.close()
        return sorted(
            seq_of(kept) for _, kept in entries if wire.parse_header(kept.header).epoch == epoch
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(path=tmp_path / "j.sqlite")


async def rounds(ring: Ring, count: int = 3) -> None:
    """Wait until the publisher was asked so many times more."""
    until = ring.asked + count
    async with asyncio.timeout(PATIENCE_S):
        while ring.asked < until:  # noqa: ASYNC110  a turn of the loop, not a time
            await asyncio.sleep(0)


async def test_a_jump_is_filled_piece_by_piece(bench: Bench) -> None:
    frames = bench.ring.sent(range(1, 21))
    async with bench.running() as (intake, _):
        await intake.put([*frames[:4], *frames[15:]])
        await rounds(bench.ring)
        assert intake.journal.gaps() == []
    assert bench.numbers() == list(range(1, 21))
    assert bench.ledger.rows == {}
    assert intake.counts.resent == 11


async def test_what_the_ring_no_longer_has_is_noted_once(bench: Bench) -> None:
    frames = bench.ring.sent(range(1, 21), keep=8)  # 13 to 20
    async with bench.running() as (intake, _):
        await intake.put([*frames[:4], *frames[18:]])
        await rounds(bench.ring)
        assert intake.journal.gaps() == []
    assert bench.numbers() == [1, 2, 3, 4, *range(13, 21)]
    assert bench.ledger.ranges == [(5, 12, 8)]
    assert intake.counts.missing == 8


async def test_the_downtime_of_a_runner_is_repaired_at_its_start(bench: Bench) -> None:
    frames = bench.ring.sent(range(1, 6))
    async with bench.running() as (intake, _):
        await intake.put(frames)
    bench.ring.sent(range(6, 31))
    async with bench.running() as (intake, _):
        await rounds(bench.ring)
    assert bench.numbers() == list(range(1, 31))
    assert bench.ledger.rows == {}


async def test_a_runner_that_was_down_longer_than_the_ring_notes_what_is_gone(
    bench: Bench,
) -> None:
    frames = bench.ring.sent(range(1, 6))
    async with bench.running() as (intake, _):
        await intake.put(frames)
    bench.ring.sent(range(6, 101), keep=10)
    async with bench.running() as (intake, _):
        await rounds(bench.ring)
    assert bench.numbers() == [1, 2, 3, 4, 5, *range(91, 101)]
    assert bench.ledger.ranges == [(6, 90, 85)]


@attrs.define(kw_only=True)
class Outrun(Ring):
    """A ring that is overrun, or whose publisher is restarted, just when it is asked."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def resend(
        self, feed: str, topic: bytes, epoch: int, first: int, last: int
    ) -> list[Frame]:
        if self.meanwhile is not None:
            happen, self.meanwhile = self.meanwhile, None
            await happen()
        return await super().resend(feed, topic, epoch, first, last)


async def test_frames_that_come_while_the_ring_is_overrun_are_no_gap(tmp_path: Path) -> None:
    ring = Outrun()
    bench = Bench(path=tmp_path / "j.sqlite", ring=ring)
    async with bench.running() as (intake, _):
        await intake.put(ring.sent(range(1, 6)))
    ring.sent(range(6, 11))
    async with bench.running() as (intake, _):

        async def overrun() -> None:
            await intake.put(ring.sent(range(11, 13)))
            ring.sent((), keep=1)

        ring.meanwhile = overrun
        await rounds(ring)
        await intake.put(ring.sent([13]))
        await rounds(ring)
        assert intake.counts.missing == 5
    assert bench.numbers() == [1, 2, 3, 4, 5, 11, 12, 13]
    assert bench.ledger.ranges == [(6, 10, 5)]


async def test_what_a_restarted_publisher_had_left_to_resend_is_noted_and_moves_nothing(
    tmp_path: Path,
) -> None:
    ring = Outrun()
    bench = Bench(path=tmp_path / "j.sqlite", ring=ring)
    async with bench.running() as (intake, _):
        await intake.put(ring.sent(range(1, 6)))
    ring.sent(range(6, 11))
    async with bench.running() as (intake, _):

        async def restart() -> None:
            await intake.put(ring.sent(range(1, 4), epoch=EPOCH + 1))

        ring.meanwhile = restart
        await rounds(ring)
        assert intake.sequences["main", TOPIC] == (EPOCH + 1, 3)
    assert bench.numbers() == [1, 2, 3, 4, 5]
    assert bench.numbers(EPOCH + 1) == [1, 2, 3]
    assert bench.ledger.ranges == [(6, 10, 5)]


async def test_the_last_frames_are_missed_without_one_behind_them(bench: Bench) -> None:
    frames = bench.ring.sent(range(1, 11))
    async with bench.running() as (intake, _):
        await intake.put(frames[:10])
        await rounds(bench.ring)
        bench.ring.sent(range(11, 15))  # and they never arrive
        await rounds(bench.ring)
    assert bench.numbers() == list(range(1, 15))


async def test_what_was_sent_before_the_first_subscription_is_fetched_but_not_owed(
    bench: Bench,
) -> None:
    bench.ring.sent(range(1, 21), keep=5)
    async with bench.running() as (intake, _):
        await intake.put([frame(20)])
        await rounds(bench.ring)
        assert intake.journal.gaps() == []
    assert bench.numbers() == list(range(16, 21))
    assert bench.ledger.rows == {}


async def test_a_restarted_publisher_is_no_gap(bench: Bench) -> None:
    frames = bench.ring.sent(range(1, 6))
    async with bench.running() as (intake, _):
        await intake.put(frames)
        again = bench.ring.sent(range(1, 9), epoch=EPOCH + 1)
        await intake.put(again[4:])  # the first four went by before the subscription
        await rounds(bench.ring)
    assert bench.numbers() == [1, 2, 3, 4, 5]
    assert bench.numbers(EPOCH + 1) == list(range(1, 9))
    assert bench.ledger.rows == {}


async def test_a_silent_publishers_gap_is_noted_and_repaired_when_it_answers(
    tmp_path: Path,
) -> None:
    bench = Bench(path=tmp_path / "j.sqlite", patience_s=-1.0)
    frames = bench.ring.sent(range(1, 11))
    bench.ring.is_away = True
    async with bench.running() as (intake, _):
        await intake.put([*frames[:2], *frames[6:]])
        async with asyncio.timeout(PATIENCE_S):
            await bench.ledger.changed.wait()
        assert bench.ledger.ranges == [(3, 6, 4)]
        bench.ledger.changed.clear()
        bench.ring.is_away = False
        async with asyncio.timeout(PATIENCE_S):
            await bench.ledger.changed.wait()
        await rounds(bench.ring, 1)
        assert intake.journal.gaps() == []
    (gap,) = bench.ledger.rows.values()
    assert gap.repaired_at is not None
    assert bench.numbers() == list(range(1, 11))


async def test_a_gap_outlives_the_process_and_the_database(bench: Bench) -> None:
    frames = bench.ring.sent(range(1, 11), keep=2)
    bench.ledger.is_away = True
    async with bench.running() as (intake, _):
        await intake.put([*frames[:3], *frames[8:]])
        await rounds(bench.ring)
        assert len(intake.journal.gaps()) == 1
    bench.ledger.is_away = False
    async with bench.running() as (intake, _):
        await rounds(bench.ring)
        assert intake.journal.gaps() == []
    assert bench.ledger.ranges == [(4, 8, 5)]


async def test_a_publisher_whose_clock_was_set_back_is_believed(bench: Bench) -> None:
    async with bench.running() as (intake, _):
        await intake.put([frame(5, epoch=EPOCH + 10)])  # no number 1, which would tell it
        bench.ring.sent(range(1, 9), keep=6)
        await rounds(bench.ring, 4)
        assert intake.sequences["main", TOPIC] == (EPOCH, 8)
    assert bench.numbers() == list(range(3, 9))
    assert bench.ledger.rows == {}


async def test_a_number_that_was_never_sent_does_not_hide_what_is_missing(bench: Bench) -> None:
    frames = bench.ring.sent(range(1, 9))
    async with bench.running() as (intake, _):
        await intake.put([*frames, frame(2**62)])
        await rounds(bench.ring, 4)
        assert intake.sequences["main", TOPIC] == (EPOCH, 8)
        frames = bench.ring.sent(range(9, 15), keep=2)
        await intake.put(frames[-1:])
        await rounds(bench.ring, 4)
    assert [*range(1, 9), 13, 14] == [seq for seq in bench.numbers() if seq < 2**62]
    assert (9, 12, 4) in bench.ledger.ranges


async def test_a_database_that_is_away_is_asked_once_a_round(bench: Bench) -> None:
    bench.ledger.is_away = True
    bench.ring.sent(range(1, 201), keep=1)
    async with bench.running() as (intake, _):
        await intake.put([frame(seq) for seq in range(1, 200, 2)])
        await rounds(bench.ring, 4)
        assert bench.ledger.asked <= bench.ring.asked
        assert len(intake.journal.gaps()) == 99
    bench.ledger.is_away = False
    async with bench.running() as (intake, _):
        await rounds(bench.ring, 3)
        assert intake.journal.gaps() == []
    assert sum(missing or 0 for *_, missing in bench.ledger.ranges) == 99


async def test_what_was_called_off_is_fetched_but_not_owed(bench: Bench) -> None:
    frames = bench.ring.sent(range(1, 6))
    async with bench.running() as (intake, _):
        await intake.put(frames)
        intake.forget(lambda stream: stream == ("main", TOPIC))
        bench.ring.sent(range(6, 31), keep=5)
    async with bench.running() as (intake, _):  # it is as durable as any position
        await rounds(bench.ring)
        assert intake.counts.missing == 0
    assert bench.numbers() == [1, 2, 3, 4, 5, *range(26, 31)]
    assert bench.ledger.rows == {}


async def test_a_gap_without_numbers_is_noted_when_nothing_more_can_come_late(
    bench: Bench,
) -> None:
    bench.late_s = 1000.0
    now = time.time_ns()
    name = b"BINANCE_SPOT:CANDLE:BTCUSDT 1m"
    gaps = [
        Gap(feed="main", topic=name, start_time=at, end_time=at + 1, missing=1, reason="",
            detected_at=now - age * 10**9)
        for at, age in ((7, 1001), (9, 900))
    ]  # fmt: skip
    async with bench.running() as (intake, _):
        intake.note({}, gaps)
        await rounds(bench.ring)
        assert [gap.start_time for _, gap in intake.journal.gaps()] == [9]
    assert [gap.start_time for gap in bench.ledger.rows.values()] == [7]


async def test_a_gap_that_was_filled_late_while_others_were_asked_for_is_not_noted(
    tmp_path: Path,
) -> None:
    ring = Outrun()
    bench = Bench(path=tmp_path / "j.sqlite", ring=ring, late_s=0.5)
    async with bench.running() as (intake, _):
        now = time.time_ns()
        gaps = [
            Gap(feed="main", topic=TOPIC, epoch=EPOCH, first_seq=1, last_seq=2, missing=2,
                reason="", detected_at=now),
            Gap(feed="main", topic=b"BINANCE_SPOT:CANDLE:BTCUSDT 1m", start_time=7, end_time=8,
                missing=1, reason="", detected_at=now),
        ]  # fmt: skip

        async def fill() -> None:
            ((_, _), (number, _)) = intake.journal.gaps()
            intake.journal.settle_gaps([number])
            while time.time_ns() < now + 600_000_000:  # noqa: ASYNC110  what ripens tells nobody
                await asyncio.sleep(0)

        ring.meanwhile = fill
        intake.note({}, gaps)
        await rounds(ring)
        assert intake.journal.gaps() == []
    assert bench.ledger.ranges == [(1, 2, 2)]
