"""From what cryptofeed says to our messages; books are the decoder's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ravenwh.domain.errors import DecodeError
from ravenwh.domain.messages import (
    Candle,
    Funding,
    Liquidation,
    Message,
    OpenInterest,
    PriceIndex,
    Ticker,
    Trade,
)
from ravenwh.feed.cryptofeed import payloads

__all__ = ["BUILD", "PRODUCER", "ns"]

PRODUCER = "cryptofeed"

_LAST_S = 9.2e9  # in the year 2261: what an integer of 64 bits can hold in nanoseconds
_FIRST_MS, _LAST_MS = 1e11, 9.2e12  # in the years 1973 and 2261
_NO_CLOCK_NS = 60_000_000_000
"""No venue's clock is ahead by so much: such a time is one to come."""

_MOST = 2**63 - 1
_NOTHING = frozenset({"", "None", "none", "NONE", "null", "NULL", "nan", "NaN"})
"""What ``none_to`` may have put where cryptofeed has nothing to say."""


def ns(at: float) -> int:
    """Nanoseconds of a time in seconds or milliseconds, to the microsecond. Raises DecodeError.

    A double has no more than a microsecond of a time in seconds, and less than that is noise: so
    it is rounded, never cut off.
    """
    if 0.0 <= at <= _LAST_S:
        return round(at * 1e6) * 1000
    if _FIRST_MS <= at <= _LAST_MS:
        return round(at * 1e3) * 1000
    raise DecodeError(f"time: found {at}, allowed are seconds or milliseconds since 1970")


def _trade(said: payloads.Trade, venue: str, symbol: str) -> Trade:
    return Trade(
        venue=venue,
        symbol=symbol,
        event_time=ns(said.timestamp),
        producer=PRODUCER,
        price=said.price,
        quantity=said.amount,
        side=said.side,
        trade_id=None if said.id in _NOTHING else said.id,
    )


def _candle(said: payloads.Candle, venue: str, symbol: str) -> Candle:
    """The flag ``closed`` is believed only from the end of the period on.

    OKX has a volume in its place, which is true of any kline with trades. Bybit of 2.5 has the
    flag in the place of the count of trades.
    """
    event_time, close_time = ns(said.timestamp), ns(said.stop)
    is_closed = said.closed or said.trades is True
    return Candle(
        venue=venue,
        symbol=symbol,
        event_time=event_time,
        producer=PRODUCER,
        interval=said.interval,
        open_time=ns(said.start),
        close_time=close_time,
        open=said.open,
        high=said.high,
        low=said.low,
        close=said.close,
        volume=said.volume,
        trade_count=_count(said.trades),
        closed=is_closed and event_time >= close_time,
    )


def _funding(said: payloads.Funding, venue: str, symbol: str) -> Funding | None:
    """None where there is no rate, as for contracts with an expiry.

    OKX and Huobi have the time of the payment where the others have the time of the message.
    """
    rate = _number("rate", said.rate)
    if rate is None:
        return None
    event_time, received_at = ns(said.timestamp), ns(said.receipt_timestamp)
    paid_at = _number("next_funding_time", said.next_funding_time)
    next_time = None if paid_at is None else ns(paid_at)
    if event_time - received_at > _NO_CLOCK_NS:
        event_time, next_time = received_at, event_time
    return Funding(
        venue=venue,
        symbol=symbol,
        event_time=event_time,
        producer=PRODUCER,
        rate=rate,
        mark_price=_number("mark_price", said.mark_price),
        next_funding_time=next_time,
    )


def _liquidation(said: payloads.Liquidation, venue: str, symbol: str) -> Liquidation:
    return Liquidation(
        venue=venue,
        symbol=symbol,
        event_time=ns(said.timestamp),
        producer=PRODUCER,
        price=said.price,
        quantity=said.quantity,
        side=said.side,
    )


def _open_interest(said: payloads.OpenInterest, venue: str, symbol: str) -> OpenInterest:
    return OpenInterest(
        venue=venue,
        symbol=symbol,
        event_time=ns(said.timestamp),
        producer=PRODUCER,
        open_interest=said.open_interest,
    )


def _ticker(said: payloads.Ticker, venue: str, symbol: str) -> Ticker:
    """Of an option; a price of 0 stands for none."""
    return Ticker(
        venue=venue,
        symbol=symbol,
        event_time=ns(said.timestamp),
        producer=PRODUCER,
        best_bid_price=said.bid or None,
        best_ask_price=said.ask or None,
    )


def _index(said: payloads.Index, venue: str, symbol: str) -> PriceIndex:
    return PriceIndex(
        venue=venue,
        symbol=symbol,
        event_time=ns(said.timestamp),
        producer=PRODUCER,
        price=said.price,
    )


BUILD: Mapping[type[payloads.Payload], Callable[[Any, str, str], Message | None]] = {
    payloads.Trade: _trade,
    payloads.Candle: _candle,
    payloads.Funding: _funding,
    payloads.Liquidation: _liquidation,
    payloads.OpenInterest: _open_interest,
    payloads.Ticker: _ticker,
    payloads.Index: _index,
}
"""From each payload but books to its message, by venue and own symbol."""


def _number(name: str, said: payloads.Optional) -> float | None:
    """A number that may be missing. Raises DecodeError."""
    if said is None or said in _NOTHING:
        return None
    try:
        return float(said)
    except ValueError:
        raise DecodeError(f"{name}: found {said!r:.40}, allowed is a number or null") from None


def _count(said: float | bool | str | None) -> int | None:
    """The number of trades, None where there is something else in its place."""
    if said is None or isinstance(said, bool):
        return None
    count = _number("trades", said)
    if count is None:
        return None
    if not (0 <= count <= _MOST and count.is_integer()):
        raise DecodeError(f"trades: found {said}, allowed is a whole number of them or null")
    return int(count)
