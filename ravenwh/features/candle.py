"""Bars on the wire: a finished bar as the message CANDLE."""

from __future__ import annotations

from ravenwh.domain.messages import Candle
from ravenwh.features.bar import Bar
from ravenwh.features.profile import Profile

__all__ = ["to_candle"]


def to_candle(
    bar: Bar, *, profile: Profile, name: str, venue: str, symbol: str, producer: str
) -> Candle:
    """The bar as it is published: ``name`` is the profile's, and the interval of the candle.

    Its ``event_time`` is that of its last trade, so that the same bar, made again, is the same
    message but for ``producer``.
    """
    return Candle(
        venue=venue,
        symbol=symbol,
        event_time=bar.close_time,
        producer=producer,
        interval=name,
        open_time=bar.open_time,
        close_time=bar.close_time,
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=bar.volume,
        parameters_hash=profile.parameters_hash,
        parameters=profile.parameters,
        bar_seq=bar.bar_seq,
        buy_ticks=bar.buy_ticks,
        sell_ticks=bar.sell_ticks,
        total_ticks=bar.total_ticks,
        theta=bar.theta,
        vpin=bar.vpin,
        buy_volume=bar.buy_volume,
        sell_volume=bar.sell_volume,
        after_gap=bar.after_gap,
    )
