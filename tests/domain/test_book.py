"""Books: best bid and ask from snapshots and changes, and when they are not known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravenwh.domain.book import Books, Top
from ravenwh.domain.messages import Level, OrderBook

Levels = tuple[Level, ...]


def book(
    bids: Levels = (), asks: Levels = (), *, snapshot: bool = False, symbol: str = "BTCUSDT"
) -> OrderBook:
    return OrderBook(
        venue="BINANCE_SPOT",
        symbol=symbol,
        event_time=1,
        bids=bids,
        asks=asks,
        snapshot=snapshot,
    )


def whole(bids: Levels = ((9.0, 1.0),), asks: Levels = ((11.0, 2.0),)) -> OrderBook:
    return book(bids, asks, snapshot=True)


def test_best_bid_and_ask_follow_the_changes() -> None:
    books = Books()
    bids, asks = ((9.0, 1.0), (8.0, 3.0)), ((11.0, 2.0), (12.0, 4.0))
    assert books.apply(whole(bids, asks)) == (9.0, 1.0, 11.0, 2.0)
    assert books.apply(book(bids=((9.5, 5.0),))) == (9.5, 5.0, 11.0, 2.0)
    assert books.apply(book(bids=((9.5, 0.0), (9.0, 0.0)))) == (8.0, 3.0, 11.0, 2.0)
    assert books.apply(book(asks=((11.0, 0.5), (12.0, 0.0)))) == (8.0, 3.0, 11.0, 0.5)
    assert books.apply(book(asks=((11.0, 0.0), (7.0, 0.0)))) == (8.0, 3.0, None, None)
    assert books.apply(book(asks=((10.0, 1.0), (10.0, 2.0)))) == (8.0, 3.0, 10.0, 2.0)
    assert books.apply(book()) == books.top("BINANCE_SPOT", "BTCUSDT") == (8.0, 3.0, 10.0, 2.0)
    assert (books.skipped, books.broken, books.evicted) == (0, 0, 0)


def test_a_book_is_unknown_until_its_snapshot() -> None:
    books = Books()
    assert books.apply(book(bids=((9.0, 1.0),))) is None
    assert books.apply(book(bids=((9.0, 1.0),), symbol="ETHUSDT", snapshot=True)) is not None
    assert books.apply(book(bids=((9.0, 1.0),))) is None
    assert (len(books), books.skipped) == (1, 2)
    assert books.top("BINANCE_SPOT", "BTCUSDT") is None
    assert books.apply(whole()) == (9.0, 1.0, 11.0, 2.0)


def test_a_snapshot_replaces_the_whole_book() -> None:
    books = Books()
    books.apply(whole(bids=((10.0, 1.0), (9.0, 1.0))))
    assert books.apply(whole(bids=((8.0, 1.0), (7.0, 0.0)))) == (8.0, 1.0, 11.0, 2.0)
    assert books.apply(book(bids=((8.0, 0.0),))) == (None, None, 11.0, 2.0)
    assert books.apply(book(snapshot=True)) == (None, None, None, None)


@pytest.mark.parametrize(
    "change",
    [
        book(bids=((11.0, 1.0),)),
        book(asks=((9.0, 1.0),)),
        book(bids=((12.0, 1.0),), asks=((10.0, 1.0),)),
        book(bids=((math.nan, 1.0),)),
        book(asks=((math.inf, 1.0),)),
        book(bids=((8.0, math.nan),)),
        book(bids=((8.0, math.inf),)),
        book(asks=((12.0, -1.0),)),
        whole(bids=((11.0, 1.0),)),
        whole(asks=((12.0, math.nan),)),
    ],
    ids=lambda change: f"{change.snapshot} {change.bids} {change.asks}",
)
def test_what_no_venue_has_makes_it_unknown_until_the_next_snapshot(change: OrderBook) -> None:
    books = Books()
    books.apply(whole())
    assert books.apply(change) is None
    assert books.apply(book(bids=((8.5, 1.0),))) is None
    assert (len(books), books.broken, books.skipped) == (0, 1, 1)
    assert books.apply(whole()) == (9.0, 1.0, 11.0, 2.0)


def test_one_side_may_move_through_the_other_within_one_change() -> None:
    books = Books()
    books.apply(whole())
    change = book(bids=((11.5, 1.0),), asks=((11.0, 0.0), (12.0, 1.0)))
    assert books.apply(change) == (11.5, 1.0, 12.0, 1.0)


def test_after_a_gap_or_a_reconnect_books_are_unknown() -> None:
    books = Books()
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        books.apply(book(bids=((9.0, 1.0),), snapshot=True, symbol=symbol))
    books.forget("BINANCE_SPOT", "ETHUSDT")
    books.forget("BINANCE_SPOT", "NONE")
    assert books.apply(book(symbol="ETHUSDT")) is None
    assert books.apply(book(symbol="BTCUSDT")) == (9.0, 1.0, None, None)
    books.forget_all()
    assert books.apply(book(symbol="BTCUSDT")) is None
    assert (len(books), books.skipped, books.broken) == (0, 2, 0)


def test_memory_is_bounded_and_what_is_given_up_is_unknown() -> None:
    books = Books(max_levels=1000)
    deep = tuple((float(price), 1.0) for price in range(200, 0, -1))
    for number in range(50):
        assert books.apply(book(bids=deep, symbol=f"S{number}", snapshot=True)) is not None
        books.apply(book(symbol="S0"))  # it changes again and again
    assert len(books) == 4
    assert books.evicted == 46
    assert books.top("BINANCE_SPOT", "S0") is not None
    assert books.top("BINANCE_SPOT", "S1") is None
    assert books.apply(book(bids=deep * 10, snapshot=True)) is not None  # prices that come twice
    huge = tuple((float(price), 1.0) for price in range(2000, 0, -1))
    assert books.apply(book(bids=huge, symbol="HUGE", snapshot=True)) is None
    assert len(books) == 0
    for number in range(2000):  # books without a level
        books.apply(book(symbol=f"E{number}", snapshot=True))
    assert len(books) == 1000 // 16


PRICES = st.integers(1, 12).map(float)
SIZES = st.sampled_from([0.0, 0.0, 1.0, 2.5])
SIDE = st.lists(st.tuples(PRICES, SIZES), max_size=4).map(tuple)
MESSAGES = st.builds(
    book,
    SIDE.map(lambda side: tuple((price / 2, size) for price, size in side)),
    SIDE.map(lambda side: tuple((price / 2 + 4, size) for price, size in side)),
    snapshot=st.sampled_from([True, False, False, False]),
    symbol=st.sampled_from(["A", "B"]),
)


@given(st.lists(MESSAGES, max_size=30))
def test_it_is_the_book_that_two_dictionaries_hold(messages: list[OrderBook]) -> None:
    books = Books()
    plain: dict[str, tuple[dict[float, float], dict[float, float]]] = {}
    for message in messages:
        top = books.apply(message)
        if message.snapshot:
            plain[message.symbol] = ({}, {})
        sides = plain.get(message.symbol)
        if sides is None:
            assert top is None
            continue
        for side, levels in zip(sides, (message.bids, message.asks), strict=True):
            side.update(levels)
            for price in [price for price, size in side.items() if size == 0]:
                del side[price]
        bid, ask = max(sides[0], default=None), min(sides[1], default=None)
        if bid is not None and ask is not None and bid >= ask:
            del plain[message.symbol]
            assert top is None
        else:
            assert top == Top(bid, sides[0].get(bid or 0.0), ask, sides[1].get(ask or 0.0))
    assert len(books) == len(plain)
