"""Dead letters in the file of a journal: bounded by bytes, and by rate where nothing is lost."""

from __future__ import annotations

import heapq
import json
import re
import time
from collections.abc import Generator, Sequence

import attrs
from loguru import logger

from ravenwh.domain.errors import DecodeError, RavenwhError, Rejected
from ravenwh.journal.chunks import encode
from ravenwh.journal.file import File
from ravenwh.ports import Entry, Frame

__all__ = ["SIZE", "DeadLetterTable", "code_of", "origin_of"]

ROW = 64
"""Bytes that a letter takes beside its frame and its reason: number, time, cause."""

SIZE = f"length(body) + length(CAST(reason AS BLOB)) + {ROW}"

SAMPLES = 100
WINDOW_S = 60.0
"""Of bytes that nobody can read, so many of a cause are kept in each window of so many seconds,
and the others are counted; their frames are in the journal like all others, for as long as it keeps
them. Letters that an entry of the settings could mend are all kept."""

CAUSES = 1_000
"""Causes that are told apart; further ones are told by error and code alone."""

_ORIGIN = re.compile(r"([\w.]{1,64})([:-])([\w.]{1,64})\2")


Name = tuple[str, str, str, str]
"""What makes causes equal: feed, origin, class of the error, code."""


def origin_of(topic: bytes) -> str:
    """Venue and data type of a topic, as ``VENUE:DATA_TYPE``; nothing where it names none.

    ``VENUE-key-`` is how topics of cryptofeed begin.
    """
    found = _ORIGIN.match(topic[:256].decode("utf-8", "replace"))
    return "" if found is None else f"{found[1]}{found[2]}{found[3]}"


@attrs.define
class _Cause:
    """Letters that are alike, as counted in the file; ``last_seq`` is the newest one's number."""

    id: int
    kept: int = 0
    bytes: int = 0
    collapsed: int = 0
    dropped: int = 0
    first_at: int = 0
    last_at: int = 0
    last_seq: int = 0
    window: float = -WINDOW_S
    in_window: int = 0
    told: float | None = None

    def note(self, seq: int) -> None:
        """A letter came, and is kept or counted."""
        self.last_at = time.time_ns()
        self.first_at = self.first_at or self.last_at
        self.last_seq = max(self.last_seq, seq)

    def is_beyond(self) -> bool:
        """Whether one more is too many for this window."""
        now = time.monotonic()
        if now - self.window >= WINDOW_S:
            self.window, self.in_window = now, 0
        self.in_window += 1
        return self.in_window > SAMPLES

    @property
    def row(self) -> tuple[int, ...]:
        """The counts, in the order of the table."""
        return (
            *(self.kept, self.bytes, self.collapsed, self.dropped),
            *(self.first_at, self.last_at, self.last_seq),
        )


@attrs.define
class _Changes:
    """What a transaction writes, to be kept in memory once it is committed."""

    causes: dict[Name, _Cause] = attrs.field(factory=dict)
    new: int = 0
    bytes: int = 0
    collapsed: int = 0
    dropped: int = 0


class DeadLetterTable:
    """The letters of one file; together at most ``max_bytes``.

    Beyond it the oldest letters of the cause that takes most go, down to nine tenths, so that a
    flood of one cause does not push out the few letters of another. Letters of frames up to number
    ``last``, which an earlier run received, are kept whatever their rate: letters that were put
    back are among them. Frames up to ``acknowledged`` come out of order, having been held back.
    What becomes of those behind it, up to ``last``, is decided anew: a letter of one goes when it
    is acknowledged and was not put again.
    """

    def __init__(self, file: File, *, max_bytes: int, acknowledged: int, last: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._acknowledged = acknowledged
        self._last = last
        self._decided_upto = acknowledged
        self._put_again: set[int] = set()
        self.collapsed = 0
        self.dropped = 0
        self.load()

    def load(self) -> None:
        """Take the counts from the file, after it was changed by others than ``put``."""
        with self._file.translated():
            rows = self._file.db.execute(
                "SELECT feed, origin, error, code, id, kept, bytes, collapsed, dropped,"
                " first_at, last_at, last_seq FROM cause"
            ).fetchall()
        self._causes: dict[Name, _Cause] = {row[:4]: _Cause(*row[4:]) for row in rows}
        self.bytes = sum(cause.bytes for cause in self._causes.values())

    def put(self, letters: Sequence[tuple[Entry, RavenwhError]]) -> None:
        """Keep the letters; one whose sequence number is there already is not put twice."""
        if not letters:
            return
        self._decide_anew(letters)
        changes = _Changes(bytes=self.bytes)
        with self._file.transaction():
            for entry, error in letters:
                self._put(entry, error, changes)
            if changes.bytes > self._max_bytes:
                self._drop(changes, changes.bytes - self._max_bytes * 9 // 10)
            self._file.db.executemany(
                "UPDATE cause SET kept = ?, bytes = ?, collapsed = ?, dropped = ?, first_at = ?,"
                " last_at = ?, last_seq = ? WHERE id = ?",
                [(*cause.row, cause.id) for cause in changes.causes.values()],
            )
        self._causes |= changes.causes
        self.bytes = changes.bytes
        self.collapsed += changes.collapsed
        self.dropped += changes.dropped
        self._tell(changes)

    def _put(self, entry: Entry, error: RavenwhError, changes: _Changes) -> None:
        """Keep one letter, or count it."""
        seq, frame = entry
        cause = self._cause(frame, error, changes)
        if isinstance(error, DecodeError):
            if self._acknowledged < seq <= cause.last_seq:
                return  # what is counted and not kept is known by its number only
            if seq > self._last and cause.is_beyond():
                cause.note(seq)
                cause.collapsed += 1
                changes.collapsed += 1
                return
        body, reason = encode(frame), str(error)
        row = (seq, cause.id, time.time_ns(), reason, body)
        inserted = self._file.db.execute(
            "INSERT OR IGNORE INTO dead_letter VALUES (?, ?, ?, ?, ?)", row
        ).rowcount
        if inserted:
            size = len(body) + len(reason.encode()) + ROW
            cause.note(seq)
            cause.kept += 1
            cause.bytes += size
            changes.bytes += size

    def _decide_anew(self, letters: Sequence[tuple[Entry, RavenwhError]]) -> None:
        """Of frames that an earlier run had letters of, let the new ones take their place.

        What nobody can read stays as it is, as some of it may be counted only.
        """
        open_ = {seq: e for (seq, _), e in letters if self._decided_upto < seq <= self._last}
        self._put_again |= open_.keys()
        anew = [seq for seq, error in open_.items() if not isinstance(error, DecodeError)]
        if not anew:
            return
        with self._file.transaction():
            rows = self._file.db.execute(
                f"SELECT seq, cause, {SIZE} FROM dead_letter"  # noqa: S608  a constant
                " WHERE seq IN (SELECT value FROM json_each(?))",
                (json.dumps(anew),),
            ).fetchall()
            self.remove(rows)
        if rows:
            self.load()

    def decide(self, upto: int) -> int:
        """Delete, in the transaction that is open, letters of frames that are none any more.

        It acknowledges frames up to ``upto``. How many they were; to be followed by ``decided``.
        """
        if self._decided_upto >= self._last:
            return 0
        rows = self._file.db.execute(
            f"SELECT seq, cause, {SIZE} FROM dead_letter WHERE seq > ? AND seq <= ?",  # noqa: S608  a constant
            (self._decided_upto, min(upto, self._last)),
        )
        gone = [row for row in rows.fetchall() if row[0] not in self._put_again]
        self.remove(gone)
        return len(gone)

    def decided(self, upto: int, gone: int) -> None:
        """The transaction is committed."""
        self._decided_upto = max(self._decided_upto, upto)
        self._put_again = {seq for seq in self._put_again if seq > upto}
        if gone:
            self.load()

    def remove(self, rows: Sequence[tuple[int, int, int]]) -> None:
        """Delete these (number, cause, bytes) in the transaction that is open; then ``load``."""
        db = self._file.db
        db.executemany("DELETE FROM dead_letter WHERE seq = ?", [(seq,) for seq, *_ in rows])
        db.executemany(
            "UPDATE cause SET kept = kept - 1, bytes = bytes - ? WHERE id = ?",
            [(size, cause) for _, cause, size in rows],
        )
        db.execute("DELETE FROM cause WHERE kept = 0 AND collapsed = 0 AND dropped = 0")

    def _cause(self, frame: Frame, error: RavenwhError, changes: _Changes) -> _Cause:
        """The counts of the letter's cause, to be changed."""
        kind = (type(error).__name__, code_of(error))
        name = (frame.feed, origin_of(frame.topic), *kind)
        is_known = name in self._causes or name in changes.causes
        if not is_known and len(self._causes) + changes.new >= CAUSES:
            name = ("", "", *kind)
        if name not in changes.causes:
            known = self._causes.get(name)
            changes.causes[name] = self._new(name) if known is None else attrs.evolve(known)
            changes.new += known is None
        return changes.causes[name]

    def _new(self, name: Name) -> _Cause:
        added = self._file.db.execute(
            "INSERT INTO cause VALUES (NULL, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, 0)", name
        )
        return _Cause(int(added.lastrowid or 0))

    def _drop(self, changes: _Changes, excess: int) -> None:
        """Delete letters of at least so many bytes, of the cause that takes most, oldest first."""
        causes = self._causes | changes.causes
        largest = [(-cause.bytes, name) for name, cause in causes.items() if cause.kept]
        heapq.heapify(largest)
        oldest = {name: self._oldest(causes[name].id) for _, name in largest}
        gone: list[tuple[int]] = []
        freed = 0
        while freed < excess and largest:
            _, name = heapq.heappop(largest)
            if name not in changes.causes:
                changes.causes[name] = attrs.evolve(self._causes[name])
            cause = changes.causes[name]
            seq, size = next(oldest[name])
            cause.kept -= 1
            cause.bytes -= size
            cause.dropped += 1
            freed += size
            gone.append((seq,))
            if cause.kept:
                heapq.heappush(largest, (-cause.bytes, name))
        for rows in oldest.values():
            rows.close()
        self._file.db.executemany("DELETE FROM dead_letter WHERE seq = ?", gone)
        changes.bytes -= freed
        changes.dropped += len(gone)

    def _oldest(self, cause: int) -> Generator[tuple[int, int], None, None]:
        """(sequence number, bytes) of the letters of a cause."""
        rows = self._file.db.execute(
            f"SELECT seq, {SIZE} FROM dead_letter WHERE cause = ? ORDER BY seq",  # noqa: S608  a constant
            (cause,),
        )
        try:
            yield from rows
        finally:
            rows.close()

    def _tell(self, changes: _Changes) -> None:
        """One line for what was given up, and one a window for each cause that is only counted."""
        if changes.dropped:
            logger.bind(
                count=changes.dropped, dropped=self.dropped, limit_bytes=self._max_bytes
            ).error("DEAD_LETTERS_DROPPED")
        for (feed, origin, _, code), cause in changes.causes.items():
            if cause.in_window > SAMPLES and cause.told != cause.window:
                cause.told = cause.window
                logger.bind(feed=feed, origin=origin, code=code, collapsed=cause.collapsed).warning(
                    "DEAD_LETTERS_COLLAPSED"
                )


def code_of(error: RavenwhError) -> str:
    """The word by which letters are counted and filtered."""
    return error.code if isinstance(error, Rejected) else type(error).__name__.upper()
