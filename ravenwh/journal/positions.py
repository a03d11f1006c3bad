"""How far each stream was received, as durable as the frames that tell it."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping

import attrs
from loguru import logger

from ravenwh.journal.file import File
from ravenwh.ports import Position, Stream

__all__ = ["PositionTable"]

STREAMS = 65_536
"""Streams that are remembered. Of more, those met first are forgotten, an eighth at once; one that
is still alive comes back with its next frame."""

PER_PAGE = 128
"""Positions of one row: a chunk of frames of hundreds of streams changes a few rows, not hundreds.
Measured, 500 streams a chunk: 0.2 ms for it, 1.1 ms with a row for each."""

_POSITION = struct.Struct(">QQ")
_pack_into = _POSITION.pack_into
SIZE = _POSITION.size
EMPTY = bytes(PER_PAGE * SIZE)


@attrs.frozen(kw_only=True)
class Changes:
    """What a transaction has written, to be kept in memory once it is committed."""

    ids: dict[Stream, int]
    pages: dict[int, bytes]
    forgotten: list[Stream]


class PositionTable:
    """The positions of one file. A stream has a number, its position a place on a page."""

    def __init__(self, file: File) -> None:
        self._db = file.db
        with file.translated():
            streams = self._db.execute("SELECT feed, topic, id FROM stream ORDER BY id").fetchall()
            pages = self._db.execute("SELECT page, body FROM position_page").fetchall()
        self._ids: dict[Stream, int] = {(feed, topic): number for feed, topic, number in streams}
        self._pages: dict[int, bytes] = dict(pages)

    def all(self) -> dict[Stream, Position]:
        """The position of each stream."""
        return {
            stream: _POSITION.unpack_from(self._pages[number // PER_PAGE], number % PER_PAGE * SIZE)
            for stream, number in self._ids.items()
        }

    def write(self, positions: Mapping[Stream, Position]) -> Changes:
        """Write them in the transaction that is open; to be followed by ``keep``."""
        known, ids, pages = self._ids, dict[Stream, int](), dict[int, bytearray]()
        following = 1 + next(reversed(known.values()), 0)
        for stream, (epoch, seq) in positions.items():
            number = known.get(stream)
            if number is None:
                number = ids[stream] = following + len(ids)
            page, place = divmod(number, PER_PAGE)
            body = pages.get(page)
            if body is None:
                body = pages[page] = bytearray(self._pages.get(page, EMPTY))
            _pack_into(body, place * SIZE, epoch, seq)
        forgotten = self._forget(len(ids))
        self._db.executemany(
            "INSERT INTO stream VALUES (?, ?, ?)",
            [(number, feed, topic) for (feed, topic), number in ids.items()],
        )
        written = {page: bytes(body) for page, body in pages.items()}
        self._db.executemany("INSERT OR REPLACE INTO position_page VALUES (?, ?)", written.items())
        return Changes(ids=ids, pages=written, forgotten=forgotten)

    def keep(self, changes: Changes) -> None:
        """The transaction is committed."""
        for stream in changes.forgotten:
            self._ids.pop(stream, None)
        self._ids |= changes.ids
        self._pages |= changes.pages
        oldest = next(iter(self._ids.values()), 0) // PER_PAGE
        if changes.forgotten:
            for page in [page for page in self._pages if page < oldest]:
                del self._pages[page]
            logger.bind(streams=len(changes.forgotten), limit=STREAMS).warning("STREAMS_FORGOTTEN")

    def _forget(self, new: int) -> list[Stream]:
        """Delete the oldest streams where so many new ones have no room."""
        excess = len(self._ids) + new - STREAMS
        if excess <= 0:
            return []
        forgotten = list(itertools.islice(self._ids, max(excess, STREAMS // 8)))
        last = self._ids[forgotten[-1]]
        self._db.execute("DELETE FROM stream WHERE id <= ?", (last,))
        self._db.execute("DELETE FROM position_page WHERE page < ?", (last // PER_PAGE,))
        return forgotten
