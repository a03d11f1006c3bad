"""The write-ahead log cut or garbled at any byte: a prefix is left, and what was cut is told."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from ravenwh.domain.errors import DecodeError, Unavailable
from ravenwh.journal import Reader, Store
from ravenwh.journal.file import PAGE_SIZE
from ravenwh.ports import Frame

APPENDS = 12
HEADER = 32
PAGE = 24 + PAGE_SIZE
"""Bytes of the log's header, and of each page with its own."""


@pytest.fixture
def lines() -> Iterator[list[str]]:
    heard: list[str] = []
    handler = logger.add(lambda line: heard.append(str(line)), format="{message} {extra}")
    yield heard
    logger.remove(handler)


@pytest.fixture
def killed(tmp_path: Path) -> tuple[Path, list[int]]:
    """A journal as a killed process leaves it, and the length of its log after each append."""
    path = tmp_path / "killed" / "j.sqlite"
    store, lengths = Store(path), []
    log = path.with_name("j.sqlite-wal")
    store.put([((0, frame(0)), DecodeError("no"))])  # so that the tables are in the file itself
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    for number in range(1, APPENDS + 1):
        store.append([frame(number), frame(number)], positions={("f", b"t"): (7, number)}, gaps=())
        lengths.append(log.stat().st_size)
    left = tmp_path / "left"
    left.mkdir()
    for name in ("j.sqlite", "j.sqlite-wal"):
        shutil.copy(path.with_name(name), left / name)
    store.close()
    return left / "j.sqlite", lengths


def frame(number: int) -> Frame:
    return Frame("f", b"t", b"", number.to_bytes(4, "big") + b"x" * (number * 997 % 5000), number)


def reopened(path: Path, log: bytes, folder: Path) -> tuple[int, int]:
    """How many appends are there, and the position, with this log."""
    folder.mkdir()
    shutil.copy(path, folder / path.name)
    (folder / f"{path.name}-wal").write_bytes(log)
    with contextlib.closing(Store(folder / path.name)) as store:
        frames = [one for _, one in store.read(0, 1000, 1 << 30)]
        position = store.positions().get(("f", b"t"), (7, 0))
        assert store._file.db.execute("PRAGMA quick_check").fetchone() == ("ok",)
        assert store.append([frame(99)]) == len(frames) + 1
    assert frames == [frame(n // 2) for n in range(2, len(frames) + 2)]
    return len(frames) // 2, position[1]


def test_a_log_cut_at_any_byte_leaves_what_was_whole(
    killed: tuple[Path, list[int]], tmp_path: Path, lines: list[str]
) -> None:
    path, lengths = killed
    log = path.with_name(f"{path.name}-wal").read_bytes()
    assert len(log) == lengths[-1]
    edges = {offset + off for offset in (0, HEADER, *lengths) for off in (-1, 0, 1, 23, 24, 25)}
    cuts = {*edges, *random.Random(4).sample(range(len(log)), 60)}
    for cut in sorted(cut for cut in cuts if 0 <= cut <= len(log)):
        lines.clear()
        whole = sum(length <= cut for length in lengths)
        assert reopened(path, log[:cut], tmp_path / f"cut{cut}") == (whole, whole)
        # a header without a page holds nothing that could be missed
        is_torn = cut > HEADER and cut not in lengths
        assert [line.split()[0] for line in lines] == ["JOURNAL_CUT"] * is_torn, cut
        shutil.rmtree(tmp_path / f"cut{cut}")


def test_a_log_garbled_at_any_byte_leaves_what_was_before(
    killed: tuple[Path, list[int]], tmp_path: Path, lines: list[str]
) -> None:
    path, lengths = killed
    log = path.with_name(f"{path.name}-wal").read_bytes()
    edges = {offset + off for offset in (0, HEADER, *lengths[:-1]) for off in (0, 4, 8, 12, 16, 24)}
    places = {*edges, *random.Random(5).sample(range(len(log)), 60)}
    for place in sorted(places):
        lines.clear()
        garbled = bytearray(log)
        garbled[place] ^= 0x55
        whole = sum(length <= place for length in lengths)
        assert reopened(path, bytes(garbled), tmp_path / f"at{place}") == (whole, whole)
        # other salts in the header of a page are those of an earlier turn of the log
        is_salt = place >= HEADER and (place - HEADER) % PAGE in range(8, 16)
        assert [line.split()[0] for line in lines] == ["JOURNAL_CUT"] * (not is_salt), place
        shutil.rmtree(tmp_path / f"at{place}")


def test_a_log_that_is_whole_tells_nothing(
    killed: tuple[Path, list[int]], tmp_path: Path, lines: list[str]
) -> None:
    path, _ = killed
    log = path.with_name(f"{path.name}-wal").read_bytes()
    assert reopened(path, log, tmp_path / "whole") == (APPENDS, APPENDS)
    Store(tmp_path / "whole" / path.name).close()
    assert lines == []


def test_the_rest_of_an_earlier_turn_of_the_log_is_not_missed(
    tmp_path: Path, lines: list[str]
) -> None:
    path = tmp_path / "j.sqlite"
    store = Store(path)
    store.append([frame(number) for number in range(50)])
    store._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    store.append([frame(1)])  # the log begins anew; most of what was in it is still behind
    (tmp_path / "left").mkdir()
    for name in ("j.sqlite", "j.sqlite-wal"):
        shutil.copy(tmp_path / name, tmp_path / "left" / name)
    store.close()
    with contextlib.closing(Store(tmp_path / "left" / "j.sqlite")) as again:
        assert again.last == 51
    assert lines == []


def test_a_file_that_is_damaged_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    Store(path).close()
    content = bytearray(path.read_bytes())
    content[:16] = b"no database here"
    path.write_bytes(bytes(content))
    for open_it in (Store, Reader):
        with pytest.raises(Unavailable, match=r"is damaged .*move it away") as caught:
            open_it(path)
        assert caught.value.needs_person
        assert isinstance(caught.value.__cause__, sqlite3.Error)
    assert path.read_bytes() == bytes(content)
