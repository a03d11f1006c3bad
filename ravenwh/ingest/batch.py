"""Messages that are committed together, and how the refused ones are found among them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Generic, TypeVar

import attrs

from ravenwh.domain.errors import RavenwhError, Rejected, TooLarge
from ravenwh.domain.messages import Message
from ravenwh.ingest.limits import Limits
from ravenwh.ports import Entry, Sink, WriteResult

__all__ = ["Batch", "write_isolated"]

MessageT = TypeVar("MessageT", bound=Message)

NAMED = 50
"""Messages of a batch that are taken out by name. Of more, halving needs fewer tries: each of those
writes the whole batch."""


@attrs.define
class Batch(Generic[MessageT]):
    """Decoded messages that wait for a commit, with the entries they came from."""

    entries: list[Entry] = attrs.field(factory=list)
    messages: list[MessageT] = attrs.field(factory=list)
    dead: list[tuple[Entry, RavenwhError]] = attrs.field(factory=list)
    bytes: int = 0
    opened_at: float | None = None
    """When the first entry was taken up, dead and ignored ones included; monotonic."""

    def __len__(self) -> int:
        return len(self.messages) + len(self.dead)

    def add(self, entry: Entry, message: MessageT) -> None:
        """One more message."""
        self.entries.append(entry)
        self.messages.append(message)
        frame = entry[1]  # its size, without the call: this is done for each frame
        self.bytes += len(frame.topic) + len(frame.header) + len(frame.payload)

    def add_dead(self, entry: Entry, error: RavenwhError) -> None:
        """A frame that can never be a row."""
        self.dead.append((entry, error))
        self.bytes += entry[1].size

    def is_due(self, limits: Limits, *, ending: bool) -> bool:
        """Whether it closes now: by rows, bytes or age, or because no more comes."""
        return self.opened_at is not None and (
            ending
            or len(self) >= limits.batch_rows
            or self.bytes >= limits.batch_bytes
            or time.monotonic() - self.opened_at >= limits.flush_after_s
        )


async def write_isolated(sink: Sink[MessageT], messages: Sequence[MessageT]) -> WriteResult:
    """Write all that the sink takes: what it refuses is taken out, and the rest given again.

    Where the sink names the message, that is one try more for each; else the batch is halved until
    it is down to the refused ones.
    """
    left = list(range(len(messages)))
    named: list[tuple[int, RavenwhError]] = []
    while left:
        try:
            result = await sink.write([messages[index] for index in left])
        except Rejected as error:
            if error.place is None or len(named) == NAMED:
                result = await _halved(sink, [messages[index] for index in left], error)
            else:
                named.append((left.pop(error.place), error))
                continue
        except TooLarge as error:
            result = await _halved(sink, [messages[index] for index in left], error)
        refused = [(left[index], error) for index, error in result.rejected]
        return attrs.evolve(result, rejected=(*named, *refused))
    return WriteResult(rejected=tuple(named))


async def _halved(
    sink: Sink[MessageT], messages: Sequence[MessageT], error: Rejected | TooLarge
) -> WriteResult:
    """The result for messages that the sink refuses as a whole, with this error."""
    if len(messages) == 1:
        return WriteResult(rejected=((0, error),))
    middle = len(messages) // 2
    first = await _written(sink, messages[:middle])
    return first.followed_by(await _written(sink, messages[middle:]), after=middle)


async def _written(sink: Sink[MessageT], messages: Sequence[MessageT]) -> WriteResult:
    try:
        return await sink.write(messages)
    except (Rejected, TooLarge) as error:
        return await _halved(sink, messages, error)
