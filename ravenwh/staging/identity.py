"""When a point is: the venue's millisecond, and a slot within it that tells trades apart.

InfluxDB keeps one point a series and nanosecond: of trades that share a millisecond and a side, all
but one would be lost. So the time of a trade is its millisecond and a slot of 0 to 999,999 made
from its id: the last six digits of a decimal id, a hash of any other. The slot is a function of the
trade, so that a replay, an archived copy, or a second runner writes the same point again. The
venue's time is :func:`venue_time`; what is finer than a millisecond is cut off first, because
archives keep milliseconds.

Where the slot is another trade's of the same series and millisecond, the next free one is taken.
Which slots are taken in the end does not depend on the order of arrival; who has which may.

A trade without an id (those of some venues, and every liquidation) is told apart by price and
quantity. Equal ones of one batch are each a point; one that comes in a later batch is the same
again. The first is what a venue prints, the second what a replay brings: so a replay adds nothing,
and what the rule may get wrong is counted as ambiguous, as is a slot that was another's.

``docs/why/ticks.md`` has it in the words of users.
"""

from __future__ import annotations

from zlib import crc32

import attrs

__all__ = ["MILLISECOND", "Slots", "Tally", "slot_of", "venue_time"]

MILLISECOND = 1_000_000
"""A millisecond in nanoseconds, and the slots it has."""

REMEMBERED = 8
"""Milliseconds of a series whose slots are remembered: venues mix the order of a few. A late replay
goes further back, and brings its whole millisecond."""


def venue_time(point: int) -> int:
    """The venue's time of the point of a trade or liquidation; both in nanoseconds since 1970."""
    return point - point % MILLISECOND


def slot_of(trade_id: str) -> int:
    """Where the trade with this id belongs, if it is alone there."""
    if trade_id.isdecimal():
        return int(trade_id[-6:])
    return crc32(trade_id.encode()) % MILLISECOND


@attrs.define(eq=False)
class Tally:
    """``ambiguous`` counts the points for which a replay may choose another slot."""

    ambiguous: int = 0


class Slots(dict[int, dict[int, str]]):
    """Whose the slots of one series are: of the trades of one symbol and venue, with one side.

    From the beginning of a millisecond, in nanoseconds since 1970, to the key of who has each slot:
    a trade's id, or what stands for it. A millisecond that is new here has none taken.
    """

    __slots__ = ("tally",)

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def __missing__(self, start: int) -> dict[int, str]:
        if len(self) >= REMEMBERED:
            del self[next(iter(self))]
        taken: dict[int, str] = {}
        self[start] = taken
        return taken

    def next_free(self, taken: dict[int, str], slot: int, key: str) -> int:
        """The first slot from this one on that is free, or the trade's own; it has it then."""
        self.tally.ambiguous += 1
        while taken.setdefault(slot, key) != key:
            slot = (slot + 1) % MILLISECOND
        return slot

    def nameless(self, start: int, price: float, quantity: float, earlier: int) -> int:
        """The time of a trade without an id; ``earlier`` equal ones are before it in its batch."""
        key = f"\n{price!r}|{quantity!r}|{earlier}"  # no id: none has a line break
        slot, taken = slot_of(key), self[start]
        if earlier or taken.get(slot) == key:
            self.tally.ambiguous += 1
        if taken.setdefault(slot, key) != key:
            slot = self.next_free(taken, slot, key)
        return start + slot
