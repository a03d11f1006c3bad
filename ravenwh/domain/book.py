"""The order books of symbols: best bid and ask, where they are known."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import NamedTuple

import attrs

from ravenwh.domain.messages import Level, OrderBook

__all__ = ["Books", "Top"]

_INFINITE = float("inf")
_OF_A_BOOK = 16
"""What a book without levels counts as, in levels, where memory is bounded."""

_Key = tuple[str, str]  # venue, symbol


class Top(NamedTuple):
    """Best bid and ask with their sizes; price and size are None where a side is empty.

    Prices in quote units, sizes in the venue's volume unit.
    """

    bid_price: float | None
    bid_size: float | None
    ask_price: float | None
    ask_size: float | None


class _Side:
    """The levels of one side. Prices are kept times ``sign``, so that the best one is the last."""

    __slots__ = ("prices", "sign", "sizes")

    def __init__(self, sign: float) -> None:
        self.sign = sign
        self.sizes: dict[float, float] = {}
        self.prices: list[float] = []

    def load(self, levels: Iterable[Level]) -> bool:
        """Begin with these levels; false where one is no level."""
        sizes: dict[float, float] = {}
        sign = self.sign
        for price, size in levels:
            if not _is_level(price, size):
                return False
            sizes[price * sign] = size
        self.sizes = {price: size for price, size in sizes.items() if size}
        self.prices = sorted(self.sizes)
        return True

    def change(self, levels: Iterable[Level]) -> bool:
        """Set these levels, and take away those of size 0; false where one is no level.

        Most changes are near the best price, and so near the end of the list.
        """
        sizes, prices, sign = self.sizes, self.prices, self.sign
        for price, size in levels:
            if not _is_level(price, size):
                return False
            key = price * sign
            if size:
                if key not in sizes:
                    insort(prices, key)
                sizes[key] = size
            elif sizes.pop(key, None) is not None:
                del prices[bisect_left(prices, key)]
        return True


def _is_level(price: float, size: float) -> bool:
    return 0.0 <= size < _INFINITE and -_INFINITE < price < _INFINITE


class _Book:
    """Both sides of one symbol's book."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids = _Side(1.0)
        self.asks = _Side(-1.0)

    def take(self, message: OrderBook) -> bool:
        """Load or change it; false where what comes out is no book."""
        bids, asks = self.bids, self.asks
        if message.snapshot:
            is_whole = bids.load(message.bids) and asks.load(message.asks)
        else:
            is_whole = bids.change(message.bids) and asks.change(message.asks)
        is_crossed = bids.prices and asks.prices and bids.prices[-1] >= -asks.prices[-1]
        return is_whole and not is_crossed

    @property
    def weight(self) -> int:
        return len(self.bids.sizes) + len(self.asks.sizes) + _OF_A_BOOK

    @property
    def top(self) -> Top:
        bids, asks = self.bids, self.asks
        bid = bids.prices[-1] if bids.prices else None
        ask = asks.prices[-1] if asks.prices else None
        return Top(
            bid,
            None if bid is None else bids.sizes[bid],
            None if ask is None else -ask,
            None if ask is None else asks.sizes[ask],
        )


@attrs.define(kw_only=True, eq=False)
class Books:
    """The books of many symbols, each from its snapshot on.

    A book is unknown until a snapshot of it comes, and again after ``forget`` (the feed connected
    anew, or lost messages), after a change that leaves the best bid at or above the best ask, which
    no venue's book is, and after a level that is no number. Changes of an unknown book are counted
    in ``skipped``, what made books unknown in ``broken``.

    All books together hold at most about ``max_levels`` levels, of some 150 bytes each. Beyond that
    the ones that changed longest ago are forgotten, and counted in ``evicted``.
    """

    max_levels: int = 1_000_000
    skipped: int = attrs.field(default=0, init=False)
    broken: int = attrs.field(default=0, init=False)
    evicted: int = attrs.field(default=0, init=False)
    _books: dict[_Key, _Book] = attrs.field(factory=dict, init=False, repr=False)
    _weight: int = attrs.field(default=0, init=False)

    def apply(self, message: OrderBook) -> Top | None:
        """Best bid and ask after this message; None where they are not known."""
        key = (message.venue, message.symbol)
        book = self._books.pop(key, None)
        if book is not None:
            self._weight -= book.weight
        elif not message.snapshot:
            self.skipped += 1
            return None
        if book is None or message.snapshot:
            book = _Book()
        if not book.take(message):
            self.broken += 1
            return None
        self._books[key] = book  # at the end: the first is the one that changed longest ago
        self._weight += book.weight
        while self._weight > self.max_levels:
            self._weight -= self._books.pop(next(iter(self._books))).weight
            self.evicted += 1
        return book.top if key in self._books else None

    def top(self, venue: str, symbol: str) -> Top | None:
        """Best bid and ask as they are now; None where they are not known."""
        book = self._books.get((venue, symbol))
        return None if book is None else book.top

    def forget(self, venue: str, symbol: str) -> None:
        """Take one book for unknown until its next snapshot."""
        book = self._books.pop((venue, symbol), None)
        if book is not None:
            self._weight -= book.weight

    def forget_all(self) -> None:
        """Take every book for unknown until its next snapshot."""
        self._books.clear()
        self._weight = 0

    def __len__(self) -> int:
        return len(self._books)
