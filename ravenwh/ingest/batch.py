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
        self.bytes += entry[1].size

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
    """Write, halving where the sink refuses the whole, until it is down to the refused ones."""
    if not messages:
        return WriteResult()
    try:
        return await sink.write(messages)
    except (Rejected, TooLarge) as error:
        if len(messages) == 1:
            return WriteResult(rejected=((0, error),))
    middle = len(messages) // 2
    first = await write_isolated(sink, messages[:middle])
    second = await write_isolated(sink, messages[middle:])
    return first.followed_by(second, after=middle)
