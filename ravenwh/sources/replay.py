"""A replay: tracks are sent through a ``publish`` it is given, at a chosen pace, and counted.

At full speed the tracks are sent one after the other, in the order given. At a pace, their messages
are merged by event time, as they came about: the tracks of one series (same venue, symbol and
interval) follow each other as given, and the series run beside each other.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterator,
    Sequence,
)
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import attrs

from ravenwh.domain.messages import Candle, Message
from ravenwh.domain.series import TimeRange
from ravenwh.sources.report import Part, Report, counted
from ravenwh.sources.vision import OnBad

__all__ = ["Replay", "Subject", "Track"]

T = TypeVar("T")

Subject = tuple[str, str, str]
"""Venue, data type and symbol: what a subscriber subscribes to."""

_PROGRESS_EVERY = 500  # messages
_AT_ONCE = 500  # messages that are read before the first of them is sent


class Track(Protocol):
    """Something that can be sent: a Vision file, a range of a simulated market, stored ticks.

    ``noun`` is what its messages are called in a report; ``interval`` is set for klines.
    """

    @property
    def venue(self) -> str:
        """The exchange row's name."""

    @property
    def symbol(self) -> str:
        """The venue's own; of several, how many they are."""

    @property
    def subjects(self) -> Collection[Subject]:
        """What its messages are."""

    @property
    def interval(self) -> str | None:
        """The code of the interval of klines."""

    @property
    def noun(self) -> str:
        """Such as ``klines``."""

    @property
    def origin(self) -> Path | str:
        """The file that it comes from, or the name of what else that is."""

    def check(self) -> int:
        """Whether it can be read to its end, and at most how many messages it has.

        0 where that cannot be known.
        """

    def messages(self, on_bad: OnBad, /) -> Iterator[Message]:
        """Its messages, in its own order; it may block, and is run in a thread."""


@attrs.define
class _Tally:
    """The counts of one series while it is sent."""

    tracks: list[Track]
    sent: int = 0
    bad: int = 0
    outside: int = 0

    @property
    def done(self) -> int:
        return self.sent + self.bad + self.outside

    def part(self) -> Part:
        first = self.tracks[0]
        files = {track.origin for track in self.tracks if isinstance(track.origin, Path)}
        return Part(
            noun=first.noun,
            venue=first.venue,
            symbol=first.symbol,
            interval=first.interval,
            origin=counted(len(files), "file") if files else str(first.origin),
            sent=self.sent,
            bad=self.bad,
            outside=self.outside,
        )


@attrs.frozen(kw_only=True)
class Replay:
    """Sends tracks once, and reports what was sent.

    ``publish`` takes one message and returns when it is handed over, waiting where a subscriber is
    slow; ``wait_for_subscribers`` returns when all subjects have one, or raises. ``speed`` is
    seconds of event time a second, None for as fast as it goes. ``span`` leaves out klines that
    open, and trades that happened, outside it. ``on_bad`` is told of each bad row, ``on_progress``
    now and then of how many rows are done, and of ``rows``, at most how many there are.
    ``stop_grace_s`` is how long a message that is being handed over may still take when the replay
    is told to stop.
    """

    tracks: Sequence[Track]
    publish: Callable[[Message], Awaitable[None]]
    wait_for_subscribers: Callable[[Collection[Subject]], Awaitable[None]]
    on_bad: OnBad
    rows: int = 0
    on_progress: Callable[[int, int], None] = lambda done, rows: None
    speed: float | None = None
    span: TimeRange | None = None
    stop_grace_s: float = 1.0

    @property
    def subjects(self) -> frozenset[Subject]:
        """What is sent."""
        return frozenset(subject for track in self.tracks for subject in track.subjects)

    async def run(self, stop: asyncio.Event) -> Report:
        """Wait for the subscribers, send, and report; ends early once ``stop`` is set.

        What ``publish`` or ``wait_for_subscribers`` raise goes through.
        """
        tallies = self._tallies()
        sending = asyncio.create_task(self._send(tallies, stop), name="replay")
        stopping = asyncio.create_task(stop.wait(), name="replay-stop")
        try:
            await asyncio.wait({sending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                await asyncio.wait({sending}, timeout=self.stop_grace_s)
        finally:
            sending.cancel()
            stopping.cancel()
            await asyncio.gather(sending, stopping, return_exceptions=True)
        complete = False if sending.cancelled() else sending.result()
        return Report(
            parts=tuple(tally.part() for tally in tallies.values()), interrupted=not complete
        )

    def _tallies(self) -> dict[tuple[str, ...], _Tally]:
        """The tracks by series, both in the order given."""
        tallies: dict[tuple[str, ...], _Tally] = {}
        for track in self.tracks:
            tallies.setdefault(_series(track), _Tally([])).tracks.append(track)
        return tallies

    async def _send(self, tallies: dict[tuple[str, ...], _Tally], stop: asyncio.Event) -> bool:
        """Whether it came to the end."""
        await self.wait_for_subscribers(self.subjects)
        pace = None if self.speed is None else _Pace(self.speed, asyncio.get_running_loop().time)
        unreported = 0
        async with aclosing(_in_a_thread(self._in_order(tallies))) as ordered:
            async for tally, message in ordered:
                if pace is not None and (wait_s := pace.wait_s(message.event_time)) > 0:
                    self._progress(tallies)
                    unreported = 0
                    await _sleep(wait_s, stop)
                if stop.is_set():
                    return False
                await self.publish(message)
                tally.sent += 1
                unreported += 1
                if unreported == _PROGRESS_EVERY:
                    self._progress(tallies)
                    unreported = 0
        self._progress(tallies)
        return True

    def _progress(self, tallies: dict[tuple[str, ...], _Tally]) -> None:
        self.on_progress(sum(tally.done for tally in tallies.values()), self.rows)

    def _in_order(
        self, tallies: dict[tuple[str, ...], _Tally]
    ) -> Generator[tuple[_Tally, Message]]:
        if self.speed is None:
            for track in self.tracks:
                yield from self._of_track(track, tallies[_series(track)])
            return
        series = [self._of_tracks(tally) for tally in tallies.values()]
        yield from heapq.merge(*series, key=lambda one: one[1].event_time)

    def _of_tracks(self, tally: _Tally) -> Iterator[tuple[_Tally, Message]]:
        for track in tally.tracks:
            yield from self._of_track(track, tally)

    def _of_track(self, track: Track, tally: _Tally) -> Iterator[tuple[_Tally, Message]]:
        def on_bad(label: str, line: int, reason: str) -> None:
            tally.bad += 1
            self.on_bad(label, line, reason)

        messages = track.messages(on_bad)
        if self.span is None:
            for message in messages:
                yield tally, message
            return
        start, end = self.span.start_ns, self.span.end_ns
        for message in messages:
            at = message.open_time if isinstance(message, Candle) else message.event_time
            if start <= at < end:
                yield tally, message
            else:
                tally.outside += 1


async def _in_a_thread(ordered: Generator[T]) -> AsyncGenerator[T]:
    """The same, read in a thread, some hundred at a time: a file or a server may be slow."""
    asked: asyncio.Task[list[T]] | None = None
    try:
        while True:
            asked = asyncio.create_task(asyncio.to_thread(list, islice(ordered, _AT_ONCE)))
            found = await asyncio.shield(asked)
            if not found:
                return
            for one in found:
                yield one
    finally:
        if asked is not None and not asked.done():
            await asyncio.gather(asked, return_exceptions=True)  # at work, it cannot be closed
        ordered.close()


@attrs.define
class _Pace:
    """When each message is due: measured from the first one, so that it never drifts."""

    speed: float
    now_s: Callable[[], float]
    first: tuple[int, float] | None = None

    def wait_s(self, event_time: int) -> float:
        """Seconds until it is due, below 0 if it is late."""
        if self.first is None:
            self.first = (event_time, self.now_s())
        event_0, now_0 = self.first
        return now_0 + (event_time - event_0) / 1e9 / self.speed - self.now_s()


async def _sleep(seconds: float, stop: asyncio.Event) -> None:
    """Sleep, but no longer than until ``stop`` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


def _series(track: Track) -> tuple[str, ...]:
    return track.noun, track.venue, track.symbol, track.interval or ""
