"""Having frames and dead letters worked off again, and looking into a journal from outside."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ravenwh.domain.errors import (
    DecodeError,
    JournalFull,
    Refused,
    Rejected,
    Unavailable,
    UnknownSymbol,
)
from ravenwh.journal import Reader, Redo, Selection, Store, dead
from ravenwh.ports import Frame

ALL = 1 << 40
HOUR = 3600 * 10**9
DAY_S = 86_400.0


def frame(number: int, size: int = 10) -> Frame:
    return Frame("f", b"V:CANDLE:S ", b"h" * 16, number.to_bytes(4, "big") + b"x" * size, number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kline.sqlite"


def written(path: Path, hours_ago: float, frames: Sequence[int], held: Sequence[int] = ()) -> None:
    """A run that wrote these frames so long ago, and held some of them back."""
    with contextlib.closing(Store(path, keep_s=DAY_S)) as store:
        store.append([frame(number) for number in frames])
        store.acknowledge(store.last, held=[(number, frame(number)) for number in held])
    at = time.time_ns() - int(hours_ago * HOUR)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE mark SET at = ? WHERE number = (SELECT max(number) FROM mark)", (at,))


def waiting(path: Path) -> list[int]:
    """The frames that the next run is given."""
    with contextlib.closing(Store(path, keep_s=DAY_S)) as store:
        entries = store.held() + store.read(store.acknowledged, 1000, ALL)
    assert all(one == frame(seq) for seq, one in entries)
    return [seq for seq, _ in entries]


def put_back(path: Path, hours_ago: float) -> int:
    with contextlib.closing(Redo(path, keep_s=DAY_S)) as journal:
        plan = journal.since(time.time_ns() - int(hours_ago * HOUR))
        journal.put_back(plan)
    return plan.frames


def test_what_was_written_since_is_put_back_and_what_waits_follows(path: Path) -> None:
    for hours_ago, number in ((5, 1), (4, 2), (3, 3), (2, 4)):
        written(path, hours_ago, [number])
    with contextlib.closing(Store(path, keep_s=DAY_S)) as store:
        store.append([frame(5)])
    assert waiting(path) == [5]
    assert put_back(path, 3.5) == 2
    assert waiting(path) == [3, 4, 5]
    assert put_back(path, 3.5) == 0  # once is enough
    assert waiting(path) == [3, 4, 5]
    written(path, 1, [6])
    assert waiting(path) == []
    assert put_back(path, 0.5) == 0
    assert put_back(path, 100) == 6  # since before the first frame: nothing was ever removed
    assert waiting(path) == [1, 2, 3, 4, 5, 6]


def test_it_goes_by_when_a_frame_was_written_and_not_by_when_it_came(path: Path) -> None:
    """In an outage frames are written long after they came: those of 1970, here, an hour ago."""
    written(path, 3, [1])
    written(path, 1, [2, 3])
    assert put_back(path, 2) == 2
    assert waiting(path) == [2, 3]


def test_klines_that_were_held_open_then_are_put_back(path: Path) -> None:
    written(path, 4, [1, 2, 3], held=[2])  # 2 is acknowledged, and written with 4
    written(path, 2, [4])
    assert put_back(path, 3) == 3
    assert waiting(path) == [2, 3, 4]


def test_klines_that_are_held_open_now_are_not_given_twice(path: Path) -> None:
    written(path, 4, [1, 2, 3], held=[1])
    written(path, 2, [4, 5], held=[1, 5])
    assert waiting(path) == [1, 5]
    assert put_back(path, 3) == 5
    assert waiting(path) == [1, 2, 3, 4, 5]


def test_a_time_before_what_is_kept_is_refused_and_the_oldest_named(path: Path) -> None:
    written(path, 30, [1])
    written(path, 20, [2])
    written(path, 10, [3])
    with contextlib.closing(Store(path, keep_s=DAY_S)) as store:
        store.acknowledge(3)  # what was written 30 hours ago is kept no longer
        assert [seq for seq, _ in store.read(0, 10, ALL)] == [2, 3]
    with contextlib.closing(Redo(path, keep_s=DAY_S)) as journal:
        with pytest.raises(Refused, match="only what was written after") as caught:
            journal.since(time.time_ns() - 31 * HOUR)
        named = str(caught.value).partition("written after ")[2].split(" ")[0].rstrip(";,")
        age = datetime.now(UTC) - datetime.fromisoformat(named)
        assert abs(age - timedelta(hours=30)) < timedelta(minutes=30)
        assert journal.since(time.time_ns() - 29 * HOUR).frames == 2
    assert waiting(path) == []


def test_where_nothing_is_kept_every_time_before_now_is_refused(path: Path) -> None:
    with contextlib.closing(Store(path)) as store:
        store.append([frame(1)])
        store.acknowledge(1)
    with contextlib.closing(Redo(path)) as journal:
        assert journal.since(time.time_ns()).frames == 0
        with pytest.raises(Refused, match=r"journal\.keep_h"):
            journal.since(time.time_ns() - HOUR)


def test_frames_that_gave_way_for_room_are_missed(path: Path) -> None:
    with contextlib.closing(Store(path, max_bytes=5000, keep_s=DAY_S)) as store:
        for number in range(1, 20):
            store.append([frame(number, 1000)])
            store.acknowledge(number)
    with (
        contextlib.closing(Redo(path, max_bytes=5000, keep_s=DAY_S)) as journal,
        pytest.raises(Refused, match=r"journal\.max_bytes"),
    ):
        journal.since(time.time_ns() - HOUR)


def test_a_clock_that_goes_back_gives_rather_too_much(path: Path) -> None:
    for hours_ago, number in ((5, 1), (3, 2), (4, 3), (2, 4)):
        written(path, hours_ago, [number])
    assert put_back(path, 3.5) == 3
    assert waiting(path) == [2, 3, 4]


def test_dead_letters_among_it_are_decided_anew(path: Path) -> None:
    no, none = UnknownSymbol("no"), DecodeError("no")
    with contextlib.closing(Store(path, keep_s=DAY_S)) as store:
        store.append([frame(n) for n in range(1, 7)])
        store.put([((n, frame(n)), no) for n in (1, 2)] + [((n, frame(n)), none) for n in (3, 4)])
        store.put([((5, frame(5)), none)])
        store.acknowledge(6)
    assert put_back(path, 1) == 6
    with contextlib.closing(Store(path, keep_s=DAY_S)) as store:
        assert [letter.seq for letter in store.dead_letters()] == [1, 2, 3, 4, 5]
        store.put([((1, frame(1)), UnknownSymbol("still")), ((3, frame(3)), none)])
        store.acknowledge(3)
    with contextlib.closing(Store(path, keep_s=DAY_S)) as store:  # and it goes on after a restart
        assert [(one.seq, one.reason) for one in store.dead_letters()] == [
            (1, "still"), (3, "no"), (4, "no"), (5, "no"),
        ]  # fmt: skip
        store.put([((5, frame(5)), Rejected("it can be read now", code="BAD_OHLC"))])
        store.acknowledge(6)
        assert [(one.seq, one.code) for one in store.dead_letters()] == [
            (1, "UNKNOWN_SYMBOL"), (3, "DECODEERROR"), (5, "BAD_OHLC"),
        ]  # fmt: skip
        assert store.dead_letter_bytes == store._file.one("SELECT sum(bytes) FROM cause")
    with Reader(path) as reader:
        found = {one.code: (one.kept, one.newest) for one in reader.causes(Selection())}
    assert found == {"UNKNOWN_SYMBOL": (1, 1), "DECODEERROR": (1, 3), "BAD_OHLC": (1, 5)}


def test_letters_are_put_back_and_those_that_fail_again_are_letters_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "SAMPLES", 10)
    with contextlib.closing(Store(path)) as store:
        store.append([frame(n) for n in range(1, 8)])
        store.put([((n, frame(n)), UnknownSymbol("no rule")) for n in (2, 4, 6)])
        store.put([((7, frame(7)), DecodeError("no"))])
        store.acknowledge(7)
    with contextlib.closing(Redo(path)) as journal:
        assert journal.replay(Selection(code="UNKNOWN_SYMBOL")) == 3
        assert journal.replay(Selection(code="UNKNOWN_SYMBOL")) == 0
        assert [letter.seq for letter in journal.dead_letters()] == [7]
    with contextlib.closing(Store(path)) as store:
        entries = store.read(store.acknowledged, 10, ALL)
        assert entries == [(8, frame(2)), (9, frame(4)), (10, frame(6))]
        store.put([(entries[1], UnknownSymbol("still no rule"))])
        store.acknowledge(10)
        assert [(one.seq, one.frame) for one in store.dead_letters()] == [
            (7, frame(7)),
            (9, frame(4)),
        ]
    with Reader(path) as reader:
        found = {one.code: one.kept for one in reader.causes(Selection())}
    assert found == {"UNKNOWN_SYMBOL": 1, "DECODEERROR": 1}


def test_many_letters_are_put_back_in_chunks_and_none_is_lost_by_their_rate(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "WINDOW_S", 0.0)
    with contextlib.closing(Store(path)) as store:
        for n in range(1, 5001):
            store.append([frame(n, n % 3000)])
        store.put([((n, frame(n, n % 3000)), DecodeError("no")) for n in range(1, 5001)])
        store.acknowledge(5000)
    monkeypatch.undo()
    with contextlib.closing(Redo(path)) as journal:
        assert journal.replay(Selection()) == 5000
        assert journal.dead_letter_bytes == 0
        assert journal._file.one("SELECT count(*) FROM cause") == 0
        assert journal._file.one("SELECT max(bytes) FROM chunk") < 6 << 20
    with contextlib.closing(Store(path)) as store:
        entries = store.read(store.acknowledged, 10_000, ALL)
        assert [one for _, one in entries] == [frame(n, n % 3000) for n in range(1, 5001)]
        store.put([(entry, DecodeError("no")) for entry in entries])
        assert len(store.dead_letters()) == 5000


def test_letters_that_have_no_room_stay_letters(path: Path) -> None:
    with contextlib.closing(Store(path, max_bytes=10_000)) as store:
        store.append([frame(1, 8000)])
        store.put([((n, frame(n, 3000)), UnknownSymbol("no rule")) for n in (1, 2)])
    with contextlib.closing(Redo(path, max_bytes=10_000)) as journal:
        with pytest.raises(JournalFull):
            journal.replay(Selection())
        assert len(journal.dead_letters()) == 2


def test_letters_are_dropped_with_what_was_counted_of_them(path: Path) -> None:
    with contextlib.closing(Store(path)) as store:
        store.put([((n, frame(n)), UnknownSymbol("no rule")) for n in (1, 2)])
        store.put([((n, frame(n)), DecodeError("no")) for n in range(3, 1003)])
        store.put([((1003, frame(1)), Rejected("no", code="BAD_OHLC"))])
    with contextlib.closing(Redo(path)) as journal:
        assert journal.drop(Selection(numbers=(1,))) == 1
        assert journal.drop(Selection(code="DECODEERROR")) == dead.SAMPLES
        assert [letter.seq for letter in journal.dead_letters()] == [2, 1003]
    with Reader(path) as reader:
        assert [one.code for one in reader.causes(Selection())] == ["UNKNOWN_SYMBOL", "BAD_OHLC"]
        assert reader.status().dead_letters_collapsed == 0


def test_a_journal_that_is_held_is_not_changed(path: Path) -> None:
    with contextlib.closing(Store(path)), pytest.raises(Refused, match="in use"):
        Redo(path)


def test_the_status_of_a_journal_in_use_and_of_one_at_rest(path: Path) -> None:
    store = Store(path, keep_s=DAY_S)
    with Reader(path) as reader:
        empty = reader.status()
        assert (empty.waiting, empty.oldest_waiting, empty.replayable_from) == (0, None, None)
        store.append([frame(n) for n in range(1, 6)])
        store.append([frame(6)])
        store.put([((1, frame(1)), UnknownSymbol("no rule"))])
        store.acknowledge(3, held=[(2, frame(2))])
        live = reader.status()
    assert (live.waiting, live.oldest_waiting, live.kept) == (4, 2, 6)
    assert (live.dead_letters, live.gaps, live.bytes) == (1, 0, store.bytes)
    assert live.replayable_from is not None
    assert abs(live.replayable_from - time.time_ns()) < 60 * 10**9
    assert live.file_bytes >= path.stat().st_size
    store.acknowledge(3)
    with Reader(path) as reader:
        assert (reader.status().waiting, reader.status().oldest_waiting) == (3, 4)
    store.close()
    with Reader(path) as reader:
        assert reader.status().waiting == 3
    with contextlib.closing(Store(path)) as again:
        assert again.last == 6


def test_a_journal_of_another_format_and_one_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "kline.sqlite"
    Store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 1")
    with pytest.raises(Refused, match="journal format 1"):
        Reader(path)
    if os.geteuid() == 0:
        path.unlink()  # root may read everything, but not what is not there
    else:
        path.chmod(0)
    with pytest.raises(Unavailable, match="cannot be read"):
        Reader(path)
