"""The chunks of frames in the file, and how far they are worked off."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ravenwh.domain.errors import JournalFull, RavenwhError, TooLarge
from ravenwh.journal.chunks import (
    Recent,
    chunks_after,
    decode_frame,
    encode,
    entries,
    newest_before,
)
from ravenwh.journal.dead import DeadLetterTable
from ravenwh.journal.file import SMALL, File
from ravenwh.journal.letters import DeadLetter, Selection, letters
from ravenwh.journal.marks import MarkTable
from ravenwh.journal.outbox import GapOutbox
from ravenwh.journal.positions import PositionTable
from ravenwh.ports import Entry, Frame, Gap, Position, Stream

__all__ = ["Store"]

EXPIRE_EVERY_S = 60.0
EXPIRED_CHUNKS = 1000
EXPIRED_BYTES = 64 << 20
"""How often old acknowledged chunks are looked for, and how much goes at once: an
acknowledgement is short, whatever is kept. Where more is due, the next one goes on."""

FULL_DISK_TRIES = 4
"""How often acknowledged chunks of the needed size give way on a full disk, which counts in pages
and not in bytes."""

Collection = tuple[str, str, str]
"""Venue, data type, symbol."""


class Store:
    """Journal and dead letters of one runner, in one file that one process at a time may hold.

    Frames are kept in chunks, as they were appended, so that a chunk costs one row. Sequence
    numbers count frames, from 1, and never go back. ``max_bytes`` bounds all chunks together;
    acknowledged ones stay for ``keep_s`` after they were, for a replay, unless the room is needed.
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
        self._recent = Recent()
        self._file = File(path)
        with contextlib.ExitStack() as opened:
            opened.callback(self._file.close)
            self._db = self._file.db
            one = self._file.one
            self._acknowledged = one("SELECT acknowledged FROM progress")
            self._last = max(
                self._acknowledged, one("SELECT coalesce(max(last_seq), 0) FROM chunk")
            )
            self._deleted = one(
                f"SELECT coalesce(min(last_seq - frames), {self._last}) FROM chunk"  # noqa: S608  a number
            )
            self._bytes = one("SELECT coalesce(sum(bytes), 0) FROM chunk")
            self._held = {seq for seq, _ in self.held()}
            self._marks = MarkTable(self._file)
            self._positions = PositionTable(self._file)
            self._gaps = GapOutbox(self._file)
            self._dead = DeadLetterTable(
                self._file,
                max_bytes=max_dead_bytes,
                acknowledged=self._acknowledged,
                last=self._last,
            )
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

    def append(
        self,
        frames: Sequence[Frame],
        *,
        positions: Mapping[Stream, Position] = {},
        gaps: Sequence[Gap] = (),
    ) -> int:
        """Keep the frames as one chunk; the sequence number of the last one.

        Acknowledged chunks give way, oldest first, where the limit or the disk leaves no room.
        Raises JournalFull where that is not enough, TooLarge where it never will be.
        """

        def note() -> Callable[[], None]:
            streams, rows = self._positions.write(positions), self._gaps.write(gaps)

            def keep() -> None:
                self._positions.keep(streams)
                self._gaps.keep(rows)

            return keep

        return self._append(frames, note)

    def _append(self, frames: Sequence[Frame], note: Callable[[], Callable[[], None]]) -> int:
        """Keep the frames, and do ``note`` in the same transaction; call what it gives after it."""
        body = encode(frames) if frames else b""
        needed = self._bytes + len(body) - self._max_bytes
        if len(body) > self._max_bytes:
            raise TooLarge(
                f"{len(frames):,} frames of {len(body):,} bytes are more than {self.path} may hold "
                f"at all, {self._max_bytes:,} (journal.max_bytes)"
            )
        if frames and needed > 0 and self._give_up(needed) < needed:
            raise JournalFull(
                f"{self.path} holds {self._bytes:,} bytes that wait for the database, the limit is "
                f"{self._max_bytes:,} (journal.max_bytes): bring the database back or raise it"
            )
        last = self._last + len(frames)
        tries = 0
        while True:
            try:
                self._file.require_room(len(body))
                with self._file.transaction(SMALL + len(body)):
                    if frames:
                        row = (last, len(frames), len(body), body)
                        self._db.execute("INSERT INTO chunk VALUES (?, ?, ?, ?)", row)
                    keep = note()
                break
            except JournalFull:
                tries += 1
                self._file.checkpoint()
                gave_up = self._give_up(len(body))
                if tries > FULL_DISK_TRIES or (tries > 1 and not gave_up):
                    raise
        keep()
        self._last = last
        self._bytes += len(body)
        if frames:
            self._recent.add((last, len(body), list(frames)))
        return self._last

    def _give_up(self, needed: int) -> int:
        """Delete acknowledged chunks, oldest first, of so many bytes; the bytes it came to."""
        freed, last = 0, self._deleted
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
            self._delete(last)
        self._bytes -= freed
        self._deleted = last
        return freed

    def _delete(self, last: int) -> None:
        self._db.execute("DELETE FROM chunk WHERE last_seq <= ?", (last,))
        self._marks.forget(last)

    def read(self, after: int, limit: int, max_bytes: int) -> list[Entry]:
        """The next entries after a sequence number, in order: ``limit`` or ``max_bytes`` at most.

        The first one comes whatever its size.
        """
        recent = self._recent.after(after)
        if recent is not None:
            return entries(recent, after, limit, max_bytes)
        with (
            self._file.translated(),
            contextlib.closing(chunks_after(self._db, after)) as chunks,
        ):
            return entries(chunks, after, limit, max_bytes)

    def kept(self, max_bytes: int) -> Iterator[Frame]:
        """The newest frames of those that are acknowledged and kept, in order.

        About so many bytes of them: what stands in a runner's memory is made of them anew.
        """
        upto = self._acknowledged
        with self._file.translated():
            after = newest_before(self._db, upto, max_bytes)
            for last, _, frames in chunks_after(self._db, after):
                yield from frames[: len(frames) - max(0, last - upto)]
                if last >= upto:
                    return

    def held(self) -> list[Entry]:
        """The entries that the last acknowledgement held back, in order."""
        with self._file.translated():
            rows = self._db.execute("SELECT seq, body FROM held ORDER BY seq").fetchall()
        return [(seq, decode_frame(body)) for seq, body in rows]

    def acknowledge(self, upto: int, held: Sequence[Entry] = ()) -> None:
        """Everything up to and including ``upto`` is done, but for the entries held back."""
        self._acknowledge(upto, held, lambda: None)

    def _acknowledge(
        self, upto: int, held: Sequence[Entry], note: Callable[[], None], *, size: int = SMALL
    ) -> None:
        """The same, and ``note`` in the same transaction, which writes about ``size`` bytes."""
        now = time.monotonic()
        is_due, more, freed, last = now >= self._expire_at, False, 0, self._deleted
        kept = dict(held)
        with self._file.transaction(size):
            note()
            self._db.execute("UPDATE progress SET acknowledged = ?", (upto,))
            self._db.executemany(
                "DELETE FROM held WHERE seq = ?", [(seq,) for seq in self._held - kept.keys()]
            )
            self._db.executemany(
                "INSERT INTO held VALUES (?, ?)",
                [(seq, encode(kept[seq])) for seq in kept.keys() - self._held],
            )
            mark = self._marks.write(upto, kept.keys(), self._deleted)
            gone = self._dead.decide(upto)
            if is_due:
                freed, last, more = self._expire()
        self._marks.keep(mark)
        self._dead.decided(upto, gone)
        self._recent.forget(upto)
        self._acknowledged = upto
        self._held = set(kept)
        self._bytes -= freed
        self._deleted = last
        if is_due:
            more = self._file.shrink() or more
            self._expire_at = now if more else now + EXPIRE_EVERY_S

    def _expire(self) -> tuple[int, int, bool]:
        """Delete a portion of what is kept long enough: bytes, last number, whether more is due."""
        upto = self._marks.expired(time.time_ns() - self._keep_ns)
        oldest = self._db.execute(
            "SELECT last_seq, bytes FROM chunk WHERE last_seq <= ? ORDER BY last_seq LIMIT ?",
            (upto, EXPIRED_CHUNKS + 1),
        ).fetchall()
        freed, last, more = 0, self._deleted, False
        for index, (last_seq, size) in enumerate(oldest):
            if index == EXPIRED_CHUNKS or freed >= EXPIRED_BYTES:
                more = True
                break
            freed, last = freed + size, last_seq
        self._delete(last)
        return freed, last, more

    def positions(self) -> dict[Stream, Position]:
        """How far each stream was received, by this run or an earlier one."""
        return self._positions.all()

    def gaps(self) -> list[tuple[int, Gap]]:
        """The gaps that are not settled yet, each with its number, oldest first.

        Of a stream with very many only the first ones, until they are settled.
        """
        return self._gaps.all()

    @property
    def open_gaps(self) -> int:
        """How many gaps are not settled yet."""
        return len(self._gaps)

    def settle_gaps(self, numbers: Sequence[int]) -> None:
        """These gaps are repaired, or noted for good where they belong. May be repeated."""
        self._gaps.settle(numbers)

    def collections(self) -> dict[Collection, bool]:
        """What was asked for (True) or called off (False) beside what the settings say."""
        with self._file.translated():
            rows = self._db.execute("SELECT venue, data_type, symbol, wanted FROM collection")
            return {(venue, kind, symbol): bool(wanted) for venue, kind, symbol, wanted in rows}

    def set_collection(
        self, venue: str, data_type: str, symbol: str, *, wanted: bool | None
    ) -> None:
        """Keep, over restarts, that it is wanted or not; None leaves it to the settings again."""
        with self._file.transaction():
            if wanted is None:
                statement = "DELETE FROM collection WHERE (venue, data_type, symbol) = (?, ?, ?)"
                self._db.execute(statement, (venue, data_type, symbol))
            else:
                statement = "INSERT OR REPLACE INTO collection VALUES (?, ?, ?, ?)"
                self._db.execute(statement, (venue, data_type, symbol, wanted))

    @property
    def dead_letter_bytes(self) -> int:
        """Bytes of the dead letters that are kept."""
        return self._dead.bytes

    @property
    def dead_letters_dropped(self) -> int:
        """How many dead letters this process gave up at their limit."""
        return self._dead.dropped

    @property
    def dead_letters_collapsed(self) -> int:
        """How many dead letters this process only counted, because too many were alike."""
        return self._dead.collapsed

    def put(self, letters: Sequence[tuple[Entry, RavenwhError]]) -> None:
        """Keep dead letters; one whose sequence number is there already is not put twice."""
        self._dead.put(letters)

    def dead_letters(self) -> list[DeadLetter]:
        """All dead letters that are kept, oldest first."""
        with self._file.translated():
            return list(letters(self._db, Selection()))

    def close(self) -> None:
        """Close the file and give it free for another process."""
        self._file.close()
