"""Which numbers of a stream came, and which did not: gaps are seen without decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from ravenwh.ingest.limits import AHEAD_NS, FOLLOWED, LONGEST_TOPIC
from ravenwh.ports import Frame, Gap, Position, Stream

__all__ = ["NEVER", "Seen", "Sequences"]

NEVER: Position = (0, 0)
"""The position of a stream that was followed and then called off: nothing of it is owed to us."""


@attrs.frozen(kw_only=True)
class Seen:
    """What some frames show: how far their streams have come now, and what is missing."""

    positions: Mapping[Stream, Position]
    gaps: Sequence[Gap]


class Sequences:
    """Follows the numbers of every stream, from where an earlier run had come to.

    Within an epoch the numbers have no holes. A new epoch is a restarted publisher, which is no
    gap, but its numbers begin at 1: the first ones may have gone by before our subscription was
    there. Of a stream that was never followed, or called off, they are not owed to us (``missing``
    is 0), though they may be asked for. A smaller number is a late or a repeated frame, and a
    smaller epoch another publisher's: they are taken like any other, and move nothing. So does one
    that lies in the future.

    ``position_of`` gives the position in a frame's header, None on a wire without.
    """

    def __init__(
        self,
        positions: Mapping[Stream, Position],
        *,
        position_of: Callable[[Frame], Position | None],
    ) -> None:
        self._positions = dict(positions)
        self.position_of = position_of

    def __getitem__(self, stream: Stream) -> Position | None:
        """How far the stream was received."""
        return self._positions.get(stream)

    def look(self, frames: Sequence[Frame]) -> Seen:
        """What the frames show, in their order; to be followed once they are journaled."""
        known, moved = self._positions, dict[Stream, Position]()
        gaps: list[Gap] = []
        for frame in frames:
            position = self.position_of(frame)
            if position is None:
                continue
            stream = (frame.feed, frame.topic)
            last = moved.get(stream) or known.get(stream)
            if last is None and (
                len(known) + len(moved) >= FOLLOWED or len(frame.topic) > LONGEST_TOPIC
            ):
                continue
            epoch, seq = position
            if last is not None and last[0] == epoch:
                first = last[1] + 1
                if seq < first:
                    continue
            elif epoch > frame.received_at + AHEAD_NS or (
                last is not None and epoch < last[0] and seq != 1
            ):
                continue
            else:
                first = 1
            moved[stream] = position
            if first < seq:
                gaps.append(
                    Gap(
                        feed=frame.feed,
                        topic=frame.topic,
                        epoch=epoch,
                        first_seq=first,
                        last_seq=seq - 1,
                        missing=0 if last in (None, NEVER) else seq - first,
                        reason="not received",
                        detected_at=frame.received_at,
                    )
                )
        return Seen(positions=moved, gaps=gaps)

    def known(self, is_asked: Callable[[Stream], bool]) -> list[Stream]:
        """The streams that are followed, of those that are asked for."""
        return [
            stream
            for stream, position in self._positions.items()
            if position != NEVER and is_asked(stream)
        ]

    def follow(self, positions: Mapping[Stream, Position]) -> None:
        """Go on from these positions."""
        self._positions.update(positions)
