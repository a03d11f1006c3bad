"""Kernel locks: who holds them, and what becomes of a lock whose file is removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ravenwh.domain.errors import Unavailable
from ravenwh.embedded import locks


def test_a_lock_is_free_until_someone_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert locks.is_free(path)
    with locks.exclusive(path, timeout_s=1):
        assert not locks.is_free(path)
    assert locks.is_free(path)


def test_shared_holders_shut_out_the_one_who_wants_it_alone(tmp_path: Path) -> None:
    first, second = locks.open_file(tmp_path / "a.lock"), locks.open_file(tmp_path / "a.lock")
    assert locks.try_lock(first, shared=True)
    assert locks.try_lock(second, shared=True)
    assert not locks.try_lock(first)
    locks.close(first)
    assert locks.try_lock(second)
    locks.close(second)


def test_waiting_too_long_names_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with (
        locks.exclusive(path, timeout_s=1),
        pytest.raises(Unavailable, match=rf"pid {os.getpid()}\b.* for 0\.02 s"),
        locks.exclusive(path, timeout_s=0.02),
    ):
        pytest.fail("two hold it alone")


def test_a_lock_on_a_removed_file_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last holder may remove the folder between our opening the file and our locking it."""
    path = tmp_path / "folder" / "a.lock"
    real = locks.try_lock
    looks = 0

    def removed_meanwhile(descriptor: int, *, shared: bool = False) -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            path.unlink()
            path.parent.rmdir()
        return real(descriptor, shared=shared)

    monkeypatch.setattr(locks, "try_lock", removed_meanwhile)
    with locks.exclusive(path, timeout_s=5, prepare=lambda: path.parent.mkdir(exist_ok=True)):
        assert looks == 2
        assert not locks.is_free(path)


def test_holders_of_a_lock_are_those_of_this_file(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert locks.holders(path) == ()
    with locks.exclusive(path, timeout_s=1), locks.exclusive(tmp_path / "b.lock", timeout_s=1):
        assert locks.holders(path) == (os.getpid(),)
    assert locks.holders(path) == ()
