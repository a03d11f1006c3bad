"""Moving the write-ahead log into the file, on a thread: nobody waits for the disk meanwhile."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

__all__ = ["Checkpoints"]

EVERY = 8 << 20
"""Bytes that are written between two checkpoints; what a power cut may cost."""

MOST = 128 << 20
"""Bytes in the log beyond which who writes moves them too, at twice as many even if he has to wait
for the thread. The log can only begin anew where all of it was moved at one moment, which the
thread does not see while others write without a pause."""


class Checkpoints:
    """The checkpoints of one file, each of which synchronises it to the disk.

    A synchronisation takes from milliseconds to seconds, as busy as the disk is. SQLite would do it
    in the commit that is due, and a runner would neither receive nor write meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = 0  # bytes, since we began; the others are marks in it
        self._asked = 0
        self._moved = 0
        self._log_began = 0
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._at_work = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="journal-checkpoints", daemon=True)
        self._thread.start()

    @property
    def unmoved(self) -> int:
        """Bytes, about, that the file may yet grow by."""
        return self._written - self._moved

    def wrote(self, db: sqlite3.Connection, size: int) -> None:
        """So many bytes, about, were committed on this connection."""
        self._written += size
        in_log = self._written - self._log_began
        if in_log >= 2 * MOST or (in_log >= MOST and not self._at_work.locked()):
            self.now(db)
        elif self._written - self._asked >= EVERY:
            self._asked = self._written
            self._wake.set()

    def now(self, db: sqlite3.Connection) -> None:
        """Do it on this connection, after the one that is under way, if it can be done."""
        with self._at_work:
            if self._move(db):
                self._log_began = self._written
        self._asked = self._written

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as db:
            while True:
                self._wake.wait()
                self._wake.clear()
                if self._ended.is_set():
                    return
                with self._at_work:
                    self._move(db)

    def _move(self, db: sqlite3.Connection) -> bool:
        """Move what is in the log now; whether that was all of it. On a full disk it may not be.

        How long the log is, is known then. Whether the next write begins it anew only the thread
        that writes can tell: another's may have come before the end of ours.
        """
        written = self._written
        with contextlib.suppress(sqlite3.Error):
            _, whole, moved = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            (page,) = db.execute("PRAGMA page_size").fetchone()
            self._log_began = written - whole * page
            if moved == whole:
                self._moved = written
                return True
        return False
