"""The bars of trades that are in memory, made all at once."""

from __future__ import annotations

from collections.abc import Sequence

from ravenwh.domain.messages import Trade
from ravenwh.features.bar import Bar
from ravenwh.features.chain import Chain
from ravenwh.features.profile import Profile

__all__ = ["bars_of"]


def bars_of(profile: Profile, trades: Sequence[Trade]) -> list[Bar]:
    """The bars of a chain that begins with the first of these trades, in their order.

    Times are nanoseconds since 1970, volumes those of the trades. What does not count is passed
    over, as :meth:`Chain.take` does; the bar that has not ended is left out.
    """
    return Chain(profile).take(trades)
