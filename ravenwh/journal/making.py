"""A journal whose frames are made into something else: what a restart needs to go on with that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import attrs

from ravenwh.journal.file import SMALL
from ravenwh.journal.store import Store
from ravenwh.ports import Entry

__all__ = ["Making", "MakingStore", "Progress"]

MOST_FRAMES = 50_000
"""Frames after which an acknowledgement is kept, due or not: the journal needs their room."""

LAYOUT = (
    "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, body BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS made (number INTEGER PRIMARY KEY, body BLOB NOT NULL)",
)
"""Tables of these journals only, beside those that all have."""


@attrs.frozen(kw_only=True)
class Progress:
    """What has changed since the last time it was kept.

    ``states`` by name, those that changed; ``made`` is what was made, None where nothing was.
    """

    states: Mapping[str, bytes]
    made: bytes | None = None


class Making(Protocol):
    """Who makes something of the frames, and begins with the states of last time."""

    def is_due(self) -> bool:
        """Whether it is time to keep the progress."""
        ...

    def progress(self) -> Progress:
        """What has changed. The states know themselves which frames they have in them."""
        ...

    def kept(self) -> None:
        """What was last told is in the file."""
        ...


class MakingStore(Store):
    """Keeps the states of a making, what it made, and the acknowledgement of frames in one step.

    That need not be at each acknowledgement: one that is not kept is as if it had not been, and
    after a restart the frames are made into the same things again. Of what was made the newest is
    kept, ``max_made_bytes`` at most: subscribers may not have received it when the process ends.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 2 << 30,
        keep_s: float = 0.0,
        max_dead_bytes: int = 256 << 20,
        max_made_bytes: int = 64 << 20,
    ) -> None:
        super().__init__(path, max_bytes=max_bytes, keep_s=keep_s, max_dead_bytes=max_dead_bytes)
        self.max_made_bytes = max_made_bytes
        self._making: Making | None = None
        self._done: tuple[int, Sequence[Entry]] = (self.acknowledged, self.held())
        with self._file.transaction():
            for statement in LAYOUT:
                self._db.execute(statement)
        self._made_bytes = self._file.one("SELECT coalesce(sum(length(body)), 0) FROM made")

    def states(self) -> dict[str, bytes]:
        """The states by name, as they were last kept."""
        with self._file.translated():
            return dict(self._db.execute("SELECT name, body FROM state").fetchall())

    def made(self) -> list[bytes]:
        """What was made last, oldest first, as it was given."""
        with self._file.translated():
            rows = self._db.execute("SELECT body FROM made ORDER BY number").fetchall()
        return [body for (body,) in rows]

    def set_state(self, name: str, body: bytes) -> None:
        """Keep one state at once."""
        with self._file.transaction():
            self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, body))

    def attach(self, making: Making) -> None:
        """Keep the progress of this one from now on."""
        self._making = making

    def acknowledge(self, upto: int, held: Sequence[Entry] = ()) -> None:
        """Everything up to ``upto`` is done, but for the entries held back; kept when it is due."""
        self._done = (upto, held)
        is_due = self._making is not None and self._making.is_due()
        if is_due or upto - self.acknowledged >= MOST_FRAMES:
            self.keep()

    def keep(self) -> None:
        """Keep the progress, and what was acknowledged. Raises as ``acknowledge`` does."""
        if self._making is None:
            return
        upto, held = self._done
        progress = self._making.progress()
        made = progress.made or b""
        freed = 0

        def write() -> None:
            nonlocal freed
            self._db.executemany(
                "INSERT OR REPLACE INTO state VALUES (?, ?)", progress.states.items()
            )
            if made:
                self._db.execute("INSERT INTO made VALUES (NULL, ?)", (made,))
            freed = self._give_up_made(self._made_bytes + len(made) - self.max_made_bytes)

        size = SMALL + len(made) + sum(map(len, progress.states.values()))
        self._acknowledge(upto, held, write, size=size)
        self._made_bytes += len(made) - freed
        self._making.kept()

    def _give_up_made(self, needed: int) -> int:
        """Delete the oldest of what was made, until so many bytes are free; how many they are."""
        freed, last = 0, 0
        if needed <= 0:
            return 0
        sizes = self._db.execute("SELECT number, length(body) FROM made ORDER BY number")
        for number, size in sizes.fetchall():
            if freed >= needed:
                break
            freed, last = freed + size, number
        self._db.execute("DELETE FROM made WHERE number <= ?", (last,))
        return freed
