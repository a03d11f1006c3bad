"""Which bars are made and written, of which symbols."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import attrs

from ravenwh.domain.settings.ingest import SYMBOLS
from ravenwh.domain.settings.kinds import Kind, Text, Texts
from ravenwh.domain.settings.option import Named, Section, option, optional
from ravenwh.domain.settings.routing import FEED_NAME, VENUE

__all__ = ["Bars", "Parameter"]

PROFILE = Text(
    pattern="[a-z]{1,20}(_[a-z0-9]{1,20}){0,3}",
    rule="the kind of bar, an underscore and a name of your own, as in tib_small",
)
PARAMETER = Text(pattern="[a-z][a-z_]{0,39}", rule="the name of a parameter")


@attrs.frozen(kw_only=True)
class Parameter(Kind[float]):
    """A parameter of bars: whole or not, as it is written. Its bounds are its kind's."""

    @property
    def allowed(self) -> str:
        """Any."""
        return "a finite number"

    def read(self, value: object) -> float:
        """Whole numbers stay whole."""
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf:
            return value
        raise self.unfit(value)


@attrs.frozen(kw_only=True)
class Bars(Section):
    """What runners.make_bars makes of trades, and what runners.bar writes."""

    venues: tuple[str, ...] | None = optional(
        Texts(item=VENUE, least=1),
        absent="those of binance_klines",
        help="The venues whose bars are made and written.",
        example=["BINANCE_FUTURES"],
    )
    symbols: tuple[str, ...] | None = optional(
        SYMBOLS,
        absent="those of binance_klines",
        help="The symbols whose bars are made and written.",
        example=["BTC/USDT", "ETH/USDT"],
    )
    feed: str | None = optional(
        FEED_NAME,
        absent="bars come from the feed of each venue's CANDLE, and runners.make_bars cannot start",
        help="The feed that runners.make_bars publishes at, and runners.bar reads.",
        example="bars",
    )
    profiles: Mapping[str, Mapping[str, float]] = option(
        Named(name=PROFILE, item=Named(name=PARAMETER, item=Parameter())),
        default=MappingProxyType({}),
        help="The bars that runners.make_bars makes: by name, their parameters. A name begins with "
        "the kind of bar: tib, trb, vib or vpin. Changed parameters need another name.",
        example={
            "tib_small": {"expected_ticks": 400, "least_imbalance": 0.05},
            "vpin_btc": {"bucket_volume": 100.0},
        },
    )
