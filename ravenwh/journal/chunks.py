"""Frames as they lie in the file: many in one row, as they were appended."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import deque
from collections.abc import Generator, Iterable, Sequence

import msgspec

from ravenwh.ports import Entry, Frame

__all__ = [
    "Chunk",
    "Recent",
    "chunks_after",
    "decode_chunk",
    "decode_frame",
    "encode",
    "entries",
    "newest_before",
]

RECENT_BYTES = 8 << 20

encode = msgspec.msgpack.Encoder().encode
decode_chunk = msgspec.msgpack.Decoder(list[Frame]).decode
decode_frame = msgspec.msgpack.Decoder(Frame).decode

Chunk = tuple[int, int, Sequence[Frame]]
"""Number of the last frame, bytes in the file, the frames."""


class Recent:
    """The newest chunks, in memory: a runner that keeps up reads what it has just appended."""

    def __init__(self) -> None:
        self._chunks = deque[Chunk]()
        self._bytes = 0

    def add(self, chunk: Chunk) -> None:
        """Remember one, and forget the oldest ones for it."""
        self._chunks.append(chunk)
        self._bytes += chunk[1]
        while self._bytes > RECENT_BYTES:
            self._forget()

    def forget(self, upto: int) -> None:
        """Nobody reads these any more."""
        while self._chunks and self._chunks[0][0] <= upto:
            self._forget()

    def after(self, number: int) -> Iterable[Chunk] | None:
        """The chunks after a number; None where not all of them are here."""
        if not self._chunks or number < self._chunks[0][0] - len(self._chunks[0][2]):
            return None
        return (chunk for chunk in self._chunks if chunk[0] > number)

    def _forget(self) -> None:
        self._bytes -= self._chunks.popleft()[1]


def chunks_after(db: sqlite3.Connection, number: int) -> Generator[Chunk, None, None]:
    """The chunks in the file after a number, decoded as they are asked for."""
    with contextlib.closing(
        db.execute(
            "SELECT last_seq, bytes, body FROM chunk WHERE last_seq > ? ORDER BY last_seq",
            (number,),
        )
    ) as rows:
        for last_seq, size, body in rows:
            yield last_seq, size, decode_chunk(body)


def newest_before(db: sqlite3.Connection, upto: int, max_bytes: int) -> int:
    """The number after which the last chunks lie that begin up to ``upto``, within so many bytes.

    One chunk at least, if there is one.
    """
    after, total = upto, 0
    with contextlib.closing(
        db.execute(
            "SELECT last_seq - frames, bytes FROM chunk WHERE last_seq - frames < ?"
            " ORDER BY last_seq DESC",
            (upto,),
        )
    ) as rows:
        for before, size in rows:
            if total and total + size > max_bytes:
                break
            after, total = before, total + size
    return after


def entries(chunks: Iterable[Chunk], after: int, limit: int, max_bytes: int) -> list[Entry]:
    """The entries of the chunks after a number, in order: ``limit`` or ``max_bytes`` at most.

    The first one comes whatever its size. A chunk that fits as a whole is taken as a whole, which
    is most of the work of a runner that keeps up.
    """
    found: list[Entry] = []
    total = 0
    for last_seq, size, frames in chunks:
        first = last_seq - len(frames) + 1
        fits = total + size <= max_bytes and len(found) + len(frames) <= limit
        if fits and first > after:
            found += zip(range(first, last_seq + 1), frames, strict=True)
            total += size  # which is a little more than the frames have
            if len(found) == limit:
                return found
            continue
        for seq, frame in enumerate(frames[max(0, after + 1 - first) :], max(first, after + 1)):
            total += frame.size
            if found and total > max_bytes:
                return found
            found.append((seq, frame))
            if len(found) >= limit:
                return found
    return found
