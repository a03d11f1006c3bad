"""Stored ticks as something that a replay can send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import attrs

from ravenwh.domain.messages import Message
from ravenwh.staging.measurements import MEASUREMENTS
from ravenwh.staging.reading import Ticks

__all__ = ["TickTrack"]


@attrs.frozen(kw_only=True)
class TickTrack:
    """The points of a measurement and venue, of one symbol or of several, in order of their times.

    ``symbols`` are those that there are, of which one may be ``wanted`` alone.
    """

    ticks: Ticks
    measurement: str
    venue: str
    symbols: Sequence[str]
    wanted: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    interval: None = None
    origin: str = "InfluxDB"

    @classmethod
    def of(
        cls,
        ticks: Ticks,
        measurement: str,
        venue: str,
        symbol: str | None,
        start: datetime | None,
        end: datetime | None,
    ) -> TickTrack:
        """What the bucket has of it. Raises UnknownName where it has no point at all."""
        return cls(
            ticks=ticks,
            measurement=measurement,
            venue=venue,
            symbols=ticks.symbols(measurement, venue, symbol),
            wanted=symbol,
            start=start,
            end=end,
        )

    @property
    def noun(self) -> str:
        """Such as ``trades points``."""
        return f"{self.measurement} points"

    @property
    def symbol(self) -> str:
        """The one, or how many they are."""
        return self.symbols[0] if len(self.symbols) == 1 else f"{len(self.symbols)} symbols"

    @property
    def subjects(self) -> tuple[tuple[str, str, str], ...]:
        """One a symbol."""
        data_type = MEASUREMENTS[self.measurement].data_type
        return tuple((self.venue, data_type, symbol) for symbol in self.symbols)

    def check(self) -> int:
        """How many there are takes as long as reading them: 0."""
        return 0

    def messages(self, on_bad: object) -> Iterator[Message]:
        """The messages that they were; what somebody else has written is passed over."""
        for part in self.ticks.parts(
            self.measurement, self.wanted, self.venue, self.start, self.end
        ):
            yield from part
