"""Dead letters: told apart by cause, counted where they come too fast, listed, bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from ravenwh.domain.errors import DecodeError, RavenwhError, Rejected, UnknownSymbol
from ravenwh.journal import CauseCount, Reader, Selection, Store, dead
from ravenwh.journal.dead import origin_of
from ravenwh.ports import Entry, Frame


def frame(symbol: str = "BTCUSDT", *, size: int = 10, feed: str = "f") -> Frame:
    return Frame(feed, f"BINANCE_SPOT:CANDLE:{symbol} ".encode(), b"h" * 16, b"\xc1" * size, 7)


def unreadable(first: int, last: int) -> list[tuple[Entry, RavenwhError]]:
    return [((seq, frame()), DecodeError("no MessagePack")) for seq in range(first, last + 1)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "j.sqlite"


@pytest.fixture
def lines() -> Iterator[list[str]]:
    heard: list[str] = []
    handler = logger.add(lambda line: heard.append(str(line)), format="{message} {extra}")
    yield heard
    logger.remove(handler)


def causes(path: Path, selection: Selection | None = None) -> list[CauseCount]:
    with Reader(path) as reader:
        return reader.causes(selection or Selection())


@pytest.mark.parametrize(
    ("topic", "origin"),
    [
        (b"BINANCE_SPOT:CANDLE:BTCUSDT ", "BINANCE_SPOT:CANDLE"),
        (b"BIT.COM-trades-BTC-USDT-PERP", "BIT.COM-trades"),
        (b"KRAKEN-open_interest-XBT-USD ", "KRAKEN-open_interest"),
        (b"trades", ""),
        (b"", ""),
        (b"\xff\xfe\x00:\x01:", ""),
        (b"A:B-C", ""),
        (b"A" * 65 + b":CANDLE:X ", ""),
    ],
)
def test_the_origin_is_what_a_topic_begins_with(topic: bytes, origin: str) -> None:
    assert origin_of(topic) == origin


def test_letters_are_told_apart_by_feed_origin_and_code(path: Path) -> None:
    store = Store(path)
    store.put([((n, frame(f"S{n}")), UnknownSymbol(f"no rule for S{n}")) for n in range(1, 4)])
    store.put([((4, frame(feed="g")), UnknownSymbol("no rule"))])
    store.put([((5, frame()), Rejected("no", code="BAD_OHLC")), *unreadable(6, 6)])
    found = causes(path)  # while the store is open
    assert [(one.feed, one.origin, one.error, one.code, one.kept) for one in found] == [
        ("f", "BINANCE_SPOT:CANDLE", "UnknownSymbol", "UNKNOWN_SYMBOL", 3),
        ("g", "BINANCE_SPOT:CANDLE", "UnknownSymbol", "UNKNOWN_SYMBOL", 1),
        ("f", "BINANCE_SPOT:CANDLE", "Rejected", "BAD_OHLC", 1),
        ("f", "BINANCE_SPOT:CANDLE", "DecodeError", "DECODEERROR", 1),
    ]
    assert (found[0].newest, found[0].reason) == (3, "no rule for S3")
    assert 0 < found[0].first_at <= found[0].last_at
    assert sum(one.bytes for one in found) == store.dead_letter_bytes
    store.close()


@pytest.mark.parametrize(
    ("selection", "numbers"),
    [
        (Selection(), [1, 2, 3, 4, 5]),
        (Selection(numbers=(5, 2, 9)), [2, 5]),
        (Selection(code="UNKNOWN_SYMBOL"), [1, 2, 4]),
        (Selection(code="UNKNOWN_SYMBOL", feed="g"), [4]),
        (Selection(origin="BINANCE_SPOT:CANDLE", numbers=(1,)), [1]),
        (Selection(origin="%' OR '1"), []),
    ],
)
def test_letters_are_selected(path: Path, selection: Selection, numbers: list[int]) -> None:
    store = Store(path)
    store.put([((n, frame()), UnknownSymbol("no rule")) for n in (1, 2)])
    store.put([((3, frame()), Rejected("no", code="BAD_OHLC"))])
    store.put([((4, frame(feed="g")), UnknownSymbol("no rule")), *unreadable(5, 5)])
    with Reader(path) as reader:
        assert [letter.seq for letter in reader.letters(selection)] == numbers
    store.close()


def test_what_nobody_can_read_is_counted_where_it_comes_too_fast(
    path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "SAMPLES", 10)
    store = Store(path)
    for first in range(1, 1000, 50):
        store.put(unreadable(first, first + 49))
    assert store.dead_letters_collapsed == 990
    assert [letter.seq for letter in store.dead_letters()] == list(range(1, 11))
    (cause,) = causes(path)
    assert (cause.kept, cause.collapsed, cause.dropped) == (10, 990, 0)
    store.put(unreadable(951, 1000))  # a second time, after a kill before the acknowledgement
    assert store.dead_letters_collapsed == 990
    assert [line.split()[0] for line in lines] == ["DEAD_LETTERS_COLLAPSED"]  # once a window
    assert "'origin': 'BINANCE_SPOT:CANDLE'" in lines[0]
    monkeypatch.setattr(dead, "WINDOW_S", 0.0)  # the next window begins
    store.put(unreadable(1001, 1005))
    assert len(store.dead_letters()) == 15
    store.close()
    (cause,) = causes(path)
    assert (cause.kept, cause.collapsed) == (15, 990)


def test_what_settings_could_mend_is_kept_however_fast_it_comes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "SAMPLES", 10)
    store = Store(path)
    store.put([((n, frame()), UnknownSymbol("no rule")) for n in range(1, 1001)])
    assert len(store.dead_letters()) == 1000
    assert store.dead_letters_collapsed == 0
    store.close()


def test_letters_of_frames_that_an_earlier_run_received_are_all_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "SAMPLES", 10)
    store = Store(path)
    store.append([frame()] * 100)
    store.close()
    store = Store(path)
    store.put(unreadable(1, 200))
    assert [letter.seq for letter in store.dead_letters()] == list(range(1, 111))
    assert store.dead_letters_collapsed == 90
    store.close()


def test_what_was_held_back_comes_out_of_order_and_is_kept(path: Path) -> None:
    store = Store(path)
    store.append([frame()] * 5)
    store.put(unreadable(5, 5))
    store.acknowledge(5, held=[(2, frame())])
    store.close()
    store = Store(path)  # of another version, which cannot read what that one had held
    store.put(unreadable(2, 2))
    assert [letter.seq for letter in store.dead_letters()] == [2, 5]
    store.close()


def test_causes_are_bounded_and_the_rest_goes_by_code_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "CAUSES", 5)
    store = Store(path)
    for n in range(1, 21):
        topic = f"VENUE{n}:CANDLE:BTCUSDT ".encode()
        letter = Frame("f", topic, b"", b"", 7)
        store.put([((n, letter), DecodeError("no")), ((100 + n, letter), UnknownSymbol("no"))])
    found = causes(path)
    assert len(found) == 5 + 2
    assert {(one.feed, one.origin, one.code, one.kept) for one in found[:2]} == {
        ("", "", "DECODEERROR", 17),
        ("", "", "UNKNOWN_SYMBOL", 18),
    }
    assert len(store.dead_letters()) == 40
    store.close()


def test_at_the_byte_limit_the_largest_cause_gives_way_and_it_is_counted(
    path: Path, lines: list[str]
) -> None:
    store = Store(path, max_dead_bytes=50_000)
    store.put([((n, frame(size=10)), UnknownSymbol("no rule")) for n in range(1, 101)])
    for n in range(1000, 1040):
        store.put([((n, frame(size=4000)), Rejected("no", code="BAD_OHLC"))])
    assert store.dead_letter_bytes <= 50_000
    small, large = causes(path)
    assert (small.code, small.kept, small.dropped) == ("UNKNOWN_SYMBOL", 100, 0)
    assert (large.kept + large.dropped, large.dropped) == (40, store.dead_letters_dropped)
    assert large.dropped > 20
    assert {line.split()[0] for line in lines} == {"DEAD_LETTERS_DROPPED"}
    store.close()
    store = Store(path, max_dead_bytes=50_000)
    assert store.dead_letter_bytes == small.bytes + large.bytes
    store.close()
