"""A bar while it grows, and when it is done."""

from __future__ import annotations

import msgspec

__all__ = ["Bar", "Growing"]


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One finished bar. Times are nanoseconds since 1970, UTC; volumes in the trades' unit.

    ``open_time`` and ``close_time`` are those of its first and last trade; ``bar_seq`` numbers,
    from 0, the bars of a chain that open in the same microsecond. ``after_gap`` says that trades
    may be missing before or in it. ``theta`` belongs to imbalance and run bars (signed trades,
    signed volume, or the larger count), the three after it to VPIN: ``vpin`` is a fraction, 0 to 1,
    and the two volumes add up to ``volume``.
    """

    open_time: int
    close_time: int
    bar_seq: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    buy_ticks: int
    total_ticks: int
    after_gap: bool
    theta: float | None = None
    vpin: float | None = None
    buy_volume: float | None = None
    sell_volume: float | None = None

    @property
    def sell_ticks(self) -> int:
        """Trades whose taker sold."""
        return self.total_ticks - self.buy_ticks


class Growing(msgspec.Struct, kw_only=True):
    """A bar that has not ended: sums over its trades so far, in their order."""

    open_time: int = 0
    close_time: int = 0
    open: float = 0.0
    high: float = 0.0
    low: float = 0.0
    close: float = 0.0
    volume: float = 0.0
    signed_volume: float = 0.0
    buys: int = 0
    ticks: int = 0
    after_gap: bool = False
    sliced: float = 0.0
    """Of VPIN: ``volume`` at the end of the last slice of the bucket."""
    bought: float = 0.0
    """Of VPIN: the part of ``sliced`` that is classified as bought."""
