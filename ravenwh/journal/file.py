"""One SQLite file that one process at a time may hold: its lock, its layout, its errors."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ravenwh.domain.errors import JournalFull, Refused, Unavailable

__all__ = ["File"]

FORMAT = 1
"""The layout of the file, kept in ``user_version``; a newer one is refused, never guessed at."""

RESERVE = 16 << 20
"""Bytes of the disk that frames do not take. An acknowledgement writes too, and a checkpoint needs
room for what is in the write-ahead log: on a disk that frames filled to the brim, neither could
ever give room back."""

LAYOUT = """
CREATE TABLE chunk (
    last_seq INTEGER PRIMARY KEY, frames INTEGER NOT NULL, bytes INTEGER NOT NULL,
    received_at INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE held (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE progress (one INTEGER PRIMARY KEY CHECK (one = 1), acknowledged INTEGER NOT NULL);
INSERT INTO progress VALUES (1, 0);
CREATE TABLE dead_letter (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, error TEXT NOT NULL, code TEXT NOT NULL,
    reason TEXT NOT NULL, body BLOB NOT NULL);
"""


class File:
    """The connection, with SQLite's errors turned into those whose class is the action."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _lock(path)
        with contextlib.ExitStack() as opened:
            opened.callback(self._lock.close)
            with self.translated():
                self.db = sqlite3.connect(path, isolation_level=None)
                opened.callback(self.db.close)
                self._prepare()
            opened.pop_all()

    def _prepare(self) -> None:
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        found = self.one("PRAGMA user_version")
        if found == 0:
            with self.transaction():
                for statement in filter(str.strip, LAYOUT.split(";")):
                    self.db.execute(statement)
                self.db.execute(f"PRAGMA user_version = {FORMAT}")
        elif found != FORMAT:
            raise Refused(
                f"{self.path} has journal format {found}, this version of ravenwh reads {FORMAT}: "
                "let the version that wrote it work it off, or move the file away"
            )

    def one(self, statement: str) -> int:
        """The one number that the statement gives."""
        with self.translated():
            return int(self.db.execute(statement).fetchone()[0])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing. SQLite itself rolls back after some errors, a full disk for one."""
        with self.translated():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def require_room(self, needed: int) -> None:
        """Raise JournalFull where so many more bytes would leave the disk without RESERVE."""
        disk = os.statvfs(self.path.parent)
        left = disk.f_bavail * disk.f_frsize
        if left >= RESERVE + needed:
            return
        free = self.one("PRAGMA freelist_count") * self.one("PRAGMA page_size")
        if free < needed + needed // 4:  # pages inside the file do as well, but never to the brim
            raise JournalFull(
                f"the disk of {self.path} is full: {left:,} bytes are left, and {RESERVE:,} are "
                "kept for what must be noted to empty it; make room, and it goes on by itself"
            )

    def checkpoint(self) -> None:
        """Move what is in the write-ahead log to its place, so that the log's room serves again.

        Tries only: on a full disk it may not succeed, and then nothing has changed.
        """
        with contextlib.suppress(sqlite3.Error):
            self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what SQLite says into JournalFull or Unavailable."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                raise JournalFull(
                    f"the disk of {self.path} is full: make room, and it goes on by itself"
                ) from error
            raise Unavailable(
                f"the journal {self.path} failed: {error}", needs_person=True
            ) from error

    def close(self) -> None:
        """Close the file and give it free for another process."""
        self.db.close()
        self._lock.close()


def _lock(path: Path) -> IO[bytes]:
    """Hold the journal for this process; the kernel gives it free when the process ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = path.with_suffix(".lock").open("ab")
    except OSError as error:
        raise Unavailable(
            f"the journal {path} cannot be opened: {error.strerror}; "
            "give this user the folder, or set journal.dir to another",
            needs_person=True,
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise Refused(
            f"the journal {path} is in use by another process: is the same runner running twice? "
            "(stop it, or give this one another journal.dir)"
        ) from error
    return handle
