"""The journal file: order, acknowledgement, bounds, kills."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ravenwh.domain.errors import DecodeError, JournalFull, Refused, UnknownSymbol
from ravenwh.journal import Store
from ravenwh.ports import Frame


def frame(number: int, size: int = 10) -> Frame:
    return Frame("f", b"T:%d " % number, b"h" * 16, number.to_bytes(4, "big") + b"x" * size, number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kline.sqlite"


def test_what_is_appended_is_read_in_order_and_numbered_from_one(path: Path) -> None:
    store = Store(path)
    assert store.append([frame(1), frame(2)]) == 2
    assert store.append([frame(3)]) == 3
    assert store.read(0, 10) == [(1, frame(1)), (2, frame(2)), (3, frame(3))]
    assert store.read(1, 1) == [(2, frame(2))]
    assert store.read(3, 10) == []
    store.close()


def test_a_new_process_goes_on_where_the_old_one_was(path: Path) -> None:
    store = Store(path)
    store.append([frame(n) for n in range(1, 6)])
    store.acknowledge(3, held=[(2, frame(2))])
    store.close()
    again = Store(path)
    assert (again.acknowledged, again.last) == (3, 5)
    assert again.held() == [(2, frame(2))]
    assert again.read(again.acknowledged, 10) == [(4, frame(4)), (5, frame(5))]
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
    assert [seq for seq, _ in store.read(0, 10)] == [2, 3]
    with pytest.raises(JournalFull, match=r"journal\.max_bytes"):
        store.append([frame(4, 1000)])
    assert [seq for seq, _ in store.read(0, 10)] == [2, 3]
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
    from ravenwh.journal import Store
    from ravenwh.ports import Frame
    store = Store(Path(sys.argv[1]))
    number = store.last
    while True:
        number += 1
        assert store.append([Frame("f", b"t", b"", str(number).encode(), number)]) == number
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
        entries = store.read(0, told + 10)
        store.close()
        assert [seq for seq, _ in entries] == list(range(1, len(entries) + 1))
        assert len(entries) >= told
        assert all(int(one.payload) == seq for seq, one in entries)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    store, frames, mark = Store(path, keep_s=3600), [], 0
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
        assert store.read(mark, 1000) == list(enumerate(frames[mark:], mark + 1))
    store.close()
