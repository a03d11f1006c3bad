"""Having frames worked off again: an operator's part, while the runner is stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

import attrs

from ravenwh.domain.errors import Refused
from ravenwh.journal.chunks import decode_frame
from ravenwh.journal.dead import SIZE
from ravenwh.journal.letters import CAUSE_IS, LETTER_IS, Selection
from ravenwh.journal.store import Store

__all__ = ["PutBack", "Redo"]

PORTION = 2_000
PORTION_BYTES = 4 << 20
"""Letters that become one chunk, as many as a runner would receive at once."""

_LETTERS = f"""
SELECT seq, cause, {SIZE}, body FROM dead_letter JOIN cause ON cause.id = cause
WHERE {LETTER_IS} ORDER BY seq LIMIT {PORTION}"""  # noqa: S608  constants

Row = tuple[int, int, int, bytes]


@attrs.frozen(kw_only=True)
class PutBack:
    """What is to be put back: everything after the number ``after``, so many written frames."""

    after: int
    frames: int


class Redo(Store):
    """A journal that is held by a command, and not by its runner."""

    def since(self, at: int) -> PutBack:
        """What may not have been written at a time (nanoseconds since 1970, UTC).

        It begins at the last mark before that time, so it may be some seconds too much: rows that
        are there already do not change. Raises Refused where a part of it is gone.
        """
        floor = self._marks.floor_at(at, self._deleted)
        if floor is None:
            oldest = self._marks.oldest(self._deleted)
            told = "nothing" if oldest is None else f"only what was written after {_text(oldest)}"
            raise Refused(
                f"{self.path} cannot put back all that was written since {_text(at)}: {told} is "
                "kept (journal.keep_h, journal.max_bytes); give a time that is not before it, and "
                "replay what is older from its source"
            )
        return PutBack(after=floor, frames=self._acknowledged - floor)

    def put_back(self, what: PutBack) -> None:
        """Have it worked off again by the next run, together with what waits already.

        What is a dead letter among it is tried again too, and is one until it is written.
        """
        with self._file.transaction():
            self._db.execute("UPDATE progress SET acknowledged = ?", (what.after,))
            self._db.execute("DELETE FROM held WHERE seq > ?", (what.after,))
            self._marks.rewind(what.after)
        self._marks.load()
        self._acknowledged = what.after
        self._held = {seq for seq, _ in self.held()}

    def replay(self, selection: Selection) -> int:
        """Put these dead letters back, as frames that wait; how many. All or none of a portion.

        What cannot be written this time either becomes a dead letter again, once. Raises
        JournalFull where there is no room: what was put back until then is no letter any more.
        """
        count = 0
        while rows := self._portion(selection):
            bodies, letters = [row[3] for row in rows], [row[:3] for row in rows]
            self._append([decode_frame(body) for body in bodies], self._removal_of(letters))
            count += len(rows)
        self._dead.load()
        return count

    def drop(self, selection: Selection) -> int:
        """Remove these dead letters for good, and what was counted of their causes; how many."""
        count = 0
        while rows := self._portion(selection):
            with self._file.transaction():
                self._dead.remove([row[:3] for row in rows])
            count += len(rows)
        if not selection.numbers:
            with self._file.transaction():
                self._db.execute(f"DELETE FROM cause WHERE {CAUSE_IS}", selection.values())  # noqa: S608  a constant
        self._dead.load()
        return count

    def _portion(self, selection: Selection) -> list[Row]:
        """The next letters; one at least, if there is one."""
        portion: list[Row] = []
        total = 0
        with (
            self._file.translated(),
            contextlib.closing(self._db.execute(_LETTERS, selection.values())) as rows,
        ):
            for row in rows:
                total += row[2]
                if portion and total > PORTION_BYTES:
                    break
                portion.append(row)
        return portion

    def _removal_of(self, letters: list[tuple[int, int, int]]) -> Callable[[], Callable[[], None]]:
        def remove() -> Callable[[], None]:
            self._dead.remove(letters)
            return lambda: None

        return remove


def _text(at: int) -> str:
    """The next whole second, for people to give back to us."""
    return f"{datetime.fromtimestamp(-(-at // 10**9), UTC):%Y-%m-%dT%H:%M:%SZ}"
