"""Changes of books become best prices, in the order of frames, through gaps and replays."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ravenwh.domain.errors import DecodeError
from ravenwh.domain.messages import Level, OrderBook, Trade
from ravenwh.feed import wire
from ravenwh.ports import Frame
from ravenwh.staging import books
from ravenwh.staging.books import BestPrices
from ravenwh.staging.encoder import Encoder

AT = 1_723_161_255_342_000_000
EPOCH = 1_723_000_000_000_000_000


def book(
    *,
    bids: Iterable[Level] = (),
    asks: Iterable[Level] = (),
    snapshot: bool = False,
    symbol: str = "S",
) -> OrderBook:
    return OrderBook(
        venue="V",
        symbol=symbol,
        event_time=AT,
        bids=tuple(bids),
        asks=tuple(asks),
        snapshot=snapshot,
        sequence=5,
    )


SNAPSHOT = book(bids=[(10.0, 1.0), (9.0, 2.0)], asks=[(11.0, 3.0), (12.0, 4.0)], snapshot=True)


def framed(
    message: OrderBook | Trade, seq: int, *, epoch: int = EPOCH, feed: str = "f", at: int = AT
) -> Frame:
    """A frame of the raven wire; number 0 is a wire without numbers."""
    topic, payload = wire.encode(message)
    return Frame(feed, topic, wire.header(epoch, seq), payload, at)


@pytest.fixture
def best() -> BestPrices:
    return BestPrices(decode=wire.decode, position_of=wire.position)


def top_of(best: BestPrices, frame: Frame) -> tuple[float, ...] | None:
    """Bid, its size, ask, its size; None where they are not known."""
    message = best(frame)
    if message is None:
        return None
    assert isinstance(message, OrderBook)
    assert message.snapshot
    assert (message.venue, message.event_time, message.sequence) == ("V", AT, 5)
    ((bid, bid_size),) = message.bids
    ((ask, ask_size),) = message.asks
    return bid, bid_size, ask, ask_size


def test_best_prices_after_each_change(best: BestPrices) -> None:
    assert top_of(best, framed(SNAPSHOT, 1)) == (10.0, 1.0, 11.0, 3.0)
    assert top_of(best, framed(book(bids=[(10.5, 7.0)]), 2)) == (10.5, 7.0, 11.0, 3.0)
    assert top_of(best, framed(book(asks=[(11.0, 0.0)]), 3)) == (10.5, 7.0, 12.0, 4.0)
    assert best.unknown == 0
    (line,) = Encoder().encode([best(framed(book(bids=[(10.5, 0.0)]), 4))]).lines
    assert line.startswith(
        "orderbook,exchange=V,symbol=S bid_price=10.0,bid_qty=1.0,ask_price=12.0,"
    )


def test_other_messages_pass(best: BestPrices) -> None:
    trade = Trade(venue="V", symbol="S", event_time=AT, price=1.0, quantity=1.0, side="buy")
    assert best(framed(trade, 1)) == trade


def test_a_change_before_any_snapshot_is_no_book(best: BestPrices) -> None:
    assert top_of(best, framed(book(bids=[(10.5, 7.0)]), 1)) is None
    assert best.unknown == 1


def test_a_side_without_levels_is_no_point(best: BestPrices) -> None:
    assert top_of(best, framed(SNAPSHOT, 1)) is not None
    assert top_of(best, framed(book(asks=[(11.0, 0.0), (12.0, 0.0)]), 2)) is None
    assert top_of(best, framed(book(asks=[(13.0, 1.0)]), 3)) == (10.0, 1.0, 13.0, 1.0)
    assert best.unknown == 1


def test_a_gap_makes_the_book_unknown_until_its_next_snapshot(best: BestPrices) -> None:
    other = book(bids=[(1.0, 1.0)], asks=[(2.0, 1.0)], snapshot=True, symbol="OTHER")
    assert top_of(best, framed(other, 1)) is not None
    assert top_of(best, framed(SNAPSHOT, 1)) is not None
    assert top_of(best, framed(book(bids=[(10.5, 7.0)]), 3)) is None  # the second is missing
    assert top_of(best, framed(book(bids=[(10.6, 7.0)]), 4)) is None
    change = book(bids=[(1.5, 1.0)], symbol="OTHER")
    assert top_of(best, framed(change, 2)) == (1.5, 1.0, 2.0, 1.0)
    assert top_of(best, framed(SNAPSHOT, 5)) == (10.0, 1.0, 11.0, 3.0)
    assert top_of(best, framed(book(bids=[(10.5, 7.0)]), 6)) is not None
    assert best.unknown == 2


def test_frames_that_are_sent_again_do_not_disturb_the_live_book(best: BestPrices) -> None:
    assert top_of(best, framed(SNAPSHOT, 1)) is not None
    assert top_of(best, framed(SNAPSHOT, 4)) is not None  # 2 and 3 are missing
    assert top_of(best, framed(book(bids=[(10.8, 1.0)]), 5)) is not None
    assert top_of(best, framed(book(bids=[(10.1, 1.0)]), 2)) is None
    assert top_of(best, framed(book(bids=[(10.2, 1.0)]), 3)) is None
    assert top_of(best, framed(book(bids=[(10.8, 1.0)]), 5)) is None  # the same frame once more
    assert top_of(best, framed(book(asks=[(10.9, 9.0)]), 6)) == (10.8, 1.0, 10.9, 9.0)


def test_a_replay_of_the_journal_makes_the_same_points(best: BestPrices) -> None:
    """While live frames come in between, as they do."""
    changes = [book(bids=[(10.0 + i / 100, 1.0)]) for i in range(10)]
    frames = [framed(SNAPSHOT, 1), *(framed(c, i) for i, c in enumerate(changes, 2))]
    first = [top_of(best, frame) for frame in frames]
    assert None not in first
    again, live = [], []
    for number, frame in enumerate(frames, 12):
        again.append(top_of(best, frame))
        live.append(top_of(best, framed(book(asks=[(10.95, float(number))]), number)))
    assert again == first
    assert live == [(10.09, 1.0, 10.95, float(number)) for number in range(12, 23)]


def test_a_publisher_that_starts_anew(best: BestPrices) -> None:
    assert top_of(best, framed(SNAPSHOT, 1)) is not None
    assert top_of(best, framed(book(bids=[(10.5, 7.0)]), 1, epoch=EPOCH + 1)) is None
    assert top_of(best, framed(SNAPSHOT, 2, epoch=EPOCH + 1)) is not None


def test_a_frame_that_nobody_can_read_is_a_gap(best: BestPrices) -> None:
    assert top_of(best, framed(SNAPSHOT, 1)) is not None
    bad = framed(SNAPSHOT, 2)
    with pytest.raises(DecodeError):
        best(Frame(bad.feed, bad.topic, bad.header, b"\xc1", bad.received_at))
    assert top_of(best, framed(book(bids=[(10.5, 7.0)]), 3)) is None


def test_feeds_have_books_of_their_own(best: BestPrices) -> None:
    assert top_of(best, framed(SNAPSHOT, 1, feed="one")) is not None
    assert top_of(best, framed(book(bids=[(10.5, 7.0)]), 1, feed="two")) is None
    assert top_of(best, framed(book(bids=[(10.5, 7.0)]), 2, feed="one")) is not None


def test_a_connection_makes_books_unknown_on_a_wire_without_numbers(best: BestPrices) -> None:
    """From the first frame on that was received after it, not from when it is told."""
    change = book(bids=[(10.5, 7.0)])
    assert top_of(best, framed(SNAPSHOT, 0, at=AT)) is not None
    best.reconnected("f", AT + 10)
    best.reconnected("other", AT)
    assert top_of(best, framed(change, 0, at=AT + 9)) is not None
    assert top_of(best, framed(change, 0, at=AT + 10)) is None
    assert top_of(best, framed(SNAPSHOT, 0, at=AT + 11)) is not None
    assert top_of(best, framed(change, 0, at=AT + 12)) is not None


def test_a_connection_means_nothing_where_numbers_tell(best: BestPrices) -> None:
    assert top_of(best, framed(SNAPSHOT, 1, at=AT)) is not None
    best.reconnected("f", AT + 10)
    assert top_of(best, framed(book(bids=[(10.5, 7.0)]), 2, at=AT + 20)) is not None


def test_memory_is_bounded(best: BestPrices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "FOLLOWED", 10)
    monkeypatch.setattr(books, "MARKS", 3)
    for i in range(25):
        snapshot = book(bids=[(1.0, 1.0)], asks=[(2.0, 1.0)], snapshot=True, symbol=f"S{i}")
        assert top_of(best, framed(snapshot, 1)) is not None
        best.reconnected("f", AT + i)
    feed = best._feeds["f"]
    assert len(feed.live.last) <= 10
    assert len(feed.live.books) <= 10
    assert len(feed.reconnected) <= 3


def test_books_are_taken_up_where_frames_left_them(best: BestPrices) -> None:
    """What gave no prices then, or was no message, counts for nothing."""
    unreadable = Frame("f", b"V:ORDERBOOK:S ", b"", b"?", AT)
    early = framed(book(bids=[(8.0, 1.0)], symbol="T"), 1)
    best.catch_up([unreadable, early, framed(SNAPSHOT, 1)])
    assert best.unknown == 0
    assert top_of(best, framed(book(bids=[(10.5, 1.0)]), 2)) == (10.5, 1.0, 11.0, 3.0)
