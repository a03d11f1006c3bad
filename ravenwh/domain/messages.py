"""The eight messages of the wire, as frozen values.

Every message carries ``venue`` (an exchange row's name: venue and market, ``BINANCE_FUTURES``),
``symbol`` (the venue's own token, ``BTCUSDT``), ``event_time`` (at the venue, nanoseconds since
1970-01-01 UTC) and ``producer`` (who published it). Times are integers in nanoseconds, UTC; numbers
are floats; integers are signed, of 64 bits; what a venue does not say is ``None``, never zero.
Units are the venue's own: the instrument register turns them into coins and quote units at the
table.

The tag of a message is its data type. Field names, their order and their types are normative in
``docs/reference/wire.md``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = [
    "DATA_TYPES",
    "Candle",
    "Funding",
    "Int64",
    "Level",
    "Liquidation",
    "Message",
    "OpenInterest",
    "OrderBook",
    "PriceIndex",
    "Side",
    "Ticker",
    "Trade",
]

Side = Literal["buy", "sell"]
Level = tuple[float, float]  # price, size
Int64 = Annotated[
    int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)
]  # what a column and a clock can hold


class _Base(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    venue: str
    symbol: str
    event_time: Int64
    producer: str = ""


class Trade(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="TRADE"):
    """One trade. ``side`` is the taker's; ``quantity`` in the venue's volume unit."""

    price: float
    quantity: float
    side: Side
    trade_id: str | None = None


class OrderBook(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="ORDERBOOK"):
    """A whole book (``snapshot``) or a change of one; size 0 takes a level away.

    Bids come highest first, asks lowest first. ``sequence`` is the venue's own update number.
    """

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    snapshot: bool
    sequence: Int64 | None = None


class Candle(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="CANDLE"):
    """A kline, or, where ``parameters_hash`` is given, a bar of the profile ``interval``.

    ``open_time`` is the start of the period, ``close_time`` its last instant. The fields from
    ``parameters_hash`` on belong to bars: ``parameters`` are those of the profile, by name;
    ``bar_seq`` numbers, from 0, the bars of a series that open in the same microsecond.
    """

    interval: str
    open_time: Int64
    close_time: Int64
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None = None
    trade_count: Int64 | None = None
    taker_buy_volume: float | None = None
    taker_buy_quote_volume: float | None = None
    closed: bool = True
    parameters_hash: str | None = None
    parameters: dict[str, float | int | str] | None = None
    bar_seq: Int64 = 0
    buy_ticks: Int64 | None = None
    sell_ticks: Int64 | None = None
    total_ticks: Int64 | None = None
    theta: float | None = None
    vpin: float | None = None
    buy_volume: float | None = None
    sell_volume: float | None = None
    after_gap: bool = False


class Funding(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="FUNDING"):
    """A funding rate: the fraction paid at ``next_funding_time``, with the prices beside it."""

    rate: float
    mark_price: float | None = None
    index_price: float | None = None
    next_funding_time: Int64 | None = None


class Liquidation(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="LIQUIDATION"):
    """A forced order; ``side`` is the order's, ``quantity`` in the venue's volume unit."""

    price: float
    quantity: float
    side: Side


class OpenInterest(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="OPEN_INTEREST"):
    """Open interest in the venue's volume unit, and its value in quote units where it is said."""

    open_interest: float
    open_interest_value: float | None = None


class Ticker(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="TICKER"):
    """The state of one option. Implied volatilities are fractions a year (0.65 = 65 %)."""

    open_interest: float | None = None
    mark_iv: float | None = None
    best_bid_price: float | None = None
    best_ask_price: float | None = None
    mark_price: float | None = None
    underlying_price: float | None = None
    last_price: float | None = None
    bid_iv: float | None = None
    ask_iv: float | None = None


class PriceIndex(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="PRICE_INDEX"):
    """The price of an index; ``symbol`` is the index's name at the venue (``btc_usd``)."""

    price: float


Message = Trade | OrderBook | Candle | Funding | Liquidation | OpenInterest | Ticker | PriceIndex

DATA_TYPES: dict[str, type[Message]] = {
    str(cls.__struct_config__.tag): cls
    for cls in (
        Trade,
        OrderBook,
        Candle,
        Funding,
        Liquidation,
        OpenInterest,
        Ticker,
        PriceIndex,
    )
}
