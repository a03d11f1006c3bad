"""A look into a journal without holding it, while its runner works or after it has ended."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from ravenwh.domain.errors import Unavailable
from ravenwh.journal.chunks import decode_chunk, decode_frame
from ravenwh.journal.file import require_format, translated
from ravenwh.journal.letters import CauseCount, DeadLetter, Selection, causes, letters

__all__ = ["Reader", "Status"]


@attrs.frozen(kw_only=True)
class Status:
    """What is in a journal. Times are nanoseconds since 1970, UTC.

    ``waiting`` frames are not written yet, held open klines among them, and ``oldest_waiting`` is
    when the first of them was received. ``replayable_from`` is the earliest time from which on
    everything that was written can be put back. ``bytes`` are those of all frames that are kept,
    ``file_bytes`` what the files take of the disk.
    """

    waiting: int
    oldest_waiting: int | None
    kept: int
    replayable_from: int | None
    bytes: int
    file_bytes: int
    dead_letters: int
    dead_letters_collapsed: int
    dead_letters_dropped: int
    gaps: int


class Reader:
    """A journal, opened to be read. Raises Unavailable, or Refused for another format."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with contextlib.ExitStack() as opened, translated(path):
            try:
                self._db = sqlite3.connect(
                    f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
                )
                opened.callback(self._db.close)
                require_format(self._db, path)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (
                    sqlite3.SQLITE_CANTOPEN,
                    sqlite3.SQLITE_READONLY,
                ):
                    raise
                raise Unavailable(
                    f"the journal {path} cannot be read ({error}): it is for the user of its "
                    "runner, and root",
                    needs_person=True,
                ) from error
            opened.pop_all()

    def status(self) -> Status:
        """All of it as of one moment."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        with translated(self.path):
            self._db.execute("BEGIN")  # what follows sees one state, whatever the runner does
            try:
                acknowledged = self._one("SELECT acknowledged FROM progress")
                deleted = self._one("SELECT coalesce(min(last_seq - frames), 0) FROM chunk")
                last = max(acknowledged, self._one("SELECT coalesce(max(last_seq), 0) FROM chunk"))
                held = self._one("SELECT count(*) FROM held")
                kept = self._one("SELECT coalesce(sum(frames), 0) FROM chunk")
                size = self._one("SELECT coalesce(sum(bytes), 0) FROM chunk")
                oldest = self._oldest_waiting(acknowledged)
                mark = self._db.execute(
                    "SELECT at FROM mark WHERE floor >= ? ORDER BY number LIMIT 1", (deleted,)
                ).fetchone()
                counts = self._db.execute(
                    "SELECT coalesce(sum(kept), 0), coalesce(sum(collapsed), 0),"
                    " coalesce(sum(dropped), 0) FROM cause"
                ).fetchone()
                gaps = self._one("SELECT count(*) FROM gap")
            finally:
                self._db.execute("ROLLBACK")
        return Status(
            waiting=last - acknowledged + held,
            oldest_waiting=oldest,
            kept=kept,
            replayable_from=None if mark is None else mark[0],
            bytes=size,
            file_bytes=sum(file.stat().st_size for file in files if file.exists()),
            dead_letters=counts[0],
            dead_letters_collapsed=counts[1],
            dead_letters_dropped=counts[2],
            gaps=gaps,
        )

    def causes(self, selection: Selection) -> list[CauseCount]:
        """The causes of dead letters, those with most letters first."""
        with translated(self.path):
            return causes(self._db, selection)

    def letters(self, selection: Selection) -> Iterator[DeadLetter]:
        """The dead letters, oldest first, read as they are asked for."""
        with translated(self.path):
            yield from letters(self._db, selection)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def _one(self, statement: str) -> int:
        return int(self._db.execute(statement).fetchone()[0])

    def _oldest_waiting(self, acknowledged: int) -> int | None:
        """When the first frame that waits was received."""
        times = [
            decode_frame(body).received_at
            for (body,) in self._db.execute("SELECT body FROM held ORDER BY seq")
        ]
        first = self._db.execute(
            "SELECT last_seq, frames, body FROM chunk WHERE last_seq > ? ORDER BY last_seq LIMIT 1",
            (acknowledged,),
        ).fetchone()
        if first is not None:
            last_seq, count, body = first
            frames = decode_chunk(body)
            times.append(frames[max(0, acknowledged - (last_seq - count))].received_at)
        return min(times, default=None)
