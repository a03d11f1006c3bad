"""What did not arrive is asked for again; what nobody has any more is noted for good."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Sequence

import attrs
from loguru import logger

from ravenwh.domain.errors import JournalFull, Unavailable
from ravenwh.ingest.intake import Intake
from ravenwh.ingest.sequences import NEVER
from ravenwh.ports import Frame, Gap, GapLedger, Journal, Position, Resender, Stream

__all__ = ["Repair"]


@attrs.define(kw_only=True)
class Repair:
    """Closes the gaps of the feeds, those that an earlier run left behind too.

    At the start and after each connection the publishers are asked how far they are, so that what
    went by while nobody listened is fetched; later they are asked every ``ask_every_s``, for what
    was lost with no frame behind it to show it. Where a publisher stays silent for ``patience_s``,
    its gap is noted, and still asked for: it is repaired, or given up when the publisher says that
    it has nothing. A gap without numbers may still be filled by what comes late, for ``late_s``.
    """

    journal: Journal
    intake: Intake
    resender: Resender
    ledger: GapLedger
    feeds: Sequence[str]
    ask_every_s: float = 15.0
    patience_s: float = 60.0
    late_s: float = 0.0
    on_its_way_s: float = 2.0
    _connected: set[str] = attrs.field(init=False)
    _suspected: dict[Stream, tuple[int, int, float]] = attrs.field(factory=dict, init=False)
    _beyond: dict[Stream, Position] = attrs.field(factory=dict, init=False)
    _noted: set[int] = attrs.field(factory=set, init=False)
    _silent: set[str] = attrs.field(factory=set, init=False)

    @_connected.default
    def _all_feeds(self) -> set[str]:
        return set(self.feeds)

    def connected(self, feed: str) -> None:
        """A connection of the feed was made: ask soon what went by before."""
        self._connected.add(feed)
        self.intake.gapped.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self.intake.gapped.clear()
            with contextlib.suppress(JournalFull):  # the reader alarms, and it is tried again
                for feed in self.feeds:
                    await self._catch_up(feed)
                await self._close_gaps()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self.ask_every_s, self._ripe_in_s())):
                    await self.intake.gapped.wait()

    async def _catch_up(self, feed: str) -> None:
        """Fetch what the publishers of a feed have sent and we have not seen."""
        try:
            sent = await self.resender.positions(feed)
            is_new = feed in self._connected
            for topic, (epoch, oldest, last) in sent.items():
                first = self._behind((feed, topic), epoch, oldest, last, is_new=is_new)
                if first is not None:
                    await self._fetch_tail(feed, topic, epoch, first, last)
        except Unavailable as error:
            if feed not in self._silent:
                self._silent.add(feed)
                logger.bind(feed=feed, reason=str(error)).warning("RESEND_UNAVAILABLE")
            return
        self._connected.discard(feed)
        self._silent.discard(feed)

    def _behind(
        self, stream: Stream, epoch: int, oldest: int, last: int, *, is_new: bool
    ) -> int | None:
        """The first number to fetch, None where there is nothing to be missed.

        What was sent may still be on its way to us: while connected, only what was sent before an
        asking ``on_its_way_s`` ago, and is not here yet, is missed.
        """
        ours = self.intake.sequences[stream]
        if ours is not None and ours > (epoch, last) and self._is_garbage(stream, ours):
            ours = (epoch, last) if ours[0] == epoch else NEVER
            self.intake.note({stream: ours}, ())
        if ours is None or ours == NEVER:
            first = oldest
        elif epoch > ours[0]:
            first = 1
        elif epoch == ours[0]:
            first = ours[1] + 1
        else:
            return None
        now = time.monotonic()
        suspected = self._suspected.pop(stream, (epoch, last, now))
        if first > last:
            return None
        if suspected[0] != epoch or suspected[1] < first:
            suspected = (epoch, last, now)  # what was suspected has come
        if is_new or now - suspected[2] >= self.on_its_way_s:
            return first
        self._suspected[stream] = suspected
        return None

    def _is_garbage(self, stream: Stream, ours: Position) -> bool:
        """Whether we are somewhere where the publisher never was, and it surely knows.

        A header was garbled, or its clock was set back. Where that shows for the first time, what
        it sent since it was asked may have come meanwhile.
        """
        is_sure = self._beyond.pop(stream, None) == ours
        if not is_sure:
            self._beyond[stream] = ours
        return is_sure

    async def _fetch_tail(self, feed: str, topic: bytes, epoch: int, first: int, last: int) -> None:
        """Fetch what is behind our position; a gap in front of it shows by itself.

        Frames that come meanwhile move the position, and show what is missing in front of them.
        """
        stream = (feed, topic)
        is_owed = self.intake.sequences[stream] not in (None, NEVER)
        if await self._fetch(feed, topic, epoch, first, last):
            return
        ours = self.intake.sequences[stream] or NEVER
        if ours[0] == epoch:
            first = max(first, ours[1] + 1)
        if first > last:
            return
        gap = Gap(
            feed=feed,
            topic=topic,
            epoch=epoch,
            first_seq=first,
            last_seq=last,
            missing=last - first + 1 if is_owed else 0,
            reason="not received",
            detected_at=time.time_ns(),
        )
        self.intake.note({} if ours[0] > epoch else {stream: (epoch, last)}, [gap])

    async def _fetch(self, feed: str, topic: bytes, epoch: int, first: int, last: int) -> set[int]:
        """Fetch these numbers, piece by piece; the ones that came."""
        came: set[int] = set()
        while first <= last:
            frames = await self.resender.resend(feed, topic, epoch, first, last)
            numbers = self._numbers(frames)
            if not numbers or max(numbers) < first:
                break
            await self.intake.put(frames)
            self.intake.counts.resent += len(frames)
            came |= numbers
            first = max(numbers) + 1
        return came

    def _numbers(self, frames: Sequence[Frame]) -> set[int]:
        positions = map(self.intake.sequences.position_of, frames)
        return {position[1] for position in positions if position is not None}

    async def _close_gaps(self) -> None:
        """Repair what can be repaired, note the rest, and settle both.

        What cannot be now stays in the journal, and its turn comes. Nobody is waited for twice in
        one round: a database that is away, nor a publisher that does not answer.
        """
        silent = set(self._silent)
        for number, gap in [one for one in self.journal.gaps() if not self._may_be_filled(one[1])]:
            try:
                left = None if gap.feed in silent else await self._left_of(gap)
            except Unavailable:
                silent.add(gap.feed)
                left = None
            try:
                await self._close(number, gap, left)
            except Unavailable:
                return

    def _may_be_filled(self, gap: Gap) -> bool:
        """Whether what comes late may still take its place in the journal, so that it changes."""
        return gap.epoch is None and _age_s(gap) < self.late_s

    def _ripe_in_s(self) -> float:
        """When the first of the gaps that may still be filled is one for good."""
        ages = [_age_s(gap) for _, gap in self.journal.gaps() if gap.epoch is None]
        waiting = [self.late_s - age for age in ages if age < self.late_s]
        return min(waiting, default=self.ask_every_s)

    async def _close(self, number: int, gap: Gap, left: list[Gap] | None) -> None:
        """Settle a gap of which this is left; None where the publisher does not answer."""
        is_old = _age_s(gap) > self.patience_s
        if left is None:
            if is_old and gap.missing != 0 and number not in self._noted:
                await self._note([gap])
                self._noted.add(number)
            return
        if gap.missing != 0:
            if is_old and left != [gap]:  # it may have been noted, by this run or an earlier one
                await self.ledger.repaired([attrs.evolve(gap, repaired_at=time.time_ns())])
            if left and not (left == [gap] and number in self._noted):
                await self._note(left)
        self.journal.settle_gaps([number])
        self._noted.discard(number)

    async def _left_of(self, gap: Gap) -> list[Gap]:
        """What of the gap cannot be had; nothing where all of it came. Raises Unavailable."""
        if gap.epoch is None or gap.first_seq is None or gap.last_seq is None:
            return [gap]
        came = await self._fetch(gap.feed, gap.topic, gap.epoch, gap.first_seq, gap.last_seq)
        if came:
            logger.bind(feed=gap.feed, topic=_text(gap.topic), frames=len(came)).info("FEED_RESENT")
        return [
            attrs.evolve(gap, first_seq=first, last_seq=last, missing=last - first + 1)
            if came
            else gap
            for first, last in _holes(gap.first_seq, gap.last_seq, came)
        ]

    async def _note(self, gaps: Sequence[Gap]) -> None:
        """Tell of a loss that can be seen, and keep it."""
        await self.ledger.note(gaps)
        for gap in gaps:
            self.intake.counts.missing += gap.missing or 0
            logger.bind(
                feed=gap.feed,
                topic=_text(gap.topic),
                first=gap.first_seq,
                last=gap.last_seq,
                missing=gap.missing,
                reason=gap.reason,
            ).warning("FEED_GAP")


def _holes(first: int, last: int, came: set[int]) -> list[tuple[int, int]]:
    """The ranges within first to last, both included, whose numbers did not come."""
    edges = [first - 1, *sorted(number for number in came if first <= number <= last), last + 1]
    return [(low + 1, high - 1) for low, high in itertools.pairwise(edges) if high - low > 1]


def _age_s(gap: Gap) -> float:
    return (time.time_ns() - gap.detected_at) / 1e9


def _text(topic: bytes) -> str:
    return topic[:200].decode("utf-8", "replace")
