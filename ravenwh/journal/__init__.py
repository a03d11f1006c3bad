"""The local log of a runner: frames before work, dead letters, what a restart needs.

Owns one SQLite file a runner (write-ahead logging): one thing to bound, to copy, to explain.
Offers :class:`~ravenwh.journal.store.Store`, which is both a Journal and DeadLetters of
:mod:`ravenwh.ports`. Promises that an appended frame is there after ``kill -9`` of the process;
after a power cut the last moments may be missing, as the file is synchronised at checkpoints.
Raises JournalFull at its byte limit and Unavailable where the disk refuses. Tested on real files,
with processes that are killed.
"""

from ravenwh.journal.store import Store

__all__ = ["Store"]
