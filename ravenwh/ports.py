"""The seams between the rooms: what a worker needs, and nothing of how it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import attrs
import msgspec

from ravenwh.domain.errors import RavenwhError
from ravenwh.domain.messages import Message

__all__ = ["DeadLetters", "Decoder", "Entry", "Frame", "Journal", "Sink", "Source", "WriteResult"]


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


@attrs.frozen(kw_only=True)
class WriteResult:
    """What became of a batch, in messages: the four counts add up to its length.

    ``rejected`` pairs the index in the batch with the reason; all other messages are committed.
    """

    written: int = 0
    unchanged: int = 0
    folded: int = 0
    rejected: tuple[tuple[int, RavenwhError], ...] = ()

    def followed_by(self, other: WriteResult, *, after: int) -> WriteResult:
        """The result of two batches as of one; ``after`` is the length of this, the first."""
        return WriteResult(
            written=self.written + other.written,
            unchanged=self.unchanged + other.unchanged,
            folded=self.folded + other.folded,
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


class Decoder(Protocol):
    """Turns a frame into the message it carries."""

    def __call__(self, frame: Frame, /) -> Message:
        """Raises DecodeError."""
        ...


MessageT = TypeVar("MessageT", bound=Message, contravariant=True)


class Sink(Protocol[MessageT]):
    """Where messages of one kind are kept for good."""

    async def write(self, messages: Sequence[MessageT]) -> WriteResult:
        """Commit the batch. Raises Unavailable or TooLarge, and then nothing of it is written."""
        ...


class Journal(Protocol):
    """The local log that frames enter before any work, and leave after commit."""

    def append(self, frames: Sequence[Frame]) -> int:
        """Keep the frames, all or none; the sequence number of the last one.

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
        for newer ones is counted and told. Raises JournalFull or Unavailable, and may then be
        repeated.
        """
        ...
