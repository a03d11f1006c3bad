"""What had been written at which time, so that a restored database can be given the rest again."""

from __future__ import annotations

import time
from collections.abc import Collection

from ravenwh.journal.file import File

__all__ = ["MarkTable"]

EVERY_NS = 10_000_000_000
"""The least time between two marks. A replay begins at one, so it may give this much too much."""

LAST = 1 << 62


class MarkTable:
    """The marks of one file, in order.

    Each says that at its time everything up to ``upto`` was acknowledged, and everything up to its
    ``floor`` written: klines that are held open are acknowledged, and written later. ``floor``
    never goes back from one mark to the next, the clock may.
    """

    def __init__(self, file: File) -> None:
        self._file = file
        self._expired_upto = 0
        self.load()

    def load(self) -> None:
        """Take the newest one from the file."""
        with self._file.translated():
            newest = self._file.db.execute(
                "SELECT at, upto, floor FROM mark ORDER BY number DESC LIMIT 1"
            ).fetchone()
        self._newest: tuple[int, int, int] = newest or (0, 0, 0)

    def write(self, upto: int, held: Collection[int], deleted: int) -> tuple[int, int, int]:
        """Note, in the transaction that is open, where we are; to be followed by ``keep``.

        ``held`` are the entries that are held back. What is held for longer than frames are kept is
        no reason to keep all that came later. ``deleted`` is the last number that is gone.
        """
        at, before, floor = self._newest
        now = time.time_ns()
        is_due = not 0 <= now - at < EVERY_NS and upto != before
        if not is_due and floor >= deleted:
            return self._newest
        oldest = min((seq for seq in held if seq > self._expired_upto), default=upto + 1)
        mark = (now, upto, max(floor, min(upto, oldest - 1)))
        self._file.db.execute("INSERT INTO mark VALUES (NULL, ?, ?, ?)", mark)
        return mark

    def keep(self, mark: tuple[int, int, int]) -> None:
        """The transaction is committed."""
        self._newest = mark

    def expired(self, before: int) -> int:
        """The last number of what was written before this time, and ever since."""
        row = self._base(before)
        if row is None:
            return 0
        self._expired_upto, floor = row
        return floor

    def forget(self, deleted: int) -> None:
        """Delete the marks that are of no use when frames up to this number are gone."""
        self._file.db.execute(
            "DELETE FROM mark WHERE number < coalesce("
            "(SELECT number FROM mark WHERE floor >= ? ORDER BY number LIMIT 1), ?)",
            (deleted, LAST),
        )

    def floor_at(self, at: int, deleted: int) -> int | None:
        """The last number that was surely written at this time; None where what follows is gone."""
        with self._file.translated():
            row = self._base(at)
        floor = 0 if row is None else row[1]
        return floor if floor >= deleted else None

    def oldest(self, deleted: int) -> int | None:
        """The earliest time from which on nothing is gone; None where there is none."""
        with self._file.translated():
            row = self._file.db.execute(
                "SELECT at FROM mark WHERE floor >= ? ORDER BY number LIMIT 1", (deleted,)
            ).fetchone()
        return None if row is None else int(row[0])

    def rewind(self, floor: int) -> None:
        """Delete, in the transaction that is open, the marks beyond this number."""
        self._file.db.execute("DELETE FROM mark WHERE floor > ?", (floor,))

    def _base(self, at: int) -> tuple[int, int] | None:
        """Numbers of the newest mark before the first one that is later than this time."""
        row: tuple[int, int] | None = self._file.db.execute(
            "SELECT upto, floor FROM mark WHERE number < coalesce("
            "(SELECT number FROM mark WHERE at > ? ORDER BY number LIMIT 1), ?)"
            " ORDER BY number DESC LIMIT 1",
            (at, LAST),
        ).fetchone()
        return row
