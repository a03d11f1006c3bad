"""What a symbol stands for: one instrument, as the register ``dim__symbol`` holds it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

import attrs

__all__ = ["Contract", "Instrument", "OptionTerms", "VolumeUnit"]


class Contract(StrEnum):
    """The kind of an instrument. Only spot and perpetual ones have klines in the mart.

    An index is no contract: its symbol names a price that nobody trades.
    """

    SPOT = "spot"
    PERPETUAL = "perpetual"
    DATED = "dated"
    OPTION = "option"
    INDEX = "index"


@attrs.frozen(kw_only=True)
class VolumeUnit:
    """What a venue counts volume in.

    ``kind`` is ``coin``, ``quote`` or ``contract``; for contracts, ``size`` is the amount one
    contract stands for and ``of`` whether that amount is in coins (linear) or quote units
    (inverse). Contracts without a size are of a size that nobody told. ``second`` is what the
    venue's klines hold where others have the quote volume: inverse ones hold coins there.
    """

    kind: Literal["coin", "quote", "contract"] = "coin"
    size: float | None = None
    of: Literal["coin", "quote"] | None = None
    second: Literal["coin", "quote"] = "quote"

    @property
    def is_known(self) -> bool:
        """Whether volumes can be converted: false for contracts of unknown size."""
        return self.kind != "contract" or (self.size is not None and self.of is not None)


@attrs.frozen(kw_only=True)
class OptionTerms:
    """Strike and kind of an option; its expiry is the instrument's.

    The strike is in units of ``strike_in``, which is not always the quote: Deribit's BTC options
    have strikes in USD and are priced in BTC.
    """

    strike: float
    strike_in: str
    kind: Literal["call", "put"]


@attrs.frozen(kw_only=True)
class Instrument:
    """One instrument of one exchange (a venue **and market**, ``BINANCE_FUTURES``).

    ``multiplier`` is how many coins one unit of price and volume stands for (1000 for
    ``1000PEPEUSDT``, whose coin is PEPE). ``expiry`` is set for dated and option contracts, to the
    hour where the venue has a fixed one and else to the start of the day. ``listed_at`` and
    ``delisted_at`` bound, half-open, the time in which the symbol means this instrument. All times
    are aware UTC.
    """

    exchange: str
    symbol: str
    coin: str
    quote: str
    contract: Contract
    multiplier: float = 1.0
    volume_unit: VolumeUnit = VolumeUnit()
    expiry: datetime | None = None
    option: OptionTerms | None = None
    listed_at: datetime | None = None
    delisted_at: datetime | None = None

    @property
    def has_series(self) -> bool:
        """Whether it has a series in the mart under its own coin: spot and perpetual ones do."""
        return self.contract in (Contract.SPOT, Contract.PERPETUAL)
