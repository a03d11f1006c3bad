"""The facts of bars: which one a bar belongs to, and how it becomes a row; one entry a fact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import sqlalchemy as sa

from ravenwh.domain.instrument import Instrument
from ravenwh.domain.messages import Candle
from ravenwh.schema import BARS
from ravenwh.warehouse.bar_rows import tick_bar_values, volume_bar_values, vpin_values

__all__ = ["BAR_FACTS", "BarFact"]


@attrs.frozen(kw_only=True)
class BarFact:
    """One fact of bars: its name, how a message becomes a row, and what of it is in coins.

    ``in_coins`` are the columns, beside volume, whose numbers are per one unit of the symbol's
    multiplier.
    """

    name: str
    to_values: Callable[[Candle, Instrument], tuple[Any, ...]]
    in_coins: tuple[str, ...] = ()

    @property
    def table(self) -> sa.Table:
        """Where its bars are."""
        return BARS[self.name]


BAR_FACTS: Mapping[str, BarFact] = {
    "tib": BarFact(name="tick_imbalance", to_values=tick_bar_values),
    "trb": BarFact(name="tick_run", to_values=tick_bar_values),
    "vib": BarFact(name="volume_imbalance", to_values=volume_bar_values, in_coins=("theta",)),
    "vpin": BarFact(name="vpin", to_values=vpin_values, in_coins=("buy_volume", "sell_volume")),
}
"""The facts by the kind of their profiles."""
