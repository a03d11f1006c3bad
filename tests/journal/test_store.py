"""The journal file: order, acknowledgement, bounds, kills."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loguru import logger

from ravenwh.domain.errors import (
    DecodeError,
    JournalFull,
    Refused,
    Rejected,
    TooLarge,
    Unavailable,
    UnknownSymbol,
)
from ravenwh.journal import Store
from ravenwh.journal import checkpoints as checkpoints_module
from ravenwh.journal import chunks as chunks_module
from ravenwh.journal import file as file_module
from ravenwh.journal import store as store_module
from ravenwh.journal.file import File
from ravenwh.ports import Frame

ALL = 1 << 40
"""Bytes enough for a read."""


def frame(number: int, size: int = 10) -> Frame:
    return Frame("f", b"T:%d " % number, b"h" * 16, number.to_bytes(4, "big") + b"x" * size, number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kline.sqlite"


def test_what_is_appended_is_read_in_order_and_numbered_from_one(path: Path) -> None:
    store = Store(path)
    assert store.append([frame(1), frame(2)]) == 2
    assert store.append([frame(3)]) == 3
    assert store.read(0, 10, ALL) == [(1, frame(1)), (2, frame(2)), (3, frame(3))]
    assert store.read(1, 1, ALL) == [(2, frame(2))]
    assert store.read(3, 10, ALL) == []
    store.close()


def test_a_new_process_goes_on_where_the_old_one_was(path: Path) -> None:
    store = Store(path)
    store.append([frame(n) for n in range(1, 6)])
    store.acknowledge(3, held=[(2, frame(2))])
    store.close()
    again = Store(path)
    assert (again.acknowledged, again.last) == (3, 5)
    assert again.held() == [(2, frame(2))]
    assert again.read(again.acknowledged, 10, ALL) == [(4, frame(4)), (5, frame(5))]
    assert again.append([frame(6)]) == 6
    again.close()


def test_numbers_never_go_back_when_all_is_acknowledged_and_removed(path: Path) -> None:
    store = Store(path, keep_s=0)
    store.append([frame(1)])
    store.acknowledge(1)
    assert store.bytes == 0
    store.close()
    again = Store(path)
    assert again.append([frame(2)]) == 2
    again.close()


def test_acknowledged_frames_make_room_before_the_journal_is_full(path: Path) -> None:
    store = Store(path, max_bytes=3000, keep_s=3600)
    store.append([frame(1, 1000)])
    store.append([frame(2, 1000)])
    store.acknowledge(1)
    store.append([frame(3, 1000)])  # the first, acknowledged one had to go
    assert [seq for seq, _ in store.read(0, 10, ALL)] == [2, 3]
    with pytest.raises(JournalFull, match=r"journal\.max_bytes"):
        store.append([frame(4, 1000)])
    assert [seq for seq, _ in store.read(0, 10, ALL)] == [2, 3]
    store.acknowledge(2)
    assert store.append([frame(4, 1000)]) == 4
    store.close()


def test_a_second_process_is_refused(path: Path) -> None:
    store = Store(path)
    with pytest.raises(Refused, match="in use by another process"):
        Store(path)
    store.close()
    Store(path).close()


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Refused, match="format 99"):
        Store(path)


def test_a_dead_letter_is_kept_once_with_its_reason(path: Path) -> None:
    store = Store(path)
    store.append([frame(1), frame(2)])
    letters = [
        ((1, frame(1)), DecodeError("not MessagePack")),
        ((2, frame(2)), UnknownSymbol("no rule")),
    ]
    store.put(letters)
    store.put(letters)  # a replay after a kill between put and acknowledge
    first, second = store.dead_letters()
    assert (first.seq, first.error, first.code, first.reason) == (
        1,
        "DecodeError",
        "DECODEERROR",
        "not MessagePack",
    )
    assert first.frame == frame(1)
    assert (second.error, second.code) == ("UnknownSymbol", "UNKNOWN_SYMBOL")
    store.close()


CHILD = """
    import sys
    from pathlib import Path
    from ravenwh.journal import Store, checkpoints
    from ravenwh.ports import Frame, Gap
    checkpoints.EVERY = 1  # so that it is killed in them, too
    store = Store(Path(sys.argv[1]))
    number = store.last
    while True:
        number += 1
        frame = Frame("f", b"t", b"", str(number).encode().ljust(20_000), number)
        topic = b"%d" % (number % 50)
        gap = Gap(feed="f", topic=topic, epoch=number, first_seq=1, last_seq=1, missing=1,
                  reason="r", detected_at=1)
        position = {("f", b"t"): (1, number)}
        assert store.append([frame], positions=position, gaps=[gap]) == number
        print(number, flush=True)
"""


def test_every_append_that_returned_is_there_after_kill_9(path: Path) -> None:
    told = 0
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), path], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(50):
            told = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        child.stdout.close()
        child.wait()
        told = int(rest[-1]) if rest and rest[-1] else told
        store = Store(path)
        entries = store.read(0, told + 10, ALL)
        assert store.positions() == {("f", b"t"): (1, len(entries))}
        assert sum(gap.missing or 0 for _, gap in store.gaps()) == len(entries)
        store.close()
        assert [seq for seq, _ in entries] == list(range(1, len(entries) + 1))
        assert len(entries) >= told
        assert all(int(one.payload) == seq for seq, one in entries)


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.tuples(st.sampled_from(["append", "acknowledge", "reopen"]), st.integers(1, 5)),
        max_size=20,
    )
)
def test_it_behaves_as_a_list_with_a_mark(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j.sqlite"
    store, mark = Store(path, keep_s=3600), 0
    frames: list[Frame] = []
    for step, number in steps:
        if step == "append":
            new = [frame(len(frames) + n + 1) for n in range(number)]
            frames += new
            assert store.append(new) == len(frames)
        elif step == "acknowledge":
            mark = min(len(frames), mark + number)
            store.acknowledge(mark)
        else:
            store.close()
            store = Store(path, keep_s=3600)
        assert store.acknowledged == mark
        assert store.read(mark, 1000, ALL) == list(enumerate(frames[mark:], mark + 1))
    store.close()


@pytest.mark.parametrize("is_recent", [True, False])
def test_a_read_stops_at_its_bytes_and_gives_one_entry_at_least(
    path: Path, is_recent: bool
) -> None:
    store = Store(path)
    store.append([frame(n, 1000) for n in range(1, 5)])
    store.append([frame(n, 1000) for n in range(5, 9)])
    if not is_recent:
        store.close()
        store = Store(path)
    size = frame(1, 1000).size
    assert [seq for seq, _ in store.read(0, 100, 6 * size - 1)] == [1, 2, 3, 4, 5]
    assert [seq for seq, _ in store.read(1, 100, 5 * size)] == [2, 3, 4, 5, 6]
    assert [seq for seq, _ in store.read(0, 4, ALL)] == [1, 2, 3, 4]
    assert [seq for seq, _ in store.read(0, 6, ALL)] == [1, 2, 3, 4, 5, 6]
    assert [seq for seq, _ in store.read(2, 100, 3 * size - 1)] == [3, 4]
    assert [seq for seq, _ in store.read(2, 3, ALL)] == [3, 4, 5]
    assert [seq for seq, _ in store.read(6, 100, 1)] == [7]
    assert [seq for seq, _ in store.read(7, 100, -5)] == [8]
    assert store.read(8, 100, ALL) == []
    assert store.read(0, 100, ALL) == [(n, frame(n, 1000)) for n in range(1, 9)]
    store.close()


def test_what_is_read_is_the_same_from_memory_and_from_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks_module, "RECENT_BYTES", 5_000)
    store = Store(path, keep_s=3600)
    cursor = 0
    for number in range(1, 200):
        store.append([frame(2 * number - 1, 400), frame(2 * number, 400)])
        if number % 7 == 0:  # now up to date, now far behind
            for seq, one in store.read(cursor, 9 + number % 5, ALL):
                cursor += 1
                assert (seq, one) == (cursor, frame(cursor, 400))
            store.acknowledge(cursor)
    while entries := store.read(cursor, 5, ALL):
        assert entries == [(n, frame(n, 400)) for n in range(cursor + 1, cursor + 1 + len(entries))]
        cursor = entries[-1][0]
    assert cursor == 398
    assert [seq for seq, _ in store.read(0, 3, ALL)] == [1, 2, 3]
    store.close()


def test_what_will_never_fit_is_too_large(path: Path) -> None:
    store = Store(path, max_bytes=3000)
    with pytest.raises(TooLarge, match=r"journal\.max_bytes"):
        store.append([frame(n, 1000) for n in range(3)])
    assert store.append([frame(1, 1000), frame(2, 1000)]) == 2
    store.close()


def pages(store: Store, more: int) -> None:
    """Let the file grow by so many pages and no further, as on a disk that is full then."""
    count = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {count + more}")


def test_a_full_disk_is_a_full_journal_and_goes_on_with_room(path: Path) -> None:
    store = Store(path)
    store.append([frame(1)])
    pages(store, 5)
    for _ in range(2):
        with pytest.raises(JournalFull, match=r"disk of .* is full") as caught:
            store.append([frame(2, 100_000)])
        assert "database or disk is full" in str(caught.value.__cause__)
    store.acknowledge(1, held=[(1, frame(1))])
    with pytest.raises(JournalFull):
        store.put([((1, frame(1, 100_000)), DecodeError("no"))])
    pages(store, 100)
    assert store.append([frame(2, 100_000)]) == 2
    assert [seq for seq, _ in store.read(1, 10, ALL)] == [2]
    store.close()


def test_on_a_full_disk_acknowledged_frames_give_way(path: Path) -> None:
    store = Store(path, keep_s=3600)
    for _ in range(10):
        store.append([now(10_000)])
    store.acknowledge(9)
    pages(store, 0)
    for number in range(11, 20):
        assert store.append([now(9_000)]) == number
        store.acknowledge(number - 1)
    assert [seq for seq, _ in store.read(18, 10, ALL)] == [19]
    assert store.bytes == store._file.one("SELECT sum(bytes) FROM chunk")
    store.close()


def now(size: int) -> Frame:
    return Frame("f", b"t", b"h" * 16, b"x" * size, time.time_ns())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    options = ["-t", "tmpfs", "-o", "size=24m", "tmpfs"]
    if subprocess.run(["mount", *options, folder], capture_output=True).returncode:
        pytest.skip("this system does not let root mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_really_full_disk_is_emptied_when_the_frames_are_written(small_disk: Path) -> None:
    with contextlib.closing(Store(small_disk / "j.sqlite", keep_s=3600)) as store:
        with contextlib.suppress(JournalFull):
            for _ in range(1000):
                store.append([now(20_000)] * 2)
        last = store.last
        assert last < 1000
        for _ in range(3):
            with pytest.raises(JournalFull, match=r"disk of .* is full"):
                store.append([now(20_000)] * 2)
        assert len(store.read(0, 1000, ALL)) == last == store.last
        store.acknowledge(last)
        for _ in range(500):  # what is written gives way from here on
            store.append([now(20_000)] * 2)
            store.acknowledge(store.last)
        assert store.last == last + 1000
        assert store.bytes == store._file.one("SELECT sum(bytes) FROM chunk")


def test_a_disk_that_others_fill_to_the_brim(small_disk: Path) -> None:
    with contextlib.closing(Store(small_disk / "j.sqlite", keep_s=3600)) as store:
        store.append([now(20_000)])
        store.append([now(20_000)])
        other = small_disk / "other"
        with contextlib.suppress(OSError), other.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        with pytest.raises(JournalFull):
            store.append([now(20_000)] * 10)
        with contextlib.suppress(JournalFull):
            for _ in range(1000):
                store.acknowledge(1)  # takes room in the write-ahead log, too
        with pytest.raises(JournalFull):
            store.put([((2, now(200_000)), DecodeError("no"))])
        other.unlink()
        store.put([((2, now(200_000)), DecodeError("no"))])
        assert store.append([now(20_000)] * 10) == 12
        store.acknowledge(12)
        assert len(store.dead_letters()) == 1


def test_the_log_stays_short_though_nobody_pauses(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints_module, "EVERY", 1 << 20)
    monkeypatch.setattr(checkpoints_module, "MOST", 4 << 20)
    store = Store(path, max_bytes=4 << 20)
    log = path.with_name(f"{path.name}-wal")
    for number in range(1, 1001):
        store.append([now(100_000)])
        store.acknowledge(number)
    assert log.stat().st_size < 16 << 20
    assert {thread.name for thread in threading.enumerate()} >= {"journal-checkpoints"}
    store.close()
    assert "journal-checkpoints" not in {thread.name for thread in threading.enumerate()}
    assert not log.exists()


def test_a_commit_that_fails_is_rolled_back_and_tells_its_cause(path: Path) -> None:
    file = File(path)
    file.db.execute("PRAGMA foreign_keys = ON")
    later = "REFERENCES chunk (last_seq) DEFERRABLE INITIALLY DEFERRED"
    file.db.execute(f"CREATE TABLE child (seq INTEGER {later})")
    with pytest.raises(Unavailable, match="FOREIGN KEY"), file.transaction():
        file.db.execute("INSERT INTO child VALUES (7)")  # refused at the commit, not before
    assert not file.db.in_transaction
    with file.transaction():
        file.db.execute("UPDATE progress SET acknowledged = 5")
    file.close()


def test_an_acknowledgement_costs_the_same_whatever_is_kept(path: Path) -> None:
    store = Store(path, keep_s=3600)
    steps = [0, 0]
    for turn, chunks in enumerate((10, 3000)):
        for _ in range(chunks):
            store.append([now(10)])
        store.acknowledge(store.last - 1)

        def count(turn: int = turn) -> None:
            steps[turn] += 1

        store._db.set_progress_handler(count, 1)
        store.acknowledge(store.last)
        store._db.set_progress_handler(None, 0)
    assert store.bytes == store._file.one("SELECT sum(bytes) FROM chunk")
    assert 0 < steps[1] < steps[0] + 20
    store.close()


def aged(path: Path, hours: float) -> None:
    """As if all that was acknowledged up to now had been so many hours earlier."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE mark SET at = at - ?", (int(hours * 3600 * 1e9),))


def test_frames_are_kept_from_when_they_were_acknowledged(path: Path) -> None:
    store = Store(path, keep_s=3600)
    store.append([frame(1)])  # received in 1970: the database was away for long
    store.acknowledge(1)
    store.close()
    aged(path, 0.9)
    store = Store(path, keep_s=3600)
    store.append([frame(2)])
    store.acknowledge(2)
    assert [seq for seq, _ in store.read(0, 10, ALL)] == [1, 2]
    store.close()
    aged(path, 0.2)
    store = Store(path, keep_s=3600)
    store.acknowledge(2)
    assert [seq for seq, _ in store.read(0, 10, ALL)] == [2]
    assert store.bytes == store._file.one("SELECT sum(bytes) FROM chunk")
    store.close()


def test_old_frames_are_removed_in_portions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "EXPIRED_CHUNKS", 3)
    store = Store(path, keep_s=3600)
    for number in range(10):
        store.append([frame(number)])
    store.acknowledge(10)
    store.close()
    aged(path, 2)
    store = Store(path, keep_s=3600)
    store.append([frame(11)])
    left = []
    for _ in range(5):
        store.acknowledge(11)
        left.append(store._file.one("SELECT count(*) FROM chunk"))
    assert left == [8, 5, 2, 1, 1]
    assert store.bytes == store._file.one("SELECT sum(bytes) FROM chunk")
    store.close()


def test_the_room_of_an_outage_goes_back_to_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "SPARE", 1 << 20)
    monkeypatch.setattr(file_module, "GIVEN_BACK", 1 << 18)
    store = Store(path)
    for _ in range(200):
        store.append([now(100_000)])
    most = store._file.one("PRAGMA page_count")
    store.acknowledge(store.last)
    sizes = [store._file.one("PRAGMA page_count")]
    while sizes[-1] * file_module.PAGE_SIZE > 2 << 20:
        store.append([now(10)])
        store.acknowledge(store.last)
        sizes.append(store._file.one("PRAGMA page_count"))
        assert 0 < sizes[-2] - sizes[-1] <= (1 << 18) // file_module.PAGE_SIZE, sizes
    assert most * file_module.PAGE_SIZE > 20_000_000
    store.close()
    assert path.stat().st_size <= 2 << 20


def test_what_is_held_back_is_what_the_last_acknowledgement_said(path: Path) -> None:
    store = Store(path)
    store.append([frame(n) for n in range(1, 6)])
    for held in ([1, 2], [2, 3], [], [5]):
        store.acknowledge(5, held=[(seq, frame(seq)) for seq in held])
        assert [seq for seq, _ in store.held()] == held
    store.close()
    store = Store(path)
    store.acknowledge(5, held=[(4, frame(4))])
    assert store.held() == [(4, frame(4))]
    store.close()


def test_dead_letters_are_bounded_and_the_rare_ones_stay(path: Path) -> None:
    store = Store(path, max_dead_bytes=20_000)
    lines: list[str] = []
    handler = logger.add(lambda line: lines.append(str(line)), format="{message} {extra}")
    try:
        store.put([((1, frame(1, 1000)), Rejected("rare", code="RARE"))])
        for seq in range(2, 200):
            store.put([((seq, frame(seq, 1000)), Rejected("often", code="OFTEN"))])
    finally:
        logger.remove(handler)
    kept = store.dead_letters()
    assert kept[0].code == "RARE"
    assert [letter.seq for letter in kept[1:]] == list(range(201 - len(kept), 200))
    assert 15 <= len(kept) < 20
    assert store.dead_letters_dropped == 199 - len(kept)
    told = [line for line in lines if line.startswith("DEAD_LETTERS_DROPPED")]
    assert 0 < len(told) < 199 - len(kept)
    assert f"'dropped': {store.dead_letters_dropped}" in told[-1]
    store.put([((199, frame(199, 1000)), Rejected("often", code="OFTEN"))])  # there already
    store.close()
    again = Store(path, max_dead_bytes=3_000)  # a smaller limit later
    again.put([((200, frame(200, 1000)), Rejected("often", code="OFTEN"))])
    assert [(letter.seq, letter.code) for letter in again.dead_letters()] in (
        [(1, "RARE"), (200, "OFTEN")],
        [(200, "OFTEN")],
    )
    again.close()


def test_what_was_acknowledged_last_can_be_looked_at_again(path: Path) -> None:
    store = Store(path, keep_s=3600)
    for first in (1, 4, 7):
        store.append([frame(number) for number in range(first, first + 3)])
    assert list(store.kept(ALL)) == []
    store.acknowledge(5)
    assert list(store.kept(ALL)) == [frame(number) for number in range(1, 6)]
    assert list(store.kept(1)) == [frame(4), frame(5)]
    store.acknowledge(9)
    assert list(store.kept(1)) == [frame(number) for number in range(7, 10)]
    store.close()
    store = Store(path, keep_s=3600)
    assert list(store.kept(ALL)) == [frame(number) for number in range(1, 10)]
    store.close()
