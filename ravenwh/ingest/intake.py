"""From the source into the journal, before anything else is done with a frame."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import attrs
from loguru import logger

from ravenwh.domain.errors import JournalFull, TooLarge, Unavailable
from ravenwh.ingest.limits import Counts, Limits
from ravenwh.ingest.sequences import NEVER, Sequences
from ravenwh.ingest.silence import Silence
from ravenwh.ports import Frame, Gap, Journal, Position, Source, Stream

__all__ = ["Intake"]

QUIET_S = 0.1  # at the stop: a feed that is silent for so long has nothing more on its way to us
DRAIN_S = 1.0  # at the stop: a feed that is never silent is read no longer than this


@attrs.define(kw_only=True)
class Intake:
    """Receives and journals; reads no further while the journal does not take what is in hand.

    ``arrived`` is set where there is more to read in the journal, ``gapped`` where the numbers of
    the frames show a gap, which is then in the journal too. Whoever makes room in it sets ``room``.
    Room may come from elsewhere too, on a disk, so it is also tried without.
    """

    source: Source
    journal: Journal
    limits: Limits
    counts: Counts
    sequences: Sequences
    silence: Silence | None = None
    arrived: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    gapped: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    room: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    refused: str | None = attrs.field(default=None, init=False)
    """Why the journal takes nothing at present; None where it does."""

    async def run(self) -> None:
        """Work until cancelled; frames that are then in hand without room are lost, and counted."""
        while True:
            frames = await self.source.receive(self.limits.receive_frames)
            if self.silence is not None:
                self.silence.heard(frames)
            left = self._journaled(frames)
            while left:
                try:
                    await self._wait_for_room()
                except asyncio.CancelledError:
                    self._lost(left, "the process stops while the journal takes no more")
                    raise
                left = self._journaled(left)

    async def put(self, frames: Sequence[Frame]) -> None:
        """Take frames that were sent again. Cancelled, the rest can be asked for once more."""
        left = self._journaled(frames)
        while left:
            await self._wait_for_room()
            left = self._journaled(left)

    def note(self, positions: Mapping[Stream, Position], gaps: Sequence[Gap]) -> None:
        """Keep gaps that no frame shows, and go on behind them. Raises JournalFull, Unavailable."""
        if not positions and not gaps:
            return
        self.journal.append((), positions=positions, gaps=gaps)
        self.sequences.follow(positions)
        if gaps:
            self.gapped.set()

    def forget(self, is_forgotten: Callable[[Stream], bool]) -> None:
        """Owe nothing of these streams' past. Raises JournalFull, Unavailable."""
        self.note(dict.fromkeys(self.sequences.known(is_forgotten), NEVER), ())

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
            seen = self.sequences.look(part)
            try:
                self.journal.append(part, positions=seen.positions, gaps=seen.gaps)
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
                self.refused = None
                self.sequences.follow(seen.positions)
                self.arrived.set()
                if seen.gaps:
                    self.gapped.set()
            frames = frames[len(part) :]
        return frames

    def _tell(self, error: JournalFull | Unavailable) -> None:
        """An alarm when the journal begins to refuse; not again until it has taken something."""
        is_new = self.refused is None
        self.refused = str(error)
        if not is_new:
            return
        logger.bind(reason=self.refused).error(
            "JOURNAL_FULL" if isinstance(error, JournalFull) else "JOURNAL_UNAVAILABLE"
        )

    def _lost(self, frames: Sequence[Frame], reason: str) -> None:
        self.counts.lost += len(frames)
        logger.bind(frames=len(frames), reason=reason).error("FRAMES_LOST")


def _portion(frames: Sequence[Frame], max_bytes: int) -> int:
    """How many of the frames are within so many bytes; one at least."""
    sizes = [len(f.topic) + len(f.header) + len(f.payload) for f in frames]
    if sum(sizes) <= max_bytes:
        return len(frames)
    return max(1, bisect_right(list(accumulate(sizes)), max_bytes))
