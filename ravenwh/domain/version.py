"""The order of versions of a kline: which of two has the last word."""

from __future__ import annotations

from ravenwh.domain.messages import Candle

__all__ = ["Version", "version_of"]

Version = tuple[int, tuple[float, ...]]
"""Compares as the versions do."""

BELOW_ALL = float("-inf")
"""Stands for what the venue does not say: any said value is more."""


def version_of(candle: Candle) -> Version:
    """What decides between versions of one kline of one source; the greater wins.

    The newer event_time, in µs as the table keeps it; then the values, from the last column of the
    fact to the first, as in the statement that writes them. What the table holds as null is null
    here. A value that is no number is as good as none, so that any two versions compare.
    """
    c = candle
    optional = (c.taker_buy_quote_volume, c.taker_buy_volume, c.trade_count, c.quote_volume)
    if c.trade_count == 0 and c.volume > 0:
        optional = (None, None, None, None)
    values = (*optional, c.volume, c.close, c.low, c.high, c.open)
    return c.event_time // 1000, tuple(BELOW_ALL if v is None or v != v else v for v in values)
