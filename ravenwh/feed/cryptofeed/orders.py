"""Order-by-order books (L3), summed to levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from ravenwh.domain.messages import Level

__all__ = ["OrderLevels"]

_BookKey = tuple[str, str]  # exchange, symbol
_Orders = dict[float, dict[str, float]]  # price, order, size
_Row = tuple[str | int, float, float]  # order, price, size; 0 takes the order away

_OF_A_BOOK = 16
"""What a book without orders counts as, in orders, where memory is bounded."""


@attrs.define(kw_only=True, eq=False)
class OrderLevels:
    """The sizes of levels, from the orders of each book.

    A change names one order, and a level is the sum of its orders: so the orders are kept, from a
    book's snapshot on, at most about ``max_orders`` of all books together. A book that does not fit
    is not kept.
    """

    max_orders: int = 500_000
    _books: dict[_BookKey, tuple[_Orders, _Orders]] = attrs.field(factory=dict, init=False)
    _weight: int = attrs.field(default=0, init=False)

    def load(
        self,
        key: _BookKey,
        bids: Mapping[float, Mapping[str, float]],
        asks: Mapping[float, Mapping[str, float]],
    ) -> tuple[list[Level], list[Level]] | None:
        """The levels of a whole book, which changes may follow; None where it does not fit."""
        self.drop(key)
        book = (_copied(bids), _copied(asks))
        weight = _weight(book)
        if self._weight + weight > self.max_orders:
            return None
        self._books[key] = book
        self._weight += weight
        return _levels(book[0]), _levels(book[1])

    def change(
        self, key: _BookKey, bids: Iterable[_Row], asks: Iterable[_Row]
    ) -> tuple[list[Level], list[Level]] | None:
        """The changed levels, of size 0 where no order is left; None where the book is not kept."""
        book = self._books.get(key)
        if book is None:
            return None
        changed = (self._changed(book[0], bids), self._changed(book[1], asks))
        if self._weight > self.max_orders:
            self.drop(key)
            return None
        return changed

    def drop(self, key: _BookKey) -> None:
        """Keep this book no longer."""
        book = self._books.pop(key, None)
        if book is not None:
            self._weight -= _weight(book)

    def _changed(self, orders: _Orders, rows: Iterable[_Row]) -> list[Level]:
        changed: list[Level] = []
        for number, price, size in rows:
            level = orders.setdefault(price, {})
            before = len(level)
            if size > 0:
                level[str(number)] = size
            else:
                level.pop(str(number), None)
            self._weight += len(level) - before
            if not level:
                del orders[price]
            changed.append((price, sum(level.values())))
        return changed


def _copied(orders: Mapping[float, Mapping[str, float]]) -> _Orders:
    return {price: dict(level) for price, level in orders.items() if level}


def _weight(book: tuple[_Orders, _Orders]) -> int:
    return _OF_A_BOOK + sum(len(level) for orders in book for level in orders.values())


def _levels(orders: _Orders) -> list[Level]:
    return [(price, sum(level.values())) for price, level in orders.items()]
