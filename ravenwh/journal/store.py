"""The SQLite file behind journal and dead letters."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import attrs
import msgspec

from ravenwh.domain.errors import JournalFull, RavenwhError, Refused, Rejected, Unavailable
from ravenwh.ports import Entry, Frame

__all__ = ["DeadLetter", "Store"]

FORMAT = 1
"""The layout of the file, kept in ``user_version``; a newer one is refused, never guessed at."""

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

_encode = msgspec.msgpack.Encoder().encode
_decode_chunk = msgspec.msgpack.Decoder(list[Frame]).decode
_decode_frame = msgspec.msgpack.Decoder(Frame).decode


@attrs.frozen(kw_only=True)
class DeadLetter:
    """A frame that could not be written, and why. ``at`` is nanoseconds since 1970, UTC."""

    seq: int
    at: int
    error: str
    code: str
    reason: str
    frame: Frame


class Store:
    """Journal and dead letters of one runner, in one file that one process at a time may hold.

    Frames are kept in chunks, as they were received, so that a chunk costs one row. Sequence
    numbers count frames, from 1, and never go back. ``max_bytes`` bounds all chunks together;
    acknowledged ones stay for ``keep_s`` for a replay, unless the room is needed.
    """

    def __init__(self, path: Path, *, max_bytes: int = 2 << 30, keep_s: float = 0.0) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._keep_ns = int(keep_s * 1e9)
        self._lock = _lock(path)
        with contextlib.ExitStack() as opened:
            opened.callback(self._lock.close)
            with _translated(path):
                self._db = sqlite3.connect(path, isolation_level=None)
                opened.callback(self._db.close)
                self._prepare()
                self._acknowledged: int = self._one("SELECT acknowledged FROM progress")
                self._last = max(
                    self._acknowledged, self._one("SELECT coalesce(max(last_seq), 0) FROM chunk")
                )
                self._bytes: int = self._one("SELECT coalesce(sum(bytes), 0) FROM chunk")
            opened.pop_all()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        found = self._one("PRAGMA user_version")
        if found == 0:
            with self._transaction():
                for statement in filter(str.strip, LAYOUT.split(";")):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {FORMAT}")
        elif found != FORMAT:
            raise Refused(
                f"{self.path} has journal format {found}, this version of ravenwh reads {FORMAT}: "
                "let the version that wrote it work it off, or move the file away"
            )

    def _one(self, statement: str, *values: object) -> int:
        row = self._db.execute(statement, values).fetchone()
        return int(row[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with _translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @property
    def acknowledged(self) -> int:
        """The last sequence number that needs no replay."""
        return self._acknowledged

    @property
    def last(self) -> int:
        """The sequence number of the newest frame."""
        return self._last

    @property
    def bytes(self) -> int:
        """Bytes of all chunks, the acknowledged ones that are still kept included."""
        return self._bytes

    def append(self, frames: Sequence[Frame]) -> int:
        """Keep the frames as one chunk; the sequence number of the last one."""
        body = _encode(frames)
        if self._bytes + len(body) > self._max_bytes:
            self._make_room(len(body))
        last = self._last + len(frames)
        with self._transaction():
            self._db.execute(
                "INSERT INTO chunk VALUES (?, ?, ?, ?, ?)",
                (last, len(frames), len(body), frames[-1].received_at, body),
            )
        self._last = last
        self._bytes += len(body)
        return last

    def _make_room(self, needed: int) -> None:
        """Give up acknowledged chunks, oldest first, for one more chunk of ``needed`` bytes."""
        with self._transaction():
            kept = self._db.execute(
                "SELECT last_seq, bytes FROM chunk WHERE last_seq <= ? ORDER BY last_seq",
                (self._acknowledged,),
            ).fetchall()
            freed, upto = 0, 0
            for last_seq, size in kept:
                if self._bytes - freed + needed <= self._max_bytes:
                    break
                freed, upto = freed + size, last_seq
            self._db.execute("DELETE FROM chunk WHERE last_seq <= ?", (upto,))
        self._bytes -= freed
        if self._bytes + needed > self._max_bytes:
            raise JournalFull(
                f"{self.path} holds {self._bytes:,} bytes that wait for the database, the limit is "
                f"{self._max_bytes:,} (journal.max_bytes): bring the database back or raise it"
            )

    def read(self, after: int, limit: int) -> list[Entry]:
        """The next entries after a sequence number, in order, at most ``limit``."""
        entries: list[Entry] = []
        with _translated(self.path):
            chunks = self._db.execute(
                "SELECT last_seq, frames, body FROM chunk WHERE last_seq > ? ORDER BY last_seq",
                (after,),
            )
            for last_seq, count, body in chunks:
                first = last_seq - count + 1
                frames = _decode_chunk(body)
                skip = max(0, after + 1 - first)
                take = frames[skip : skip + limit - len(entries)]
                entries.extend(enumerate(take, first + skip))
                if len(entries) >= limit:
                    break
            chunks.close()
        return entries

    def held(self) -> list[Entry]:
        """The entries that the last acknowledgement held back, in order."""
        with _translated(self.path):
            rows = self._db.execute("SELECT seq, body FROM held ORDER BY seq").fetchall()
        return [(seq, _decode_frame(body)) for seq, body in rows]

    def acknowledge(self, upto: int, held: Sequence[Entry] = ()) -> None:
        """Everything up to and including ``upto`` is done, but for the entries held back."""
        with self._transaction():
            self._db.execute("UPDATE progress SET acknowledged = ?", (upto,))
            self._db.execute("DELETE FROM held")
            self._db.executemany(
                "INSERT INTO held VALUES (?, ?)", [(seq, _encode(frame)) for seq, frame in held]
            )
            self._db.execute(
                "DELETE FROM chunk WHERE last_seq <= ? AND received_at <= ?",
                (upto, time.time_ns() - self._keep_ns),
            )
            left = self._one("SELECT coalesce(sum(bytes), 0) FROM chunk")
        self._acknowledged = upto
        self._bytes = left

    def put(self, letters: Sequence[tuple[Entry, RavenwhError]]) -> None:
        """Keep dead letters; one whose sequence number is there already is not put twice."""
        now = time.time_ns()
        rows = [
            (seq, now, type(error).__name__, _code(error), str(error), _encode(frame))
            for (seq, frame), error in letters
        ]
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO dead_letter VALUES (?, ?, ?, ?, ?, ?)", rows
            )

    def dead_letters(self) -> list[DeadLetter]:
        """All dead letters, oldest first."""
        with _translated(self.path):
            rows = self._db.execute(
                "SELECT seq, at, error, code, reason, body FROM dead_letter ORDER BY seq"
            ).fetchall()
        return [
            DeadLetter(
                seq=seq, at=at, error=error, code=code, reason=reason, frame=_decode_frame(body)
            )
            for seq, at, error, code, reason, body in rows
        ]

    def close(self) -> None:
        """Close the file and give it free for another process."""
        self._db.close()
        self._lock.close()


def _code(error: RavenwhError) -> str:
    return error.code if isinstance(error, Rejected) else type(error).__name__.upper()


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


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn what SQLite says into the error whose class is the action."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise JournalFull(f"the disk of {path} is full: {os.strerror(28)}") from error
        raise Unavailable(f"the journal {path} failed: {error}", needs_person=True) from error
