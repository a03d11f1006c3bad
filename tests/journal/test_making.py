"""States that are kept with the acknowledgement of what went into them, and what was made last."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ravenwh.domain.errors import JournalFull
from ravenwh.journal import MakingStore, Progress, Redo, making
from ravenwh.ports import Frame


def frame(number: int = 0) -> Frame:
    return Frame("f", b"t", b"", b"x" * 10, number)


@attrs.define
class Summing:
    """A making that is due when the test says so."""

    states: dict[str, bytes] = attrs.field(factory=dict)
    made: bytes | None = None
    due: bool = False
    kept_times: int = 0

    def is_due(self) -> bool:
        return self.due

    def progress(self) -> Progress:
        return Progress(states=self.states, made=self.made)

    def kept(self) -> None:
        self.kept_times += 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "j.sqlite"


def opened(path: Path, summing: Summing, **limits: int) -> MakingStore:
    store = MakingStore(path, **limits)
    store.attach(summing)
    return store


def test_states_and_acknowledgement_are_kept_together_or_not_at_all(path: Path) -> None:
    summing = Summing(states={"a": b"1", "b": b"2"}, made=b"bars")
    store = opened(path, summing)
    store.append([frame(n) for n in range(3)])
    held = store.read(0, 1, 1000)
    store.acknowledge(2, held)  # not due: as if it had not been
    store.close()
    store = opened(path, summing)
    assert (store.acknowledged, store.held(), store.states(), store.made()) == (0, [], {}, [])
    summing.due = True
    store.acknowledge(2, held)
    store.close()
    store = opened(path, summing)
    assert (store.acknowledged, store.held()) == (2, held)
    assert (store.states(), store.made()) == ({"a": b"1", "b": b"2"}, [b"bars"])
    assert summing.kept_times == 1
    store.close()


def test_only_states_that_changed_are_written(path: Path) -> None:
    summing = Summing(states={"a": b"1"}, due=True)
    store = opened(path, summing)
    store.acknowledge(0)
    summing.states = {"b": b"2"}
    store.acknowledge(0)
    store.set_state("c", b"3")
    assert store.states() == {"a": b"1", "b": b"2", "c": b"3"}
    assert store.made() == []
    store.close()


def test_what_was_last_acknowledged_can_be_kept_at_any_time(path: Path) -> None:
    summing = Summing(states={"a": b"1"})
    store = opened(path, summing)
    store.append([frame()])
    store.acknowledge(1)
    store.keep()
    assert (store.acknowledged, store.states()) == (1, {"a": b"1"})
    store.close()


def test_the_journal_does_not_wait_for_room_that_is_only_not_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "MOST_FRAMES", 3)
    summing = Summing()
    store = opened(path, summing)
    store.append([frame(n) for n in range(4)])
    store.acknowledge(2)
    assert store.acknowledged == 0
    store.acknowledge(3)
    assert store.acknowledged == 3
    store.close()


def test_the_newest_of_what_was_made_is_kept(path: Path) -> None:
    summing = Summing(due=True)
    store = opened(path, summing, max_made_bytes=25)
    for number in range(9):
        summing.made = b"%010d" % number
        store.acknowledge(0)
    expected = [b"0000000007", b"0000000008"]
    assert store.made() == expected
    store.close()
    store = opened(path, summing, max_made_bytes=25)
    summing.made = b"9"
    store.acknowledge(0)
    assert store.made() == [*expected, b"9"]
    store.close()


def test_a_failure_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summing = Summing(states={"a": b"1"}, made=b"bars", due=True)
    store = opened(path, summing)
    store.append([frame()])

    def full(*_: object) -> int:
        raise JournalFull("full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_give_up_made", full)
        with pytest.raises(JournalFull):
            store.acknowledge(1)
    assert (store.acknowledged, store.states(), store.made()) == (0, {}, [])
    assert summing.kept_times == 0
    store.acknowledge(1)
    assert (store.acknowledged, store.states(), store.made()) == (1, {"a": b"1"}, [b"bars"])
    store.close()


def test_commands_read_it_like_any_journal(path: Path) -> None:
    store = opened(path, Summing(due=True))
    store.append([frame()])
    store.acknowledge(1)
    store.close()
    redo = Redo(path)
    assert (redo.acknowledged, redo.last) == (1, 1)
    redo.close()
