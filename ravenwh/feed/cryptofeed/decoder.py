"""From cryptofeed's frames to our messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter

import attrs
import msgspec

from ravenwh.domain.errors import DecodeError
from ravenwh.domain.messages import Level, Message, OrderBook
from ravenwh.domain.register import Register
from ravenwh.domain.symbols.cryptofeed import EXCHANGES, is_option
from ravenwh.domain.symbols.reasons import misspelt, shown
from ravenwh.feed.cryptofeed import payloads, topics
from ravenwh.feed.cryptofeed.messages import BUILD, PRODUCER, ns
from ravenwh.feed.cryptofeed.orders import OrderLevels
from ravenwh.ports import Frame

__all__ = ["CryptofeedDecoder"]

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BOOKS = (payloads.Book, payloads.OrdersBook)

_price = itemgetter(0)


def _json(cls: type[payloads.PayloadT]) -> Callable[[bytes], payloads.PayloadT]:
    return msgspec.json.Decoder(cls, strict=False).decode


_DECODE: dict[str, Callable[[bytes], payloads.Payload]] = {
    "trades": _json(payloads.Trade),
    "book": _json(payloads.Book),
    "candles": _json(payloads.Candle),
    "funding": _json(payloads.Funding),
    "liquidations": _json(payloads.Liquidation),
    "open_interest": _json(payloads.OpenInterest),
    "ticker": _json(payloads.Ticker),
    "index": _json(payloads.Index),
}
_decode_orders = _json(payloads.OrdersBook)


@attrs.frozen(kw_only=True, eq=False)
class CryptofeedDecoder:
    """A Decoder of the cryptofeed wire.

    Exchange and symbol become a venue's row and its own symbol; an exchange that no rule here
    knows keeps its name, and its symbols theirs, for the settings to map. ``register`` decides
    where cryptofeed calls two symbols alike.

    Levels of order-by-order books (L3) are summed from the orders, which are remembered. What
    changes a book whose orders are not known comes as a whole book without levels, so that nobody
    goes on with levels that have passed.
    """

    register: Register
    _orders: OrderLevels = attrs.field(init=False, repr=False, factory=OrderLevels)

    def __call__(self, frame: Frame, /) -> Message | None:
        """The message; None for what is none of ours: plain tickers, and funding without a rate.

        Raises DecodeError for everything that is no frame of this wire, also where topic and
        payload name different things, and UnknownSymbol where the exchange is known here and none
        of its venues has such a symbol.
        """
        if frame.header:
            raise DecodeError("found a message of several parts, allowed is one")
        key, exchange, symbol = topics.parse(frame.topic)
        if key == "ticker" and symbol is not None and not is_option(symbol):
            return None
        said = self._said(key, frame.payload)
        if symbol is not None and (said.symbol != symbol or said.exchange != exchange):
            raise DecodeError(
                f"topic and payload differ: the topic names {exchange} {symbol}, the payload "
                f"{shown(said.exchange)} {shown(said.symbol)}"
            )
        if key == "ticker" and not is_option(said.symbol):
            return None
        venue, native = self._names(said.exchange, said.symbol)
        if isinstance(said, _BOOKS):
            return self._book(said, venue, native)
        return BUILD[type(said)](said, venue, native)

    def _said(self, key: str, payload: bytes) -> payloads.Payload:
        """The payload as cryptofeed wrote it."""
        try:
            return _DECODE[key](payload)
        except _UNREADABLE as error:
            if key == "book" and (found := _orders_book(payload)) is not None:
                return found
            raise DecodeError(f"payload: {error}") from error

    def _names(self, exchange: str, symbol: str) -> tuple[str, str]:
        """The venue and its own symbol."""
        if exchange in EXCHANGES:
            return self.register.from_cryptofeed(exchange, symbol)
        problem = topics.exchange_problem(exchange) or misspelt(symbol)
        if problem:
            raise DecodeError(f"payload, symbol {shown(symbol)} of {shown(exchange)}: {problem}")
        return exchange, symbol

    def _book(
        self, said: payloads.Book | payloads.OrdersBook, venue: str, symbol: str
    ) -> OrderBook:
        """Bids highest first, asks lowest first; where a price comes twice, in the order given."""
        bids: Iterable[Level] = ()
        asks: Iterable[Level] = ()
        is_whole = said.book is not None
        if isinstance(said, payloads.OrdersBook):
            levels = self._order_levels(said)
            bids, asks = levels or ((), ())
            is_whole = is_whole or levels is None
        elif said.book is not None:
            bids, asks = said.book.bid.items(), said.book.ask.items()
            if not said.book.bid and not said.book.ask:  # of prices or of orders: nobody can tell
                self._orders.load((said.exchange, said.symbol), {}, {})
        elif said.delta is not None:
            bids, asks = said.delta.bid, said.delta.ask
        return OrderBook(
            venue=venue,
            symbol=symbol,
            event_time=ns(said.timestamp),
            producer=PRODUCER,
            bids=tuple(sorted(bids, key=_price, reverse=True)),
            asks=tuple(sorted(asks, key=_price)),
            snapshot=is_whole,
        )

    def _order_levels(self, said: payloads.OrdersBook) -> tuple[list[Level], list[Level]] | None:
        """The levels that a book by orders has or changes; None where they are not known."""
        key = (said.exchange, said.symbol)
        if said.book is not None:
            return self._orders.load(key, said.book.bid, said.book.ask)
        if said.delta is not None:
            return self._orders.change(key, said.delta.bid, said.delta.ask)
        return [], []


def _orders_book(payload: bytes) -> payloads.OrdersBook | None:
    """The payload as a book by orders, if it is one."""
    try:
        return _decode_orders(payload)
    except _UNREADABLE:
        return None
