"""From the source into the journal, before anything else is done with a frame."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import attrs
from loguru import logger

from ravenwh.domain.errors import JournalFull, TooLarge, Unavailable
from ravenwh.ingest.limits import Counts, Limits
from ravenwh.ports import Frame, Journal, Source

__all__ = ["Intake"]

QUIET_S = 0.1  # at the stop: a feed that is silent for so long has nothing more on its way to us
DRAIN_S = 1.0  # at the stop: a feed that is never silent is read no longer than this


@attrs.define(kw_only=True)
class Intake:
    """Receives and journals; reads no further while the journal does not take what is in hand.

    ``arrived`` is set where there is more to read in the journal; whoever makes room in it sets
    ``room``. Room may come from elsewhere too, on a disk, so it is also tried without.
    """

    source: Source
    journal: Journal
    limits: Limits
    counts: Counts
    arrived: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    room: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _refused: bool = attrs.field(default=False, init=False)

    async def run(self) -> None:
        """Work until cancelled; frames that are then in hand without room are lost, and counted."""
        while True:
            left = self._journaled(await self.source.receive(self.limits.receive_frames))
            while left:
                try:
                    await self._wait_for_room()
                except asyncio.CancelledError:
                    self._lost(left, "the process stops while the journal takes no more")
                    raise
                left = self._journaled(left)

    async def _wait_for_room(self) -> None:
        self.room.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.room_retry_s):
                await self.room.wait()

    async def drain(self) -> None:
        """Take what has already arrived at our end at the stop; not what keeps coming."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while True:
                    async with asyncio.timeout(QUIET_S):
                        frames = await self.source.receive(self.limits.receive_frames)
                    if left := self._journaled(frames):
                        self._lost(left, "the process stops while the journal takes no more")
                        return

    def _journaled(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Put the frames into the journal, in portions; what is left that it has no room for."""
        most = self.limits.batch_bytes
        while frames:
            part = frames[: _portion(frames, most)]
            try:
                self.journal.append(part)
            except TooLarge as error:
                if len(part) > 1:
                    most = min(most, sum(frame.size for frame in part)) // 2
                    continue
                self._lost(part, str(error))
            except (JournalFull, Unavailable) as error:
                self._tell(error)
                return frames
            else:
                self.counts.received += len(part)
                self._refused = False
                self.arrived.set()
            frames = frames[len(part) :]
        return frames

    def _tell(self, error: JournalFull | Unavailable) -> None:
        """An alarm when the journal begins to refuse; not again until it has taken something."""
        if self._refused:
            return
        self._refused = True
        logger.bind(reason=str(error)).error(
            "JOURNAL_FULL" if isinstance(error, JournalFull) else "JOURNAL_UNAVAILABLE"
        )

    def _lost(self, frames: Sequence[Frame], reason: str) -> None:
        self.counts.lost += len(frames)
        logger.bind(frames=len(frames), reason=reason).error("FRAMES_LOST")


def _portion(frames: Sequence[Frame], max_bytes: int) -> int:
    """How many of the frames are within so many bytes; one at least."""
    total = 0
    for count, frame in enumerate(frames):
        total += frame.size
        if total > max_bytes:
            return max(1, count)
    return len(frames)
