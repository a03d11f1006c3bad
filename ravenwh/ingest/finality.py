"""When a kline is final: which versions of it go to the table, and which are only held."""

from __future__ import annotations

from typing import TypeVar

from ravenwh.domain.messages import Candle
from ravenwh.domain.version import version_of
from ravenwh.ingest.limits import AHEAD_NS
from ravenwh.ports import Entry

__all__ = ["Finality"]

Stream = tuple[str, str, str]  # venue, symbol, interval
Held = tuple[Entry, Candle]
KeyT = TypeVar("KeyT")

REMEMBERED = 65_536
"""Streams (and venues) that are remembered. Beyond it the marks start again, at worst an old
version is held for a while; of the held klines, the one that waits longest is let go."""


class Finality:
    """Holds the latest version of each open kline until it is final.

    A kline is final when it is flagged closed, when a later ``open_time`` came on its stream, or
    when the venue's clock (its highest ``event_time``) passed its close by ``grace_ns``. So the
    klines of a history burst are final at once, and a closed version that comes later is a
    correction like any other.

    Of two open versions the one that the table would choose is held. A closed version goes before
    open ones, whichever comes first: an open version of the kline that closed last is replaced.
    """

    def __init__(self, *, grace_ns: int) -> None:
        self._grace_ns = grace_ns
        self._open: dict[Stream, Held] = {}
        self._newest: dict[Stream, int] = {}
        self._closed: dict[Stream, int] = {}
        self._clock: dict[str, int] = {}

    def offer(self, entry: Entry, candle: Candle) -> tuple[list[Held], int]:
        """Take one version; what became final through it, and how many versions it replaced."""
        latest = entry[1].received_at + AHEAD_NS
        if candle.open_time > latest or candle.event_time > latest:
            return [(entry, candle)], 0  # the sink has the word; it moves no clock here
        stream = (candle.venue, candle.symbol, candle.interval)
        newest = self._newest.get(stream, 0)
        _raise(self._clock, candle.venue, candle.event_time)
        _raise(self._newest, stream, candle.open_time)
        if candle.closed:
            _raise(self._closed, stream, candle.open_time)
        elif candle.open_time == self._closed.get(stream):
            return [], 1
        held = self._open.get(stream)
        if held is None:
            if candle.closed or candle.open_time < newest:
                return [(entry, candle)], 0
            self._open[stream] = (entry, candle)
            return self._beyond(), 0
        if candle.open_time < held[1].open_time:
            return [(entry, candle)], 0
        if candle.open_time == held[1].open_time:
            if candle.closed:
                del self._open[stream]
                return [(entry, candle)], 1
            if version_of(candle) >= version_of(held[1]):
                self._open[stream] = (entry, candle)
            return [], 1
        if candle.closed:
            del self._open[stream]
            return [held, (entry, candle)], 0
        self._open[stream] = (entry, candle)
        return [held], 0

    def _beyond(self) -> list[Held]:
        """What must be let go because too many streams have an open kline."""
        if len(self._open) <= REMEMBERED:
            return []
        return [self._open.pop(next(iter(self._open)))]

    def passed(self, is_end: bool = True, /) -> list[Held]:
        """Held klines whose close the venue's clock has passed by the grace; they are let go."""
        final = [
            stream
            for stream, (_, candle) in self._open.items()
            if self._clock.get(candle.venue, 0) > candle.close_time + self._grace_ns
        ]
        return [self._open.pop(stream) for stream in final]

    @property
    def is_waiting(self) -> bool:
        """Never: the clock of a venue is what it says itself."""
        return False

    def held(self) -> list[Entry]:
        """The entries of the klines that are held, in no order."""
        return [entry for entry, _ in self._open.values()]

    def __len__(self) -> int:
        return len(self._open)


def _raise(marks: dict[KeyT, int], key: KeyT, value: int) -> None:
    """Keep the highest value of each key, of a bounded number of keys."""
    if value > marks.get(key, 0):
        if len(marks) >= REMEMBERED and key not in marks:
            marks.clear()
        marks[key] = value
