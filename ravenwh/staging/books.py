"""Best bid and ask after each change of a book: where deltas become what can be a point."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

import attrs
from msgspec.structs import replace

from ravenwh.domain.book import Books, Top
from ravenwh.domain.errors import DecodeError, Rejected
from ravenwh.domain.messages import Message, OrderBook
from ravenwh.ports import Decoder, Frame, Position

__all__ = ["BestPrices"]

FOLLOWED = 65_536
"""Topics of a feed whose numbers are followed; beyond it, all its books start anew."""

LATE_LEVELS = 200_000
"""Levels of all late books of a feed: they are few, and soon done."""

MARKS = 10_000
"""Connections of a feed that are remembered until a frame comes by."""


@attrs.define(eq=False)
class _Lane:
    """Books of one feed, from frames that follow each other."""

    books: Books
    last: dict[bytes, Position] = attrs.field(factory=dict, init=False)
    """The number of the last frame of each topic."""

    def take(self, topic: bytes, position: Position, message: OrderBook) -> Top | None:
        """Best bid and ask after it; the book starts anew where a frame is missing before it."""
        epoch, number = position
        if self.last.get(topic) != (epoch, number - 1):
            self.books.forget(message.venue, message.symbol)
        if topic not in self.last and len(self.last) >= FOLLOWED:
            self.last.clear()
            self.books.forget_all()
        self.last[topic] = position
        return self.books.apply(message)


@attrs.define(eq=False)
class _Feed:
    live: _Lane = attrs.field(init=False, factory=lambda: _Lane(Books()))
    late: _Lane = attrs.field(init=False, factory=lambda: _Lane(Books(max_levels=LATE_LEVELS)))
    reconnected: list[int] = attrs.field(factory=list, init=False)
    """When connections were made, of which no frame has come by here."""


@attrs.define(kw_only=True, eq=False)
class BestPrices:
    """A Decoder that turns order books into whole ones with one level a side.

    It stands before the batch, since frames pass it once and in the order of the journal: what a
    book is after a message depends on all before it, and a batch may be tried again. None where
    best bid and ask are not both known, which is counted in ``unknown``; other messages pass.

    A book is known from a snapshot on, and again unknown where a frame is missing by the numbers
    that ``position_of`` reads. Frames that come late (sent again after a gap, or taken out of the
    journal to be replayed) have books of their own: they make the points of their own time, and the
    books of the live frames do not notice. On a wire without numbers a gap cannot be seen:
    ``reconnected`` says from when on the books of a feed are unknown.
    """

    decode: Decoder
    position_of: Callable[[Frame], Position | None]
    unknown: int = attrs.field(default=0, init=False)
    _feeds: dict[str, _Feed] = attrs.field(factory=dict, init=False, repr=False)

    def reconnected(self, feed: str, at: int) -> None:
        """A connection of the feed was made, at nanoseconds since 1970.

        Frames that were received before may still be on their way here.
        """
        marks = self._of(feed).reconnected
        if len(marks) < MARKS:
            marks.append(at)
        else:
            marks[-1] = at

    def catch_up(self, frames: Iterable[Frame]) -> None:
        """Bring the books to where these frames left them, which an earlier process has seen."""
        for frame in frames:
            with suppress(DecodeError, Rejected):  # it is a dead letter already
                self(frame)
        self.unknown = 0

    def __call__(self, frame: Frame, /) -> Message | None:
        """Raises what ``decode`` raises; then the frame counts as missing."""
        message = self.decode(frame)
        if not isinstance(message, OrderBook):
            return message
        top = self._top_after(frame, message)
        if top is None or None in top:
            self.unknown += 1
            return None
        bid, bid_size, ask, ask_size = top
        return replace(message, bids=((bid, bid_size),), asks=((ask, ask_size),), snapshot=True)

    def _top_after(self, frame: Frame, message: OrderBook) -> Top | None:
        feed, position = self._of(frame.feed), self.position_of(frame)
        while feed.reconnected and frame.received_at >= feed.reconnected[0]:
            del feed.reconnected[0]
            if position is None:
                feed.live.books.forget_all()
        if position is None:
            return feed.live.books.apply(message)
        last = feed.live.last.get(frame.topic)
        lane = feed.live if last is None or position > last else feed.late
        return lane.take(frame.topic, position, message)

    def _of(self, feed: str) -> _Feed:
        found = self._feeds.get(feed)
        if found is None:
            found = self._feeds[feed] = _Feed()
        return found
