"""The seven measurements: their tags and fields, and which streams feed them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

__all__ = ["MEASUREMENTS", "STREAMS", "Field", "Measurement", "Stream"]


@attrs.frozen
class Field:
    """One value of a point, and what it means.

    ``kind`` is its type in InfluxDB, for good: the first point decides it for a bucket. An
    ``optional`` one is left out where the venue does not say it, never zero.
    """

    name: str
    meaning: str
    kind: type[float | int | str] = float
    optional: bool = False


@attrs.frozen(kw_only=True)
class Measurement:
    """What a point has. ``tags`` are in the order in which InfluxDB keeps them.

    ``data_type`` is that of the messages that become its points. A measurement ``of_events`` (with
    the tag ``side``) has a slot in the time of its points; the others are states: there is one a
    series and time, the last that came.
    """

    name: str
    data_type: str
    tags: tuple[str, ...]
    fields: tuple[Field, ...]
    meaning: str

    @property
    def of_events(self) -> bool:
        """Whether its points are things that happened, each of them one."""
        return "side" in self.tags

    @property
    def symbol_tag(self) -> str:
        """The tag that holds the symbol of a message."""
        return "index_name" if "index_name" in self.tags else "symbol"


def _said(name: str, meaning: str) -> Field:
    return Field(name, meaning, optional=True)


_PRICE = Field("price", "in quote units")
_QUANTITY = Field("quantity", "in the venue's volume unit")

MEASUREMENTS: Mapping[str, Measurement] = MappingProxyType(
    {
        measurement.name: measurement
        for measurement in (
            Measurement(
                name="trades",
                data_type="TRADE",
                tags=("exchange", "side", "symbol"),
                fields=(
                    _PRICE,
                    _QUANTITY,
                    Field("trade_id", "as the venue writes it", kind=str, optional=True),
                ),
                meaning="One trade; the side is the taker's.",
            ),
            Measurement(
                name="orderbook",
                data_type="ORDERBOOK",
                tags=("exchange", "symbol"),
                fields=(
                    Field("bid_price", "the best bid, in quote units"),
                    Field("bid_qty", "what is bid there, in the venue's volume unit"),
                    Field("ask_price", "the best ask, in quote units"),
                    Field("ask_qty", "what is asked there, in the venue's volume unit"),
                    Field("spread", "`ask_price - bid_price`"),
                    Field("mid_price", "`(bid_price + ask_price) / 2`"),
                    Field("imbalance", "`bid_qty / (bid_qty + ask_qty)`, from 0 to 1"),
                ),
                meaning="Best bid and ask after a change of the book, where both are known.",
            ),
            Measurement(
                name="funding_rate",
                data_type="FUNDING",
                tags=("exchange", "symbol"),
                fields=(
                    Field("rate", "the fraction that is paid"),
                    _said("mark_price", "in quote units"),
                    _said("index_price", "in quote units"),
                    Field("next_funding_time", "milliseconds since 1970", kind=int, optional=True),
                ),
                meaning="A funding rate, with the prices beside it.",
            ),
            Measurement(
                name="liquidation",
                data_type="LIQUIDATION",
                tags=("exchange", "side", "symbol"),
                fields=(_PRICE, _QUANTITY),
                meaning="One forced order; the side is the order's.",
            ),
            Measurement(
                name="open_interest",
                data_type="OPEN_INTEREST",
                tags=("exchange", "symbol"),
                fields=(
                    Field("open_interest", "in the venue's volume unit"),
                    _said("open_interest_value", "in quote units"),
                ),
                meaning="What is open in a contract.",
            ),
            Measurement(
                name="options_ticker",
                data_type="TICKER",
                tags=("exchange", "symbol"),
                fields=(
                    _said("open_interest", "in the venue's volume unit"),
                    _said("mark_iv", "implied volatility, a fraction a year: 0.65 is 65 %"),
                    _said("best_bid_price", "in quote units"),
                    _said("best_ask_price", "in quote units"),
                    _said("mark_price", "in quote units"),
                    _said("underlying_price", "in units of the strike"),
                    _said("last_price", "in quote units"),
                    _said("bid_iv", "as `mark_iv`, of the best bid"),
                    _said("ask_iv", "as `mark_iv`, of the best ask"),
                ),
                meaning="The state of one option; at least one field is there.",
            ),
            Measurement(
                name="price_index",
                data_type="PRICE_INDEX",
                tags=("exchange", "index_name"),
                fields=(Field("price", "in quote units"),),
                meaning="The price of an index of a venue.",
            ),
        )
    }
)
"""By name."""


@attrs.frozen
class Stream:
    """What a venue publishes, and where it goes.

    Of one that ``starts_by_itself`` all of the market's symbols are collected from the start; of
    the others each symbol is started by the settings or by control.
    """

    name: str
    venue: str
    data_type: str
    starts_by_itself: bool = False

    @property
    def measurement(self) -> Measurement:
        """Where its messages go."""
        return next(m for m in MEASUREMENTS.values() if m.data_type == self.data_type)


STREAMS: tuple[Stream, ...] = (
    Stream("binance_spot", "BINANCE_SPOT", "TRADE"),
    Stream("binance_spot", "BINANCE_SPOT", "ORDERBOOK"),
    Stream("binance_futures", "BINANCE_FUTURES", "TRADE"),
    Stream("binance_futures", "BINANCE_FUTURES", "ORDERBOOK"),
    Stream("binance_futures_funding", "BINANCE_FUTURES", "FUNDING", True),
    Stream("binance_futures_liquidations", "BINANCE_FUTURES", "LIQUIDATION", True),
    Stream("binance_futures_oi", "BINANCE_FUTURES", "OPEN_INTEREST", True),
    Stream("binance_options", "BINANCE_OPTIONS", "TICKER", True),
    Stream("deribit_option", "DERIBIT", "TICKER", True),
    Stream("deribit_trades", "DERIBIT", "TRADE", True),
    Stream("deribit_index", "DERIBIT", "PRICE_INDEX", True),
)
"""The streams that are known by name; those of other venues go by their data type."""
