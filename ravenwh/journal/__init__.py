"""The local log of a runner: frames before work, dead letters, what a restart needs.

Owns one SQLite file a runner (write-ahead logging): one thing to bound, to copy, to explain.
Offers :class:`~ravenwh.journal.store.Store`, which is both a Journal and DeadLetters of
:mod:`ravenwh.ports`. Promises that an appended frame is there after ``kill -9`` of the process;
after a power cut the last moments may be missing, as the file is synchronised at checkpoints.
Raises JournalFull at its byte limit and on a full disk, TooLarge for what will never fit, and
Unavailable where the disk refuses; nothing has changed then, and the call may be repeated.
Dead letters are bounded by bytes of their own. Tested on real files, on full disks, and with
processes that are killed.
"""

from ravenwh.journal.store import Store

__all__ = ["Store"]
