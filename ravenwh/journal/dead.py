"""Dead letters in the file of a journal, bounded by bytes."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence

import attrs
import msgspec
from loguru import logger

from ravenwh.domain.errors import RavenwhError, Rejected
from ravenwh.journal.file import File
from ravenwh.ports import Entry, Frame

__all__ = ["DeadLetter", "DeadLetterTable"]

ROW = 64
"""Bytes that a letter takes beside its frame and its reason: number, time, cause."""

SIZE = f"length(body) + length(CAST(reason AS BLOB)) + {ROW}"

_encode = msgspec.msgpack.Encoder().encode
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


class DeadLetterTable:
    """The letters of one file; together at most ``max_bytes``.

    Beyond it the oldest letters of the most frequent cause (error and code) go, down to nine
    tenths, so that a flood of one cause does not push out the few letters of another.
    """

    def __init__(self, file: File, *, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self.bytes = file.one(f"SELECT coalesce(sum({SIZE}), 0) FROM dead_letter")  # noqa: S608  constants
        self.dropped = 0

    def put(self, letters: Sequence[tuple[Entry, RavenwhError]]) -> None:
        """Keep the letters; one whose sequence number is there already is not put twice."""
        if not letters:
            return
        now, added, dropped, freed = time.time_ns(), 0, 0, 0
        with self._file.transaction():
            for (seq, frame), error in letters:
                body, reason = _encode(frame), str(error)
                row = (seq, now, type(error).__name__, _code(error), reason, body)
                if self._file.db.execute(
                    "INSERT OR IGNORE INTO dead_letter VALUES (?, ?, ?, ?, ?, ?)", row
                ).rowcount:
                    added += len(body) + len(reason.encode()) + ROW
            if self.bytes + added > self._max_bytes:
                excess = self.bytes + added - self._max_bytes * 9 // 10
                dropped, freed = self._drop(excess)
        self.bytes += added - freed
        self.dropped += dropped
        if dropped:
            logger.bind(count=dropped, dropped=self.dropped, limit_bytes=self._max_bytes).error(
                "DEAD_LETTERS_DROPPED"
            )

    def _drop(self, excess: int) -> tuple[int, int]:
        """Delete letters of at least so many bytes; how many they were, and their bytes."""
        left = {
            (error, code): count
            for error, code, count in self._file.db.execute(
                "SELECT error, code, count(*) FROM dead_letter GROUP BY error, code"
            )
        }
        oldest = {cause: self._oldest(*cause) for cause in left}
        gone: list[tuple[int]] = []
        freed = 0
        while freed < excess and any(left.values()):
            cause = max(left, key=left.__getitem__)
            seq, size = next(oldest[cause])
            left[cause] -= 1
            freed += size
            gone.append((seq,))
        for rows in oldest.values():
            rows.close()
        self._file.db.executemany("DELETE FROM dead_letter WHERE seq = ?", gone)
        return len(gone), freed

    def _oldest(self, error: str, code: str) -> Generator[tuple[int, int], None, None]:
        """(sequence number, bytes) of the letters of a cause."""
        rows = self._file.db.execute(
            f"SELECT seq, {SIZE} FROM dead_letter"  # noqa: S608  a constant
            " WHERE error = ? AND code = ? ORDER BY seq",
            (error, code),
        )
        try:
            yield from rows
        finally:
            rows.close()

    def all(self) -> list[DeadLetter]:
        """All letters, oldest first."""
        with self._file.translated():
            rows = self._file.db.execute(
                "SELECT seq, at, error, code, reason, body FROM dead_letter ORDER BY seq"
            ).fetchall()
        return [
            DeadLetter(
                seq=seq, at=at, error=error, code=code, reason=reason, frame=_decode_frame(body)
            )
            for seq, at, error, code, reason, body in rows
        ]


def _code(error: RavenwhError) -> str:
    return error.code if isinstance(error, Rejected) else type(error).__name__.upper()
