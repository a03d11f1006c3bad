"""The local log of a runner: frames before work, dead letters, what a restart needs.

Owns one SQLite file a runner (write-ahead logging): one thing to bound, to copy, to explain.
Offers :class:`~ravenwh.journal.store.Store`, which is both a Journal and DeadLetters of
:mod:`ravenwh.ports`; :class:`~ravenwh.journal.reader.Reader`, which looks into the file while its
runner works; and :class:`~ravenwh.journal.redo.Redo`, which has frames and dead letters worked off
again while it is stopped; and :class:`~ravenwh.journal.making.MakingStore` for frames that are
made into something else. Promises that an appended frame is there after ``kill -9`` of the
process, with the positions and gaps that came with it; after a power cut the last moments may be
missing, as the file is synchronised at checkpoints, by a thread, so that no call waits for it.
Raises JournalFull at its byte limit and on a full disk, TooLarge for what will never fit, and
Unavailable where the disk refuses; nothing has changed then, and the call may be repeated.
Everything in it is bounded: frames and dead letters by bytes, the rest by number. Tested on real
files, on full disks, on logs cut and garbled at any byte, and with processes that are killed.
"""

from ravenwh.journal.file import lock_of
from ravenwh.journal.letters import CauseCount, DeadLetter, Selection
from ravenwh.journal.making import Making, MakingStore, Progress
from ravenwh.journal.reader import Reader, Status
from ravenwh.journal.redo import Redo
from ravenwh.journal.store import Store

__all__ = [
    "CauseCount",
    "DeadLetter",
    "Making",
    "MakingStore",
    "Progress",
    "Reader",
    "Redo",
    "Selection",
    "Status",
    "Store",
    "lock_of",
]
