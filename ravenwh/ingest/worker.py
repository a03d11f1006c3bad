"""From frames to rows: journal, decode, batch, commit, acknowledge."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
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
from ravenwh.ingest.backoff import Backoff
from ravenwh.ingest.finality import Finality
from ravenwh.ports import DeadLetters, Decoder, Entry, Frame, Journal, Sink, Source, WriteResult

__all__ = ["Counts", "Limits", "Worker"]

MessageT = TypeVar("MessageT", bound=Message)

QUIET_S = 0.1  # at the stop: a feed that is silent for so long has nothing more on its way to us
TOLD = 10_000  # causes of dead letters that are remembered as told
LONGEST_TOPIC = 200  # bytes of a topic in a log line
DRAIN_S = 1.0  # at the stop: a feed that is never silent is read no longer than this


@attrs.frozen(kw_only=True)
class Limits:
    """When a batch closes, and how long the worker waits for what is away. Times in seconds."""

    batch_rows: int = 5000
    batch_bytes: int = 4 << 20
    flush_after_s: float = 0.5
    receive_frames: int = 2000
    retry_initial_s: float = 0.1
    retry_max_s: float = 30.0
    shutdown_grace_s: float = 10.0

    def backoff(self) -> Backoff:
        """The waits for one thing that is away."""
        return Backoff(initial_s=self.retry_initial_s, max_s=self.retry_max_s)


@attrs.define
class Counts:
    """Frames since the start, by what became of them.

    ``received + recovered = written + unchanged + folded + dead + ignored``, and what is in the
    journal; ``lost`` counts frames that were in hand when the process was told to stop while the
    journal had no room for them.
    """

    received: int = 0
    recovered: int = 0
    written: int = 0
    unchanged: int = 0
    folded: int = 0
    dead: int = 0
    ignored: int = 0
    lost: int = 0


@attrs.define
class _Batch(Generic[MessageT]):
    """Decoded messages that wait for a commit, with the entries they came from."""

    entries: list[Entry] = attrs.field(factory=list)
    messages: list[MessageT] = attrs.field(factory=list)
    dead: list[tuple[Entry, RavenwhError]] = attrs.field(factory=list)
    bytes: int = 0
    opened_at: float | None = None
    """When the first entry was taken up, dead and ignored ones included; monotonic."""

    def add(self, entry: Entry, message: MessageT) -> None:
        self.entries.append(entry)
        self.messages.append(message)
        self.bytes += len(entry[1].payload)


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
    _arrived: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _room: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _told: set[tuple[str, bytes, str]] = attrs.field(factory=set, init=False)
    _complete: bool = attrs.field(default=False, init=False)
    _cursor: int = attrs.field(default=0, init=False)
    _batch: _Batch[MessageT] = attrs.field(factory=_Batch, init=False)

    async def run(self, stop: asyncio.Event) -> Counts:
        """Work until ``stop`` is set; then write what is in hand within the grace time.

        What the grace time does not suffice for stays in the journal. Raises what a part raises
        that waiting does not mend; the other tasks end with it.
        """
        self._recover()
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self._receive(), name="receive")
            writer = tasks.create_task(self._write_all(stop), name="write")
            await stop.wait()
            reader.cancel()
            await asyncio.wait([reader])
            await self._receive_rest()
            self._complete = True
            self._arrived.set()
            await asyncio.wait([writer], timeout=self.limits.shutdown_grace_s)
            if writer.cancel():
                logger.bind(in_journal=self.in_journal).warning("SHUTDOWN_GRACE_OVER")
        return self.counts

    @property
    def in_journal(self) -> int:
        """Frames that are journaled and not settled: the last term of the identity of Counts."""
        held = 0 if self.finality is None else len(self.finality)
        waiting = len(self._batch.messages) + len(self._batch.dead)
        return self.journal.last - self._cursor + held + waiting

    def _recover(self) -> None:
        """Start behind what is acknowledged, with the klines that were held."""
        held = self.journal.held()
        self._cursor = self.journal.acknowledged
        self.counts.recovered = len(held) + self.journal.last - self._cursor
        if self.counts.recovered:
            logger.bind(frames=self.counts.recovered, held=len(held)).info("JOURNAL_RECOVERED")
        for entry in held:
            self._take(entry)

    async def _receive(self) -> None:
        """Put frames into the journal, and stop reading while it has no room."""
        while True:
            frames = await self.source.receive(self.limits.receive_frames)
            while not self._journaled(frames):
                try:
                    await self._room.wait()
                except asyncio.CancelledError:
                    self._lost(frames)
                    raise
            self._arrived.set()

    async def _receive_rest(self) -> None:
        """Take what has already arrived at our end when stop was set; not what keeps coming."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while True:
                    async with asyncio.timeout(QUIET_S):
                        frames = await self.source.receive(self.limits.receive_frames)
                    if not self._journaled(frames):
                        self._lost(frames)
                        return

    def _lost(self, frames: list[Frame]) -> None:
        self.counts.lost += len(frames)
        logger.bind(frames=len(frames)).error("FRAMES_LOST")

    def _journaled(self, frames: list[Frame]) -> bool:
        """Whether the journal took the frames; an alarm says where it did not."""
        try:
            self.journal.append(frames)
        except JournalFull as error:
            logger.bind(reason=str(error)).error("JOURNAL_FULL")
            self._room.clear()
            return False
        self.counts.received += len(frames)
        return True

    async def _write_all(self, stop: asyncio.Event) -> None:
        """Work the journal off, batch by batch, until no more comes and nothing is left."""
        while True:
            entries = self.journal.read(
                self._cursor, max(1, self.limits.batch_rows - len(self._batch.messages))
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
        self._arrived.clear()
        opened = self._batch.opened_at
        timeout = None if opened is None else opened + self.limits.flush_after_s - time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._arrived.wait()

    def _is_due(self, *, ending: bool) -> bool:
        batch = self._batch
        return batch.opened_at is not None and (
            ending
            or len(batch.messages) >= self.limits.batch_rows
            or batch.bytes >= self.limits.batch_bytes
            or time.monotonic() - batch.opened_at >= self.limits.flush_after_s
        )

    def _take(self, entry: Entry) -> None:
        """Decode one frame and put it where it belongs."""
        try:
            message = self.decode(entry[1])
        except DecodeError as error:
            self._batch.dead.append((entry, error))
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
        result = await self._write(batch, stop)
        if result is None:
            return False
        dead = batch.dead + [(batch.entries[i], error) for i, error in result.rejected]
        self.dead_letters.put(dead)
        self.journal.acknowledge(self._cursor, held)
        self._room.set()
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

    async def _write(self, batch: _Batch[MessageT], stop: asyncio.Event) -> WriteResult | None:
        """Write until the sink took the batch; none where it was away and stop is set."""
        backoff = self.limits.backoff()
        while True:
            try:
                return await self._write_isolated(batch.messages)
            except Unavailable as error:
                await backoff.wait(error, stop)
                if stop.is_set():
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
