"""Points back into the messages they were."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ravenwh.domain.messages import (
    Funding,
    Liquidation,
    Message,
    OpenInterest,
    OrderBook,
    PriceIndex,
    Ticker,
    Trade,
)
from ravenwh.staging.identity import MILLISECOND, venue_time
from ravenwh.staging.measurements import Measurement

__all__ = ["message_of"]


def message_of(measurement: Measurement, row: Sequence[Any]) -> Message | None:
    """The message of a row: its time, then the columns of the measurement; written, the same point.

    A book has the one level a side that was kept. None where a field is missing that every message
    has, as somebody else has written it.
    """
    columns = (*measurement.tags, *(field.name for field in measurement.fields))
    values = dict(zip(columns, row[1:], strict=True))
    if None in [values[field.name] for field in measurement.fields if not field.optional]:
        return None
    said = {
        "venue": values.pop("exchange"),
        "symbol": values.pop(measurement.symbol_tag),
        "event_time": venue_time(row[0]) if measurement.of_events else row[0],
    }
    if None in said.values() or None in [values[t] for t in measurement.tags if t in values]:
        return None
    return _MESSAGES[measurement.name](**said, **values)


def _order_book(
    *, bid_price: float, bid_qty: float, ask_price: float, ask_qty: float, **more: Any
) -> OrderBook:
    said = {name: more[name] for name in ("venue", "symbol", "event_time")}
    return OrderBook(
        bids=((bid_price, bid_qty),), asks=((ask_price, ask_qty),), snapshot=True, **said
    )


def _funding(*, next_funding_time: int | None, **more: Any) -> Funding:
    at = None if next_funding_time is None else next_funding_time * MILLISECOND
    return Funding(next_funding_time=at, **more)


_MESSAGES: Mapping[str, Callable[..., Message]] = {
    "trades": Trade,
    "orderbook": _order_book,
    "funding_rate": _funding,
    "liquidation": Liquidation,
    "open_interest": OpenInterest,
    "options_ticker": Ticker,
    "price_index": PriceIndex,
}
