"""What the settings name: the dimension rows and register rows that must be there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import attrs

from ravenwh.domain.instrument import Instrument

__all__ = ["Seed"]


@attrs.frozen(kw_only=True)
class Seed:
    """Names for the dimensions beyond those of the instruments, and the instruments themselves."""

    exchanges: frozenset[str] = frozenset()
    intervals: Mapping[str, timedelta | None] = attrs.field(factory=dict)
    instruments: tuple[Instrument, ...] = ()

    def names(self) -> dict[str, frozenset[str]]:
        """All names, a dimension."""
        return {
            "coin": frozenset(i.coin for i in self.instruments),
            "quote": frozenset(i.quote for i in self.instruments),
            "exchange": self.exchanges | {i.exchange for i in self.instruments},
            "interval": frozenset(self.intervals),
        }
