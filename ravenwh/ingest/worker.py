"""From frames to rows: journal, decode, batch, commit, acknowledge."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

import attrs
from loguru import logger

from ravenwh.domain.errors import (
    DecodeError,
    JournalFull,
    RavenwhError,
    Rejected,
    Unavailable,
)
from ravenwh.domain.messages import Candle, Message
from ravenwh.ingest.batch import Batch, write_isolated
from ravenwh.ingest.cadence import Cadence
from ravenwh.ingest.intake import Intake
from ravenwh.ingest.limits import Counts, Limits
from ravenwh.ingest.repair import Repair
from ravenwh.ingest.sequences import Sequences
from ravenwh.ingest.silence import Silence
from ravenwh.ingest.told import Told
from ravenwh.ports import (
    DeadLetters,
    Decoder,
    Entry,
    Frame,
    GapLedger,
    Holding,
    Journal,
    Meter,
    Position,
    Resender,
    Sink,
    Source,
    Stream,
)

__all__ = ["Worker"]

MessageT = TypeVar("MessageT", bound=Message)
ResultT = TypeVar("ResultT")

MEASURED = 64  # messages of a batch whose clock is looked at, about


def _no_position(frame: Frame) -> Position | None:
    return None


@attrs.define(kw_only=True)
class Worker(Generic[MessageT]):
    """Takes frames from the source to the sink through the journal, until it is told to stop.

    One task only receives and journals, so that an outage of the sink is absorbed by the disk; one
    task writes what is in the journal, live frames and those of an earlier run alike.
    ``wants`` picks the messages that belong to this sink, all others are ignored and counted;
    ``holding`` holds some of them back until their turn.
    ``position_of`` reads the number of a frame; with a ``ledger``, and a ``resender`` to ask the
    publishers of ``feeds``, a third task repairs what the numbers show to be missing. ``cadence``
    does it for klines without numbers, by their times; ``silence`` alarms where nothing comes.
    """

    source: Source
    decode: Decoder
    wants: Callable[[Message], bool]
    sink: Sink[MessageT]
    journal: Journal
    dead_letters: DeadLetters
    limits: Limits = attrs.field(factory=Limits)
    holding: Holding[MessageT] | None = None
    cadence: Cadence | None = None
    position_of: Callable[[Frame], Position | None] = _no_position
    resender: Resender | None = None
    ledger: GapLedger | None = None
    feeds: Sequence[str] = ()
    silence: Silence | None = None
    meter: Meter | None = None
    counts: Counts = attrs.field(factory=Counts, init=False)
    _intake: Intake = attrs.field(init=False)
    _repair: Repair | None = attrs.field(init=False)
    _told: Told = attrs.field(factory=Told, init=False)
    _away: str | None = attrs.field(default=None, init=False)
    _lag_s: float = attrs.field(default=0.0, init=False)
    _complete: bool = attrs.field(default=False, init=False)
    _cursor: int = attrs.field(default=0, init=False)
    _batch: Batch[MessageT] = attrs.field(factory=Batch, init=False)

    @_intake.default
    def _make_intake(self) -> Intake:
        return Intake(
            source=self.source,
            journal=self.journal,
            limits=self.limits,
            counts=self.counts,
            sequences=Sequences(self.journal.positions(), position_of=self.position_of),
            silence=self.silence,
        )

    @_repair.default
    def _make_repair(self) -> Repair | None:
        if self.ledger is None or self.resender is None:
            return None
        return Repair(
            journal=self.journal,
            intake=self._intake,
            resender=self.resender,
            ledger=self.ledger,
            feeds=self.feeds,
            late_s=0.0 if self.cadence is None else self.cadence.grace_s,
        )

    def connected(self, feed: str) -> None:
        """A connection of the feed was made; to be told on the loop of ``run``."""
        if self._repair is not None:
            self._repair.connected(feed)

    def forget(self, is_forgotten: Callable[[Stream], bool]) -> None:
        """What these streams sent until now is not owed to us; what they send from now on is.

        Raises JournalFull and Unavailable.
        """
        if self.cadence is not None:
            self.cadence.forget(is_forgotten)
        self._intake.forget(is_forgotten)

    async def run(self, stop: asyncio.Event) -> Counts:
        """Work until ``stop`` is set; then write what is in hand within the grace time.

        What the grace time does not suffice for stays in the journal, and so does what a part that
        is away does not take at one last try. Raises what a part raises
        that waiting does not mend; the other tasks end with it.
        """
        self._recover()
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write_all(stop), name="write")
            readers = [tasks.create_task(self._intake.run(), name="receive")]
            if self._repair is not None:
                readers.append(tasks.create_task(self._repair.run(), name="repair"))
            if self.silence is not None:
                readers.append(tasks.create_task(self._watch(self.silence), name="watch"))
            await stop.wait()
            for reader in readers:
                reader.cancel()
            await asyncio.wait(readers)
            await self._intake.drain()
            self._complete = True
            self._intake.arrived.set()
            await asyncio.wait([writer], timeout=self.limits.shutdown_grace_s)
            if writer.cancel():
                logger.bind(in_journal=self.in_journal).warning("SHUTDOWN_GRACE_OVER")
        return self.counts

    @property
    def in_journal(self) -> int:
        """Frames that are journaled and not settled: the last term of the identity of Counts."""
        held = 0 if self.holding is None else len(self.holding)
        return self.journal.last - self._cursor + held + len(self._batch)

    async def _watch(self, silence: Silence) -> None:
        """Look for silent streams, again and again."""
        while True:
            await asyncio.sleep(self.limits.watch_every_s)
            silence.check(time.time_ns())

    @property
    def troubles(self) -> list[str]:
        """Why the work does not go on as it should, for readiness; nothing where it does."""
        away = [] if self._away is None else [f"what is written to is away: {self._away}"]
        stuck = [] if (why := self._intake.refused) is None else [f"nothing is received: {why}"]
        return away + stuck + ([] if self.silence is None else self.silence.troubles)

    @property
    def lag_s(self) -> float:
        """Seconds from socket to commit of the oldest frame of the last batch."""
        return self._lag_s

    @property
    def oldest_unwritten_s(self) -> float:
        """Age of the oldest frame that waits to be written; open klines wait for their end."""
        waiting = self._batch.entries[:1] or self.journal.read(self._cursor, 1, 1)
        return (time.time_ns() - waiting[0][1].received_at) / 1e9 if waiting else 0.0

    def _recover(self) -> None:
        """Start behind what is acknowledged, with the klines that were held."""
        held = self.journal.held()
        self._cursor = self.journal.acknowledged
        self.counts.recovered = len(held) + self.journal.last - self._cursor
        if self.counts.recovered:
            logger.bind(frames=self.counts.recovered, held=len(held)).info("JOURNAL_RECOVERED")
        for entry in held:
            self._take(entry)

    async def _write_all(self, stop: asyncio.Event) -> None:
        """Work the journal off, batch by batch, until no more comes and nothing is left."""
        while True:
            entries = self.journal.read(
                self._cursor,
                max(1, self.limits.batch_rows - len(self._batch)),
                self.limits.batch_bytes - self._batch.bytes,
            )
            for entry in entries:
                self._take(entry)
            if entries:
                self._cursor = entries[-1][0]
            waits = self.holding is not None and self.holding.is_waiting
            if (entries or waits or len(self._batch)) and self._batch.opened_at is None:
                self._batch.opened_at = time.monotonic()
            if self._batch.is_due(self.limits, ending=self._complete and not entries):
                if not await self._flush(stop):
                    return
            elif entries:
                await asyncio.sleep(0)  # the reader's turn between two chunks
            elif self._complete:
                return
            else:
                await self._wait()

    async def _wait(self) -> None:
        """Until frames arrive, or the open batch is old enough."""
        self._intake.arrived.clear()
        opened = self._batch.opened_at
        timeout = None if opened is None else opened + self.limits.flush_after_s - time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._intake.arrived.wait()

    def _take(self, entry: Entry) -> None:
        """Decode one frame and put it where it belongs."""
        try:
            message = self.decode(entry[1])
        except (DecodeError, Rejected) as error:
            self._batch.add_dead(entry, error)
            return
        if message is None or not self.wants(message):
            self.counts.ignored += 1
            return
        if self.cadence is not None and isinstance(message, Candle):
            self.cadence.offer(entry[1], message)
        wanted = cast(MessageT, message)
        if self.holding is None:
            self._batch.add(entry, wanted)
            return
        final, folded = self.holding.offer(entry, wanted)
        self.counts.folded += folded
        for one in final:
            self._batch.add(*one)

    async def _flush(self, stop: asyncio.Event) -> bool:
        """Commit the batch, then settle it in the journal; false where stop ended the tries."""
        held: Sequence[Entry] = ()
        if self.holding is not None:
            for one in self.holding.passed(self._cursor == self.journal.last):
                self._batch.add(*one)
            held = self.holding.held()
        batch = self._batch
        began = time.monotonic()
        result = await self._tried(lambda: write_isolated(self.sink, batch.messages), stop)
        if result is None:
            return False
        dead = batch.dead + [(batch.entries[i], error) for i, error in result.rejected]
        if not await self._tried(lambda: self._settle(dead, held), stop):
            return False  # written, but in the journal: the next start writes it again, unchanged
        self._intake.room.set()
        self._measure(batch, time.monotonic() - began)
        self._batch = Batch()
        self.counts.written += result.written
        self.counts.unchanged += result.unchanged
        self.counts.folded += result.folded
        self.counts.expired += result.expired
        self.counts.dead += len(dead)
        self._told.tell(dead)
        if batch.messages or dead:
            logger.bind(
                written=result.written,
                unchanged=result.unchanged,
                folded=result.folded,
                expired=result.expired,
                dead=len(dead),
                took_ms=round((time.monotonic() - began) * 1000, 1),
            ).info("BATCH_WRITTEN")
        return True

    def _measure(self, batch: Batch[MessageT], took_s: float) -> None:
        """Tell the meter of a batch that was settled; of the clocks some of its messages."""
        if not batch.entries:
            return
        self._lag_s = (time.time_ns() - batch.entries[0][1].received_at) / 1e9
        if self.meter is None:
            return
        self.meter.wrote(rows=len(batch), took_s=took_s)
        every = max(1, len(batch.entries) // MEASURED)
        for (_, frame), message in zip(
            batch.entries[::every], batch.messages[::every], strict=True
        ):
            self.meter.offset(message.venue, (frame.received_at - message.event_time) / 1e9)

    async def _settle(
        self, dead: Sequence[tuple[Entry, RavenwhError]], held: Sequence[Entry]
    ) -> bool:
        """Tell the journal what became of the batch, and what the times of its klines show."""
        self.dead_letters.put(dead)
        if self.cadence is not None:
            seen = self.cadence.seen(time.time_ns(), self.journal.gaps)
            self._intake.note(seen.positions, seen.gaps)
            if seen.replaced:
                self.journal.settle_gaps(seen.replaced)
            self.cadence.kept()
        self.journal.acknowledge(self._cursor, held)
        return True

    async def _tried(
        self, action: Callable[[], Awaitable[ResultT]], stop: asyncio.Event
    ) -> ResultT | None:
        """Do it until what it needs is there; none where it is away at one try after the stop."""
        backoff = self.limits.backoff()
        while True:
            is_last = stop.is_set()
            try:
                result = await action()
            except (JournalFull, Unavailable) as error:
                self._away = str(error)
                if self.meter is not None:
                    self.meter.retried(type(error).__name__)
                await backoff.wait(error, stop)
                if is_last:
                    return None
            else:
                self._away = None
                return result
