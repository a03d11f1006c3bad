"""Kernel locks on files: they end with the process that holds them, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ravenwh.domain.errors import Unavailable
from ravenwh.embedded.account import give_to_owner_of

__all__ = ["close", "exclusive", "holders", "is_free", "listed", "open_file", "try_lock"]

POLL_S = 0.01


def open_file(path: Path) -> int:
    """A descriptor of the lock's file, made if need be, belonging to its folder's owner."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    give_to_owner_of(path.parent, descriptor)
    return descriptor


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock if nobody is in the way. A failed change of a held lock gives that one up."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def close(descriptor: int) -> None:
    """Give up the lock and the file, even if a forked child still has the file open, too."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock. The question is itself a short lock: ask it under another."""
    if not path.exists():
        return True
    descriptor = os.open(path, os.O_RDWR)
    try:
        return try_lock(descriptor)
    finally:
        close(descriptor)


@contextmanager
def exclusive(
    path: Path, *, timeout_s: float, prepare: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold the lock alone. Raises Unavailable, naming the holders, after ``timeout_s``.

    The file may be removed, with its folder, by the holder before us: then its lock is worth
    nothing, and another file is locked. ``prepare`` is called before each look, to make the folder.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        prepare()
        descriptor = open_file(path)
        try:
            if try_lock(descriptor) and is_same_file(descriptor, path):
                yield
                return
        finally:
            close(descriptor)
        if time.monotonic() >= deadline:
            raise Unavailable(
                f"another process ({listed(holders(path))}) has been starting or stopping the "
                f"embedded PostgreSQL in {path.parent} for {timeout_s:g} s; try again, or look at "
                "what that process does"
            )
        time.sleep(POLL_S)


def is_same_file(descriptor: int, path: Path) -> bool:
    """Whether the path still names the file that the descriptor has open."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def holders(path: Path) -> tuple[int, ...]:
    """The pids that hold the lock or wait for it, as far as this system tells (Linux does)."""
    try:
        file = path.stat()
        table = Path("/proc/locks").read_text()
    except OSError:
        return ()
    name = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    found = set()
    for line in table.splitlines():
        fields = line.replace("-> ", "").split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == name and int(fields[4]) > 0:
            found.add(int(fields[4]))
    return tuple(sorted(found))


def listed(pids: tuple[int, ...]) -> str:
    """The pids in words."""
    return f"pid {', '.join(map(str, pids))}" if pids else "its pid is not known here"
