"""The JSON objects of cryptofeed, as it writes them, one struct for each key.

They are read leniently: a number may be a text (``numeric_type=str``), and what is null may be a
text that stands for null (``none_to``). Times are seconds, or milliseconds from Bybit in 2.5.
Fields that no message of ours has are not named, and so not read.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ravenwh.domain.messages import Side

__all__ = [
    "Book",
    "Candle",
    "Funding",
    "Index",
    "Liquidation",
    "OpenInterest",
    "Optional",
    "OrdersBook",
    "Payload",
    "PayloadT",
    "Ticker",
    "Trade",
]

Optional = float | str | None
"""A number, or null, or a text that stands for either."""


class _Base(msgspec.Struct, frozen=True):
    exchange: str
    symbol: str
    timestamp: float
    receipt_timestamp: float


class Trade(_Base, frozen=True):
    """``trades``."""

    side: Side
    amount: float
    price: float
    id: str | None


class Ticker(_Base, frozen=True):
    """``ticker``: best bid and ask, 0 where there is none."""

    bid: float
    ask: float


class Candle(_Base, frozen=True):
    """``candles``. In 2.5 Bybit's ``trades`` is whether the candle is closed."""

    start: float
    stop: float
    interval: str
    trades: int | float | bool | str | None
    open: float
    high: float
    low: float
    close: float
    volume: float
    closed: bool


class Funding(_Base, frozen=True):
    """``funding``. Its ``predicted_rate`` is a price on Binance, and no field of ours."""

    rate: Optional
    mark_price: Optional
    next_funding_time: Optional


class OpenInterest(_Base, frozen=True):
    """``open_interest``."""

    open_interest: float


class Liquidation(_Base, frozen=True):
    """``liquidations``."""

    side: Side
    quantity: float
    price: float


class Index(_Base, frozen=True):
    """``index``, which takes a subclass of two lines on cryptofeed's side."""

    price: float


class _Levels(msgspec.Struct, frozen=True):
    bid: dict[float, float]
    ask: dict[float, float]


class _Changes(msgspec.Struct, frozen=True):
    bid: list[tuple[float, float]]
    ask: list[tuple[float, float]]


class Book(_Base, frozen=True):
    """``book``, by price: all levels, or the changed ones."""

    book: _Levels | None = None
    delta: _Changes | None = None


class _Orders(msgspec.Struct, frozen=True):
    bid: dict[float, dict[str, float]]
    ask: dict[float, dict[str, float]]


class _ChangedOrders(msgspec.Struct, frozen=True):
    bid: list[tuple[str | int, float, float]]
    ask: list[tuple[str | int, float, float]]


class OrdersBook(_Base, frozen=True):
    """``book``, order by order (L3): by price and order, or rows of order, price and size."""

    book: _Orders | None = None
    delta: _ChangedOrders | None = None


Payload = Trade | Ticker | Candle | Funding | OpenInterest | Liquidation | Index | Book | OrdersBook
PayloadT = TypeVar("PayloadT", bound=Payload)
