"""Positions of streams: as durable as the frames, and bounded."""

from __future__ import annotations

from pathlib import Path

import pytest
from loguru import logger

from ravenwh.domain.errors import JournalFull
from ravenwh.journal import Store, positions
from ravenwh.ports import Frame, Position, Stream

LARGEST = 2**63 - 1


def frame(number: int = 0, size: int = 10) -> Frame:
    return Frame("f", b"t", b"", b"x" * size, number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "j.sqlite"


def reopened(store: Store) -> Store:
    store.close()
    return Store(store.path)


def test_positions_are_there_after_a_restart(path: Path) -> None:
    store = Store(path)
    assert store.positions() == {}
    many: dict[Stream, Position] = {("f", b"T:%d " % n): (n, LARGEST - n) for n in range(1000)}
    store.append([frame()], positions=many)
    assert store.positions() == many
    store = reopened(store)
    assert store.positions() == many
    some: dict[Stream, Position] = {
        ("f", b"T:700 "): (LARGEST, 1),
        ("g", b"T:700 "): (3, 4),
        ("g", b"\xff\x00"): (5, 6),
    }
    assert store.append([], positions=some) == 1  # without a frame, too
    assert store.positions() == many | some
    store = reopened(store)
    assert store.positions() == many | some
    store.close()


def test_a_position_is_noted_with_its_frames_or_not_at_all(path: Path) -> None:
    store = Store(path, max_bytes=1000)
    store.append([frame(size=600)], positions={("f", b"t"): (1, 1)})
    with pytest.raises(JournalFull):
        store.append([frame(size=600)], positions={("f", b"t"): (1, 2), ("f", b"u"): (1, 1)})
    assert store.positions() == {("f", b"t"): (1, 1)}
    store._db.execute(f"PRAGMA max_page_count = {store._file.one('PRAGMA page_count')}")
    with pytest.raises(JournalFull):  # the disk, in the middle of the transaction
        store.append([], positions={("f", b"%d" % n): (1, 1) for n in range(100_000)})
    assert store.positions() == {("f", b"t"): (1, 1)}
    store = reopened(store)
    assert store.positions() == {("f", b"t"): (1, 1)}
    store.close()


def test_a_chunk_of_many_streams_changes_few_rows(path: Path) -> None:
    store = Store(path)
    many: dict[Stream, Position] = {("f", b"T:%d " % n): (1, 1) for n in range(500)}
    store.append([frame()], positions=many)
    before = store._db.total_changes
    store.append([frame()], positions=dict.fromkeys(many, (1, 2)))
    assert store._db.total_changes - before < 10
    store.close()


def test_streams_are_bounded_and_the_oldest_are_forgotten(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(positions, "STREAMS", 800)
    store = Store(path)
    lines: list[str] = []
    handler = logger.add(lambda line: lines.append(str(line)), format="{message} {extra}")
    alive: dict[Stream, Position] = {("f", b"alive"): (1, 0)}
    try:
        for n in range(1, 2001):
            alive = {("f", b"alive"): (1, n)}
            store.append([], positions=alive | {("f", b"%d" % n): (2, n)})
    finally:
        logger.remove(handler)
    kept = store.positions()
    assert 700 <= len(kept) <= 800
    newest: dict[Stream, Position] = {("f", b"%d" % n): (2, n) for n in range(1400, 2001)}
    assert kept | newest | alive == kept
    store = reopened(store)
    assert store.positions() == kept
    assert store._file.one("SELECT count(*) FROM position_page") < 10
    store.close()
    assert {line.split()[0] for line in lines} == {"STREAMS_FORGOTTEN"}
    assert len(lines) > 5
