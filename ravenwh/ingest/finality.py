"""When a kline is final: which versions of it go to the table, and which are only held."""

from __future__ import annotations

from ravenwh.domain.messages import Candle
from ravenwh.ports import Entry

__all__ = ["Finality"]

Stream = tuple[str, str, str]  # venue, symbol, interval
Held = tuple[Entry, Candle]


class Finality:
    """Holds the latest version of each open kline until it is final.

    A kline is final when it is flagged closed, when a later ``open_time`` came on its stream, or
    when the venue's clock (its highest ``event_time``) passed its close by ``grace_ns``. So the
    klines of a history burst are final at once, and a closed version that comes later is a
    correction like any other.
    """

    def __init__(self, *, grace_ns: int) -> None:
        self._grace_ns = grace_ns
        self._open: dict[Stream, Held] = {}
        self._newest: dict[Stream, int] = {}
        self._clock: dict[str, int] = {}

    def offer(self, entry: Entry, candle: Candle) -> tuple[list[Held], int]:
        """Take one version; what became final through it, and how many versions it replaced."""
        stream = (candle.venue, candle.symbol, candle.interval)
        if candle.event_time > self._clock.get(candle.venue, 0):
            self._clock[candle.venue] = candle.event_time
        newest = self._newest.get(stream, 0)
        if candle.open_time > newest:
            self._newest[stream] = candle.open_time
        held = self._open.get(stream)
        if held is None:
            if candle.closed or candle.open_time < newest:
                return [(entry, candle)], 0
            self._open[stream] = (entry, candle)
            return [], 0
        if candle.open_time < held[1].open_time:
            return [(entry, candle)], 0
        if candle.open_time == held[1].open_time:
            if candle.closed:
                del self._open[stream]
                return [(entry, candle)], 1
            if candle.event_time >= held[1].event_time:
                self._open[stream] = (entry, candle)
            return [], 1
        if candle.closed:
            del self._open[stream]
            return [held, (entry, candle)], 0
        self._open[stream] = (entry, candle)
        return [held], 0

    def passed(self) -> list[Held]:
        """Held klines whose close the venue's clock has passed by the grace; they are let go."""
        final = [
            stream
            for stream, (_, candle) in self._open.items()
            if self._clock.get(candle.venue, 0) > candle.close_time + self._grace_ns
        ]
        return [self._open.pop(stream) for stream in final]

    def held(self) -> list[Entry]:
        """The entries of the klines that are held, in no order."""
        return [entry for entry, _ in self._open.values()]

    def __len__(self) -> int:
        return len(self._open)
