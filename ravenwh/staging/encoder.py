"""Messages as lines of InfluxDB's line protocol, one specialised function a measurement.

https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from operator import index

import attrs

from ravenwh.domain.errors import RavenwhError, Rejected
from ravenwh.domain.messages import (
    DATA_TYPES,
    Candle,
    Funding,
    Liquidation,
    Message,
    OpenInterest,
    OrderBook,
    PriceIndex,
    Ticker,
    Trade,
)
from ravenwh.staging.identity import MILLISECOND, Slots, Tally, slot_of
from ravenwh.staging.lines import (
    EARLIEST,
    LATEST,
    level,
    moment,
    more,
    no_time,
    not_finite,
    require_finite,
    tag,
    text,
)

__all__ = ["Encoded", "Encoder"]

SERIES = 16_384
"""Series that are remembered, of trades and of liquidations and of states; beyond, anew."""

REMEMBERED = 500_000
"""Messages after which the slots of trades are forgotten; a replay does no harm then either."""

_SIDES = frozenset({"buy", "sell"})

_Key = tuple[str, str, str]


@attrs.frozen(kw_only=True)
class Encoded:
    """The lines of a batch, and which messages they are of.

    ``indices`` has the index in the batch for each line, in order; ``rejected`` pairs the index of
    every other message with the reason.
    """

    lines: Sequence[str]
    indices: Sequence[int]
    rejected: Sequence[tuple[int, RavenwhError]]


@attrs.define(eq=False)
class Encoder:
    """Encodes messages, and says of one that can be no point why it cannot.

    Prices and sizes become 64-bit floats, whatever they were; what is not finite is left out where
    the field is optional, and refused where it is not. Lines have no newline at their end. What it
    remembers of series is bounded, and changes no line but as :mod:`~ravenwh.staging.identity`
    tells.
    """

    _tally: Tally = attrs.field(factory=Tally, init=False)
    _trades: dict[_Key, tuple[str, Slots]] = attrs.field(factory=dict, init=False)
    _liquidations: dict[_Key, tuple[str, Slots]] = attrs.field(factory=dict, init=False)
    _states: dict[_Key, str] = attrs.field(factory=dict, init=False)
    _nameless: dict[tuple[str, int, float, float], int] = attrs.field(factory=dict, init=False)
    """How often a trade without an id came in this batch."""
    _encoded: int = attrs.field(default=0, init=False)
    """Messages since slots were last forgotten."""
    _of: Mapping[type, Callable[..., str]] = attrs.field(init=False)

    @_of.default
    def _functions(self) -> Mapping[type, Callable[..., str]]:
        return {
            Trade: self._trade,
            OrderBook: self._order_book,
            Funding: self._funding,
            Liquidation: self._liquidation,
            OpenInterest: self._open_interest,
            Ticker: self._ticker,
            PriceIndex: self._price_index,
        }

    @property
    def ambiguous(self) -> int:
        """Points for which a replay may choose another slot, since the start."""
        return self._tally.ambiguous

    def encode(self, messages: Sequence[Message]) -> Encoded:
        """One batch. An order book is a point by its best bid and ask, and must be a whole one."""
        self._forget(len(messages))
        functions = self._of
        lines: list[str] = []
        rejected: list[tuple[int, RavenwhError]] = []
        for message in messages:
            try:
                lines.append(functions[type(message)](message))
            except Rejected as error:
                rejected.append((len(lines) + len(rejected), error))
            except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
                reason = _not_encodable(message, error)
                rejected.append((len(lines) + len(rejected), reason))
        if not rejected:
            return Encoded(lines=lines, indices=range(len(lines)), rejected=())
        refused = {i for i, _ in rejected}
        indices = [i for i in range(len(messages)) if i not in refused]
        return Encoded(lines=lines, indices=indices, rejected=rejected)

    def _forget(self, coming: int) -> None:
        """Make room for so many messages: a clock that stands still fills no memory."""
        self._nameless.clear()
        self._encoded += coming
        if self._encoded > REMEMBERED or len(self._trades) + len(self._liquidations) > SERIES:
            self._encoded = coming
            self._trades.clear()
            self._liquidations.clear()
        if len(self._states) > SERIES:
            self._states.clear()

    def _trade(self, m: Trade) -> str:
        """A point of ``trades``, at a time of its own."""
        price, quantity, at = float(m.price), float(m.quantity), m.event_time
        if (price + quantity) * 0.0 != 0.0:  # or their sum is beyond what a double holds
            require_finite(price=price, quantity=quantity)
        start = at - at % MILLISECOND
        if type(at) is not int or not EARLIEST <= start < LATEST:
            raise no_time("event_time", at)
        key = (m.venue, m.symbol, m.side)
        begin, slots = self._trades.get(key) or self._open("trades", self._trades, key)
        trade_id = m.trade_id
        if not trade_id:
            at = slots.nameless(
                start, price, quantity, self._earlier(begin, start, price, quantity)
            )
            return f"{begin}price={price!r},quantity={quantity!r} {at}"
        if trade_id.isdecimal():  # nearly all are: slot_of, without a call
            shown, slot = trade_id, int(trade_id[-6:])
        else:
            shown, slot = text(trade_id), slot_of(trade_id)
        taken = slots[start]
        if taken.setdefault(slot, trade_id) != trade_id:
            slot = slots.next_free(taken, slot, trade_id)
        return f'{begin}price={price!r},quantity={quantity!r},trade_id="{shown}" {start + slot}'

    def _liquidation(self, m: Liquidation) -> str:
        """A point of ``liquidation``: they have no ids."""
        price, quantity, at = float(m.price), float(m.quantity), m.event_time
        require_finite(price=price, quantity=quantity)
        start = moment(at) - at % MILLISECOND
        key = (m.venue, m.symbol, m.side)
        known = self._liquidations
        begin, slots = known.get(key) or self._open("liquidation", known, key)
        at = slots.nameless(start, price, quantity, self._earlier(begin, start, price, quantity))
        return f"{begin}price={price!r},quantity={quantity!r} {at}"

    def _earlier(self, begin: str, start: int, price: float, quantity: float) -> int:
        """How many equal ones without an id came before, in this batch."""
        key = (begin, start, price, quantity)
        earlier = self._nameless.get(key, 0)
        self._nameless[key] = earlier + 1
        return earlier

    def _order_book(self, m: OrderBook) -> str:
        """A point of ``orderbook``: best bid and ask, all of its fields or none."""
        if not m.snapshot:
            raise Rejected("found a change of a book, allowed is a whole one", code="NOT_A_BOOK")
        if not m.bids or not m.asks:
            raise Rejected("found a book without bids or asks, allowed is both", code="ONE_SIDED")
        (bid, bid_qty), (ask, ask_qty) = map(level, (m.bids[0], m.asks[0]))
        total = bid_qty + ask_qty
        spread, middle = ask - bid, (bid + ask) / 2.0
        if not isfinite(spread + middle + total) or not total > 0.0:
            raise not_finite(bid_price=bid, bid_qty=bid_qty, ask_price=ask, ask_qty=ask_qty)
        return (
            f"{self._begin('orderbook', m)}bid_price={bid!r},bid_qty={bid_qty!r},"
            f"ask_price={ask!r},ask_qty={ask_qty!r},spread={spread!r},mid_price={middle!r},"
            f"imbalance={bid_qty / total!r} {moment(m.event_time)}"
        )

    def _funding(self, m: Funding) -> str:
        """A point of ``funding_rate``; a next time of 0 is none."""
        rate, at = float(m.rate), m.next_funding_time
        require_finite(rate=rate)
        if at and not EARLIEST <= index(at) < LATEST:
            raise no_time("next_funding_time", at)
        return (
            f"{self._begin('funding_rate', m)}rate={rate!r}{more('mark_price', m.mark_price)}"
            f"{more('index_price', m.index_price)}"
            f"{f',next_funding_time={at // MILLISECOND}i' if at else ''} "
            f"{moment(m.event_time)}"
        )

    def _open_interest(self, m: OpenInterest) -> str:
        """A point of ``open_interest``."""
        amount = float(m.open_interest)
        require_finite(open_interest=amount)
        return (
            f"{self._begin('open_interest', m)}open_interest={amount!r}"
            f"{more('open_interest_value', m.open_interest_value)} {moment(m.event_time)}"
        )

    def _ticker(self, m: Ticker) -> str:
        """A point of ``options_ticker``, with the fields that are said."""
        fields = (
            f"{more('open_interest', m.open_interest)}{more('mark_iv', m.mark_iv)}"
            f"{more('best_bid_price', m.best_bid_price)}"
            f"{more('best_ask_price', m.best_ask_price)}{more('mark_price', m.mark_price)}"
            f"{more('underlying_price', m.underlying_price)}{more('last_price', m.last_price)}"
            f"{more('bid_iv', m.bid_iv)}{more('ask_iv', m.ask_iv)}"
        )
        if not fields:
            raise Rejected("found no value in it, allowed is one at least", code="EMPTY")
        return f"{self._begin('options_ticker', m)}{fields[1:]} {moment(m.event_time)}"

    def _price_index(self, m: PriceIndex) -> str:
        """A point of ``price_index``."""
        price = float(m.price)
        require_finite(price=price)
        return f"{self._begin('price_index', m)}price={price!r} {moment(m.event_time)}"

    def _open(
        self, measurement: str, known: dict[_Key, tuple[str, Slots]], key: _Key
    ) -> tuple[str, Slots]:
        """Measurement and tags of a series with sides, with the blank behind them; its slots."""
        venue, symbol, side = key
        if side not in _SIDES:
            raise Rejected(f"side: found {side!r:.80}, allowed are buy and sell", code="BAD_TAG")
        tags = f"exchange={tag('venue', venue)},side={side},symbol={tag('symbol', symbol)}"
        known[key] = found = (f"{measurement},{tags} ", Slots(self._tally))
        return found

    def _begin(
        self, measurement: str, m: OrderBook | Funding | OpenInterest | Ticker | PriceIndex
    ) -> str:
        """Measurement and tags, with the blank behind them."""
        key = (measurement, m.venue, m.symbol)
        found = self._states.get(key)
        if found is None:
            name = "index_name" if measurement == "price_index" else "symbol"
            found = f"{measurement},exchange={tag('venue', m.venue)},{name}={tag(name, m.symbol)} "
            self._states[key] = found
        return found


def _not_encodable(message: Message, error: Exception) -> Rejected:
    if type(message) not in DATA_TYPES.values() or isinstance(message, Candle):
        return Rejected(
            f"found a {type(message).__name__}, allowed are messages that have a measurement",
            code="NO_MEASUREMENT",
        )
    return Rejected(f"{type(message).__name__}: {error}", code="NOT_ENCODABLE")
