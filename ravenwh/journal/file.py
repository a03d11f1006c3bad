"""One SQLite file that one process at a time may hold: its lock, its layout, its errors."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from loguru import logger

from ravenwh.domain.errors import JournalFull, Refused, Unavailable
from ravenwh.journal.checkpoints import Checkpoints
from ravenwh.journal.tail import pages_in

__all__ = ["File", "lock_of", "require_format", "translated"]

FORMAT = 2
"""The layout of the file, kept in ``user_version``; a newer one is refused, never guessed at."""

RESERVE = 16 << 20
"""Bytes of the disk that frames do not take. An acknowledgement writes too, and a checkpoint needs
room for what is in the write-ahead log: on a disk that frames filled to the brim, neither could
ever give room back."""

LOG_LIMIT = 16 << 20
"""Bytes to which the write-ahead log is cut after a checkpoint, when it had to be larger."""

PAGE_SIZE = 16_384
"""Chunks of frames are large: with SQLite's usual pages of 4,096 bytes they cost twice the time."""

SMALL = 4 * PAGE_SIZE
"""What a transaction without frames writes, about."""

SPARE = 32 << 20
GIVEN_BACK = 4 << 20
"""Free bytes that stay in the file for the next frames, and how many go back to the disk at once:
pages are moved for it, and an acknowledgement is short."""

LAYOUT = """
CREATE TABLE chunk (
    last_seq INTEGER PRIMARY KEY, frames INTEGER NOT NULL, bytes INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE held (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE progress (one INTEGER PRIMARY KEY CHECK (one = 1), acknowledged INTEGER NOT NULL);
INSERT INTO progress VALUES (1, 0);
CREATE TABLE mark (
    number INTEGER PRIMARY KEY, at INTEGER NOT NULL, upto INTEGER NOT NULL,
    floor INTEGER NOT NULL);
CREATE TABLE stream (
    id INTEGER PRIMARY KEY, feed TEXT NOT NULL, topic BLOB NOT NULL);
CREATE TABLE position_page (page INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE gap (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE collection (
    venue TEXT, data_type TEXT, symbol TEXT, wanted INTEGER NOT NULL,
    PRIMARY KEY (venue, data_type, symbol)) WITHOUT ROWID;
CREATE TABLE cause (
    id INTEGER PRIMARY KEY, feed TEXT NOT NULL, origin TEXT NOT NULL, error TEXT NOT NULL,
    code TEXT NOT NULL, kept INTEGER NOT NULL, bytes INTEGER NOT NULL,
    collapsed INTEGER NOT NULL, dropped INTEGER NOT NULL, first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL, last_seq INTEGER NOT NULL);
CREATE TABLE dead_letter (
    seq INTEGER PRIMARY KEY, cause INTEGER NOT NULL REFERENCES cause (id), at INTEGER NOT NULL,
    reason TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX dead_letter_of_cause ON dead_letter (cause, seq);
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
                is_new = self._prepare()
                self._checkpoints = Checkpoints(path)
                opened.callback(self._checkpoints.close)
                if is_new:
                    self._lay_out()
                require_format(self.db, path)
            opened.pop_all()

    def _prepare(self) -> bool:
        """Set up the connection; whether the file is new."""
        written = pages_in(self.path.with_name(f"{self.path.name}-wal"))
        is_new = self.one("PRAGMA user_version") == 0
        if is_new:
            self.db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            self.db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute("PRAGMA wal_autocheckpoint = 0")  # see Checkpoints
        self.db.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}")
        self._check(written)
        return is_new

    def _lay_out(self) -> None:
        with self.transaction():
            for statement in filter(str.strip, LAYOUT.split(";")):
                self.db.execute(statement)
            self.db.execute(f"PRAGMA user_version = {FORMAT}")

    def _check(self, written: int) -> None:
        """Tell what SQLite cut from the end of the write-ahead log, and look at what is left.

        A process that is killed in the middle of a commit leaves half of it there: that was never
        promised to anybody. After a power cut it can be more.
        """
        _, whole, _ = self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if written <= max(0, whole):
            return
        size = (written - max(0, whole)) * self.one("PRAGMA page_size")
        logger.bind(journal=str(self.path), bytes=size).warning("JOURNAL_CUT")
        (found,) = self.db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise _damaged(self.path, found)

    def one(self, statement: str) -> int:
        """The one number that the statement gives."""
        with self.translated():
            return int(self.db.execute(statement).fetchone()[0])

    @contextlib.contextmanager
    def transaction(self, size: int = SMALL) -> Iterator[None]:
        """All of it or nothing; ``size`` is about how many bytes it writes.

        SQLite itself rolls back after some errors, a full disk for one.
        """
        with self.translated():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise
        self._checkpoints.wrote(self.db, size)

    def require_room(self, needed: int) -> None:
        """Raise JournalFull where so many more bytes would leave the disk without RESERVE."""
        disk = os.statvfs(self.path.parent)
        left = disk.f_bavail * disk.f_frsize - self._checkpoints.unmoved
        if left >= RESERVE + needed:
            return
        free = self.one("PRAGMA freelist_count") * self.one("PRAGMA page_size")
        if free < needed + needed // 4:  # pages inside the file do as well, but never to the brim
            raise JournalFull(
                f"the disk of {self.path} is full: {max(0, left):,} bytes are left, {RESERVE:,} "
                "are kept for what must be noted to empty it; make room, and it goes on by itself"
            )

    def checkpoint(self) -> None:
        """Move what is in the write-ahead log to its place, so that the log's room serves again.

        Tries only: on a full disk it may not succeed, and then nothing has changed.
        """
        self._checkpoints.now(self.db)

    def shrink(self) -> bool:
        """Give a portion of the free pages back to the disk; whether there is more to give."""
        size = self.one("PRAGMA page_size")
        free = self.one("PRAGMA freelist_count") * size
        if free <= SPARE:
            return False
        with contextlib.suppress(sqlite3.Error):  # on a full disk, where it can wait
            portion = min(free - SPARE, GIVEN_BACK) // size
            self.db.execute(f"PRAGMA incremental_vacuum({portion})").fetchall()
            self._checkpoints.wrote(self.db, portion * size)
            return free - portion * size > SPARE
        return False

    def translated(self) -> contextlib.AbstractContextManager[None]:
        """Turn what SQLite says into JournalFull or Unavailable."""
        return translated(self.path)

    def close(self) -> None:
        """Close the file and give it free for another process."""
        self._checkpoints.close()
        self.db.close()
        self._lock.close()


def require_format(db: sqlite3.Connection, path: Path) -> None:
    """Raise Refused where another version has written the file."""
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    if found != FORMAT:
        raise Refused(
            f"{path} has journal format {found}, this version of ravenwh reads {FORMAT}: "
            "let the version that wrote it work it off, or move the file away"
        )


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite says of this file into JournalFull or Unavailable."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise JournalFull(
                f"the disk of {path} is full: make room, and it goes on by itself"
            ) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _damaged(path, str(error)) from error
        raise Unavailable(f"the journal {path} failed: {error}", needs_person=True) from error


def _damaged(path: Path, what: str) -> Unavailable:
    return Unavailable(
        f"the journal {path} is damaged ({what}): move it away together with {path.name}-wal; a "
        "new one is made, and what waited in the old one is to be replayed from its source",
        needs_person=True,
    )


def lock_of(path: Path) -> Path:
    """The file that is locked by the process that holds the journal."""
    return path.with_suffix(".lock")


def _lock(path: Path) -> IO[bytes]:
    """Hold the journal for this process; the kernel gives it free when the process ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = lock_of(path).open("ab")
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
