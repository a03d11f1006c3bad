"""The seams between the rooms: what a worker needs, and nothing of how it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import attrs
import msgspec

from ravenwh.domain.errors import RavenwhError
from ravenwh.domain.messages import Message

__all__ = [
    "DeadLetters",
    "Decoder",
    "Entry",
    "Frame",
    "Gap",
    "GapLedger",
    "Holding",
    "Journal",
    "Meter",
    "Position",
    "Resender",
    "Sink",
    "Source",
    "Stream",
    "WriteResult",
]


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One message as it came from a socket, not yet decoded.

    ``feed`` is the name of the feed in the settings, ``received_at`` nanoseconds since 1970 UTC at
    our socket; ``header`` is empty on wires that have none.
    """

    feed: str
    topic: bytes
    header: bytes
    payload: bytes
    received_at: int

    @property
    def size(self) -> int:
        """Bytes of what came over the wire."""
        return len(self.topic) + len(self.header) + len(self.payload)


Entry = tuple[int, Frame]
"""A frame with its sequence number in the journal."""

Stream = tuple[str, bytes]
"""The frames of one publisher's topic: name of the feed, topic."""

Position = tuple[int, int]
"""How far a stream was received: epoch and sequence number of the publisher, as in the header."""


@attrs.frozen(kw_only=True)
class Gap:
    """Messages of a stream that were published, or expected, and are not here.

    One in the numbers has ``epoch``, ``first_seq`` and ``last_seq``, both included; one in the
    cadence of klines has ``start_time`` and ``end_time``, half-open. ``missing`` is how many, None
    where nobody can tell, 0 where they were never owed to us. All times are nanoseconds since
    1970, UTC.
    """

    feed: str
    topic: bytes
    epoch: int | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    start_time: int | None = None
    end_time: int | None = None
    missing: int | None = None
    reason: str
    detected_at: int
    repaired_at: int | None = None


@attrs.frozen(kw_only=True)
class WriteResult:
    """What became of a batch, in messages: the five counts add up to its length.

    ``expired`` are older than what the sink keeps, and so were not kept. ``rejected`` pairs the
    index in the batch with the reason; all other messages are committed.
    """

    written: int = 0
    unchanged: int = 0
    folded: int = 0
    expired: int = 0
    rejected: tuple[tuple[int, RavenwhError], ...] = ()

    def followed_by(self, other: WriteResult, *, after: int) -> WriteResult:
        """The result of two batches as of one; ``after`` is the length of this, the first."""
        return WriteResult(
            written=self.written + other.written,
            unchanged=self.unchanged + other.unchanged,
            folded=self.folded + other.folded,
            expired=self.expired + other.expired,
            rejected=(*self.rejected, *((after + i, error) for i, error in other.rejected)),
        )


class Source(Protocol):
    """Where frames come from."""

    async def receive(self, limit: int) -> list[Frame]:
        """At least one and at most ``limit`` frames, in order of arrival; waits for the first."""
        ...

    def close(self) -> None:
        """Give the sockets back. Safe to call twice."""
        ...


class Resender(Protocol):
    """Who can be asked for frames that did not arrive."""

    async def positions(self, feed: str) -> dict[bytes, tuple[int, int, int]]:
        """Of each topic of the feed that we want: epoch, oldest number there, last number sent.

        None at all where nobody can be asked. Raises Unavailable where nobody answers.
        """
        ...

    async def resend(
        self, feed: str, topic: bytes, epoch: int, first: int, last: int
    ) -> list[Frame]:
        """The frames with these numbers, both included, that are still there, in order.

        Perhaps only the first of them: ask again for the rest. None where no more can be had.
        Raises Unavailable where nobody answers.
        """
        ...


class GapLedger(Protocol):
    """Where it is kept for good what never came."""

    async def note(self, gaps: Sequence[Gap]) -> None:
        """Keep the gaps; one that is there already is not kept twice. Raises Unavailable."""
        ...

    async def repaired(self, gaps: Sequence[Gap]) -> None:
        """Their messages came after all, at ``repaired_at``. Of gaps never noted nothing is kept.

        Raises Unavailable.
        """
        ...


class Decoder(Protocol):
    """Turns a frame into the message it carries."""

    def __call__(self, frame: Frame, /) -> Message | None:
        """None where the frame is right, and carries nothing that we have a message for.

        Raises DecodeError, and Rejected where what it names can never be written anywhere.
        """
        ...


MessageT = TypeVar("MessageT", bound=Message, contravariant=True)


class Sink(Protocol[MessageT]):
    """Where messages of one kind are kept for good."""

    async def write(self, messages: Sequence[MessageT]) -> WriteResult:
        """Commit the batch. Raises Unavailable or TooLarge, and it is to be given again.

        What of it is written already is unchanged then.
        """
        ...


HeldT = TypeVar("HeldT", bound=Message)


class Holding(Protocol[HeldT]):
    """What stands between the journal and the batch, and holds messages until their turn."""

    def offer(self, entry: Entry, message: HeldT, /) -> tuple[list[tuple[Entry, HeldT]], int]:
        """Take one; those whose turn has come now, in order, and how many were folded."""
        ...

    def passed(self, is_end: bool, /) -> list[tuple[Entry, HeldT]]:
        """Those whose turn has come though no message says so. Asked before each commit.

        ``is_end`` tells that all that is in the journal was offered.
        """
        ...

    def held(self) -> list[Entry]:
        """The entries of those that are held."""
        ...

    @property
    def is_waiting(self) -> bool:
        """Whether the turn of some may come though nothing more arrives."""
        ...

    def __len__(self) -> int:
        """How many are held."""
        ...


class Journal(Protocol):
    """The local log that frames enter before any work, and leave after commit."""

    def append(
        self,
        frames: Sequence[Frame],
        *,
        positions: Mapping[Stream, Position] = {},
        gaps: Sequence[Gap] = (),
    ) -> int:
        """Keep the frames, all or none; the sequence number of the last one.

        In the same step the streams' positions are noted, and the gaps that were found; there may
        be no frames at all.
        Raises JournalFull where there is no room now, TooLarge where there never will be for so
        many at once, Unavailable where its disk fails.
        """
        ...

    def held(self) -> list[Entry]:
        """The entries that the last acknowledgement held back, in order."""
        ...

    def read(self, after: int, limit: int, max_bytes: int) -> list[Entry]:
        """The next entries after a sequence number, in order; none when there is nothing newer.

        At most ``limit`` entries, whose frames have at most ``max_bytes`` together; the first one
        comes whatever its size.
        """
        ...

    def positions(self) -> dict[Stream, Position]:
        """How far each stream was received, by this run or an earlier one."""
        ...

    def gaps(self) -> list[tuple[int, Gap]]:
        """The gaps that are not settled yet, each with its number, oldest first.

        Of a stream with very many only the first ones, until they are settled.
        """
        ...

    def settle_gaps(self, numbers: Sequence[int]) -> None:
        """These gaps are repaired, or noted for good where they belong. May be repeated."""
        ...

    @property
    def acknowledged(self) -> int:
        """The last sequence number that needs no replay; 0 at first."""
        ...

    @property
    def last(self) -> int:
        """The sequence number of the newest frame; 0 at first."""
        ...

    def acknowledge(self, upto: int, held: Sequence[Entry] = ()) -> None:
        """Everything up to and including ``upto`` is done, but for the entries held back.

        Raises JournalFull or Unavailable, and may then be repeated.
        """
        ...


class DeadLetters(Protocol):
    """Where frames go that can never be written."""

    def put(self, letters: Sequence[tuple[Entry, RavenwhError]]) -> None:
        """Keep the raw bytes with the error's class, its reason and the time.

        An entry that is there already is not put twice. Their bytes are bounded: what is given up
        for newer ones is counted and told. Of bytes that nobody can read (DecodeError), those that
        come too fast may be counted and told only. Raises JournalFull or Unavailable, and may then
        be repeated.
        """
        ...


class Meter(Protocol):
    """Who is told how the work goes, while it goes."""

    def wrote(self, *, rows: int, took_s: float) -> None:
        """A batch was settled."""
        ...

    def retried(self, cause: str) -> None:
        """A try failed with an error of this class, and is going to be repeated."""
        ...

    def offset(self, venue: str, offset_s: float) -> None:
        """A message of the venue was received so long after its event_time; may be negative."""
        ...
