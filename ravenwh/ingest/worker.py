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
    TooLarge,
    Unavailable,
)
from ravenwh.domain.messages import Candle, Message
from ravenwh.ingest.finality import Finality
from ravenwh.ingest.intake import Intake
from ravenwh.ingest.limits import Counts, Limits
from ravenwh.ports import DeadLetters, Decoder, Entry, Journal, Sink, Source, WriteResult

__all__ = ["Worker"]

MessageT = TypeVar("MessageT", bound=Message)
ResultT = TypeVar("ResultT")

TOLD = 10_000  # causes of dead letters that are remembered as told
LONGEST_TOPIC = 200  # bytes of a topic in a log line


@attrs.define
class _Batch(Generic[MessageT]):
    """Decoded messages that wait for a commit, with the entries they came from."""

    entries: list[Entry] = attrs.field(factory=list)
    messages: list[MessageT] = attrs.field(factory=list)
    dead: list[tuple[Entry, RavenwhError]] = attrs.field(factory=list)
    bytes: int = 0
    opened_at: float | None = None
    """When the first entry was taken up, dead and ignored ones included; monotonic."""

    def __len__(self) -> int:
        return len(self.messages) + len(self.dead)

    def add(self, entry: Entry, message: MessageT) -> None:
        self.entries.append(entry)
        self.messages.append(message)
        self.bytes += entry[1].size

    def add_dead(self, entry: Entry, error: RavenwhError) -> None:
        self.dead.append((entry, error))
        self.bytes += entry[1].size


@attrs.define(kw_only=True)
class Worker(Generic[MessageT]):
    """Takes frames from the source to the sink through the journal, until it is told to stop.

    One task only receives and journals, so that an outage of the sink is absorbed by the disk; one
    task writes what is in the journal, live frames and those of an earlier run alike.
    ``wants`` picks the messages that belong to this sink, all others are ignored and counted.
    """

    source: Source
    decode: Decoder
    wants: Callable[[Message], bool]
    sink: Sink[MessageT]
    journal: Journal
    dead_letters: DeadLetters
    limits: Limits = attrs.field(factory=Limits)
    finality: Finality | None = None
    counts: Counts = attrs.field(factory=Counts, init=False)
    _intake: Intake = attrs.field(init=False)
    _told: set[tuple[str, bytes, str]] = attrs.field(factory=set, init=False)
    _complete: bool = attrs.field(default=False, init=False)
    _cursor: int = attrs.field(default=0, init=False)
    _batch: _Batch[MessageT] = attrs.field(factory=_Batch, init=False)

    @_intake.default
    def _make_intake(self) -> Intake:
        return Intake(
            source=self.source, journal=self.journal, limits=self.limits, counts=self.counts
        )

    async def run(self, stop: asyncio.Event) -> Counts:
        """Work until ``stop`` is set; then write what is in hand within the grace time.

        What the grace time does not suffice for stays in the journal, and so does what a part that
        is away does not take at one last try. Raises what a part raises
        that waiting does not mend; the other tasks end with it.
        """
        self._recover()
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self._intake.run(), name="receive")
            writer = tasks.create_task(self._write_all(stop), name="write")
            await stop.wait()
            reader.cancel()
            await asyncio.wait([reader])
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
        held = 0 if self.finality is None else len(self.finality)
        return self.journal.last - self._cursor + held + len(self._batch)

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
                if self._batch.opened_at is None:
                    self._batch.opened_at = time.monotonic()
            if self._is_due(ending=self._complete and not entries):
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

    def _is_due(self, *, ending: bool) -> bool:
        batch = self._batch
        return batch.opened_at is not None and (
            ending
            or len(batch) >= self.limits.batch_rows
            or batch.bytes >= self.limits.batch_bytes
            or time.monotonic() - batch.opened_at >= self.limits.flush_after_s
        )

    def _take(self, entry: Entry) -> None:
        """Decode one frame and put it where it belongs."""
        try:
            message = self.decode(entry[1])
        except DecodeError as error:
            self._batch.add_dead(entry, error)
            return
        if not self.wants(message):
            self.counts.ignored += 1
        elif self.finality is not None and isinstance(message, Candle):
            final, replaced = self.finality.offer(entry, message)
            self.counts.folded += replaced
            for final_entry, candle in final:
                self._batch.add(final_entry, cast(MessageT, candle))
        else:
            self._batch.add(entry, cast(MessageT, message))

    async def _flush(self, stop: asyncio.Event) -> bool:
        """Commit the batch, then settle it in the journal; false where stop ended the tries."""
        held: Sequence[Entry] = ()
        if self.finality is not None:
            for entry, candle in self.finality.passed():
                self._batch.add(entry, cast(MessageT, candle))
            held = self.finality.held()
        batch = self._batch
        began = time.monotonic()
        result = await self._tried(lambda: self._write_isolated(batch.messages), stop)
        if result is None:
            return False
        dead = batch.dead + [(batch.entries[i], error) for i, error in result.rejected]
        if not await self._tried(lambda: self._settle(dead, held), stop):
            return False  # written, but in the journal: the next start writes it again, unchanged
        self._intake.room.set()
        self._batch = _Batch()
        self.counts.written += result.written
        self.counts.unchanged += result.unchanged
        self.counts.folded += result.folded
        self.counts.dead += len(dead)
        self._tell_dead(dead)
        if batch.messages or dead:
            logger.bind(
                written=result.written,
                unchanged=result.unchanged,
                folded=result.folded,
                dead=len(dead),
                took_ms=round((time.monotonic() - began) * 1000, 1),
            ).info("BATCH_WRITTEN")
        return True

    def _tell_dead(self, letters: Sequence[tuple[Entry, RavenwhError]]) -> None:
        """One line for each cause on each topic, the first time; the batch's line has the count."""
        for (_, frame), error in letters:
            cause = (frame.feed, frame.topic[:LONGEST_TOPIC], type(error).__name__)
            if cause in self._told:
                continue
            if len(self._told) >= TOLD:
                self._told.clear()
            self._told.add(cause)
            topic = cause[1].decode("utf-8", "replace")
            logger.bind(feed=frame.feed, topic=topic, reason=str(error)).warning("DEAD_LETTER")

    async def _settle(
        self, dead: Sequence[tuple[Entry, RavenwhError]], held: Sequence[Entry]
    ) -> bool:
        """Tell the journal what became of the batch."""
        self.dead_letters.put(dead)
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
                return await action()
            except (JournalFull, Unavailable) as error:
                await backoff.wait(error, stop)
                if is_last:
                    return None

    async def _write_isolated(self, messages: Sequence[MessageT]) -> WriteResult:
        """Write, halving where the sink refuses the whole, until it is down to the refused ones."""
        if not messages:
            return WriteResult()
        try:
            return await self.sink.write(messages)
        except (Rejected, TooLarge) as error:
            if len(messages) == 1:
                return WriteResult(rejected=((0, error),))
        middle = len(messages) // 2
        first = await self._write_isolated(messages[:middle])
        second = await self._write_isolated(messages[middle:])
        return first.followed_by(second, after=middle)
