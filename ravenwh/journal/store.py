"""The chunks of frames in the file, and how far they are worked off."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ravenwh.domain.errors import JournalFull, RavenwhError, TooLarge
from ravenwh.journal.dead import DeadLetter, DeadLetterTable
from ravenwh.journal.file import File
from ravenwh.ports import Entry, Frame

__all__ = ["DeadLetter", "Store"]

EXPIRE_EVERY_S = 60.0
EXPIRED_CHUNKS = 1000
EXPIRED_BYTES = 64 << 20
"""How often old acknowledged chunks are looked for, and how much goes at once: an
acknowledgement is short, whatever is kept. Where more is due, the next one goes on."""

FULL_DISK_TRIES = 4
"""How often acknowledged chunks of the needed size give way on a full disk, which counts in pages
and not in bytes."""

_encode = msgspec.msgpack.Encoder().encode
_decode_chunk = msgspec.msgpack.Decoder(list[Frame]).decode
_decode_frame = msgspec.msgpack.Decoder(Frame).decode


class Store:
    """Journal and dead letters of one runner, in one file that one process at a time may hold.

    Frames are kept in chunks, as they were appended, so that a chunk costs one row. Sequence
    numbers count frames, from 1, and never go back. ``max_bytes`` bounds all chunks together;
    acknowledged ones stay for ``keep_s`` for a replay, unless the room is needed.
    ``max_dead_bytes`` bounds the dead letters.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 2 << 30,
        keep_s: float = 0.0,
        max_dead_bytes: int = 256 << 20,
    ) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._keep_ns = int(keep_s * 1e9)
        self._expire_at = 0.0
        self._file = File(path)
        with contextlib.ExitStack() as opened:
            opened.callback(self._file.close)
            self._db = self._file.db
            one = self._file.one
            self._dead = DeadLetterTable(self._file, max_bytes=max_dead_bytes)
            self._acknowledged = one("SELECT acknowledged FROM progress")
            self._last = max(
                self._acknowledged, one("SELECT coalesce(max(last_seq), 0) FROM chunk")
            )
            self._bytes = one("SELECT coalesce(sum(bytes), 0) FROM chunk")
            self._held = {seq for seq, _ in self.held()}
            opened.pop_all()

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
        """Keep the frames as one chunk; the sequence number of the last one.

        Acknowledged chunks give way, oldest first, where the limit or the disk leaves no room.
        Raises JournalFull where that is not enough, TooLarge where it never will be.
        """
        body = _encode(frames)
        needed = self._bytes + len(body) - self._max_bytes
        if len(body) > self._max_bytes:
            raise TooLarge(
                f"{len(frames):,} frames of {len(body):,} bytes are more than {self.path} may hold "
                f"at all, {self._max_bytes:,} (journal.max_bytes)"
            )
        if needed > 0 and self._give_up(needed) < needed:
            raise JournalFull(
                f"{self.path} holds {self._bytes:,} bytes that wait for the database, the limit is "
                f"{self._max_bytes:,} (journal.max_bytes): bring the database back or raise it"
            )
        row = (self._last + len(frames), len(frames), len(body), frames[-1].received_at, body)
        tries = 0
        while True:
            try:
                self._file.require_room(len(body))
                self._insert(row)
                break
            except JournalFull:
                tries += 1
                self._file.checkpoint()
                if tries > FULL_DISK_TRIES or not self._give_up(len(body)):
                    raise
        self._last = row[0]
        self._bytes += len(body)
        return self._last

    def _insert(self, row: tuple[object, ...]) -> None:
        with self._file.transaction():
            self._db.execute("INSERT INTO chunk VALUES (?, ?, ?, ?, ?)", row)

    def _give_up(self, needed: int) -> int:
        """Delete acknowledged chunks, oldest first, of so many bytes; the bytes it came to."""
        freed, last = 0, 0
        with self._file.transaction():
            with contextlib.closing(
                self._db.execute(
                    "SELECT last_seq, bytes FROM chunk WHERE last_seq <= ? ORDER BY last_seq",
                    (self._acknowledged,),
                )
            ) as chunks:
                for last_seq, size in chunks:
                    freed, last = freed + size, last_seq
                    if freed >= needed:
                        break
            self._db.execute("DELETE FROM chunk WHERE last_seq <= ?", (last,))
        self._bytes -= freed
        return freed

    def read(self, after: int, limit: int, max_bytes: int) -> list[Entry]:
        """The next entries after a sequence number, in order: ``limit`` or ``max_bytes`` at most.

        The first one comes whatever its size.
        """
        entries: list[Entry] = []
        total = 0
        with (
            self._file.translated(),
            contextlib.closing(
                self._db.execute(
                    "SELECT last_seq, frames, body FROM chunk WHERE last_seq > ? ORDER BY last_seq",
                    (after,),
                )
            ) as chunks,
        ):
            for last_seq, count, body in chunks:
                first = last_seq - count + 1
                skip = max(0, after + 1 - first)
                for seq, frame in enumerate(_decode_chunk(body)[skip:], first + skip):
                    total += frame.size
                    if entries and total > max_bytes:
                        return entries
                    entries.append((seq, frame))
                    if len(entries) >= limit:
                        return entries
        return entries

    def held(self) -> list[Entry]:
        """The entries that the last acknowledgement held back, in order."""
        with self._file.translated():
            rows = self._db.execute("SELECT seq, body FROM held ORDER BY seq").fetchall()
        return [(seq, _decode_frame(body)) for seq, body in rows]

    def acknowledge(self, upto: int, held: Sequence[Entry] = ()) -> None:
        """Everything up to and including ``upto`` is done, but for the entries held back."""
        now = time.monotonic()
        is_due, more, freed = now >= self._expire_at, False, 0
        kept = dict(held)
        with self._file.transaction():
            self._db.execute("UPDATE progress SET acknowledged = ?", (upto,))
            self._db.executemany(
                "DELETE FROM held WHERE seq = ?", [(seq,) for seq in self._held - kept.keys()]
            )
            self._db.executemany(
                "INSERT INTO held VALUES (?, ?)",
                [(seq, _encode(kept[seq])) for seq in kept.keys() - self._held],
            )
            if is_due:
                freed, more = self._expire(upto)
        self._acknowledged = upto
        self._held = set(kept)
        self._bytes -= freed
        if is_due and not more:
            self._expire_at = now + EXPIRE_EVERY_S

    def _expire(self, upto: int) -> tuple[int, bool]:
        """Delete a portion of what is kept long enough: its bytes, and whether more is due."""
        before = time.time_ns() - self._keep_ns
        freed, last, more = 0, 0, False
        oldest = self._db.execute(
            "SELECT last_seq, bytes, received_at FROM chunk WHERE last_seq <= ? "
            "ORDER BY last_seq LIMIT ?",
            (upto, EXPIRED_CHUNKS + 1),
        ).fetchall()
        for index, (last_seq, size, received_at) in enumerate(oldest):
            if received_at > before:
                break
            if index == EXPIRED_CHUNKS or freed >= EXPIRED_BYTES:
                more = True
                break
            freed, last = freed + size, last_seq
        self._db.execute("DELETE FROM chunk WHERE last_seq <= ?", (last,))
        return freed, more

    @property
    def dead_letters_dropped(self) -> int:
        """How many dead letters this process gave up at their limit."""
        return self._dead.dropped

    def put(self, letters: Sequence[tuple[Entry, RavenwhError]]) -> None:
        """Keep dead letters; one whose sequence number is there already is not put twice."""
        self._dead.put(letters)

    def dead_letters(self) -> list[DeadLetter]:
        """All dead letters that are kept, oldest first."""
        return self._dead.all()

    def close(self) -> None:
        """Close the file and give it free for another process."""
        self._file.close()
