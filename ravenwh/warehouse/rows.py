"""Messages to rows: the border where units are turned and values are checked. Pure functions."""

from __future__ import annotations

from functools import cache, lru_cache
from math import isfinite
from typing import Any

from ravenwh.domain.errors import Rejected
from ravenwh.domain.instrument import Instrument
from ravenwh.domain.interval import parse_interval
from ravenwh.domain.messages import Candle
from ravenwh.domain.ohlc import ohlc_problem
from ravenwh.domain.series import EARLIEST_NS, LATEST_NS, from_ns
from ravenwh.domain.units import kline_volumes

__all__ = ["kline_values"]

INFINITE = float("inf")
MONDAY_NS = 946_857_600_000_000_000  # 2000-01-03, a Monday: where periods are counted from


_at = lru_cache(maxsize=4096)(from_ns)
"""Times that many klines share: the open_time of a minute is that of every series."""


@cache
def _duration_ns(code: str) -> int:
    return parse_interval(code).duration_ns


def kline_values(candle: Candle, instrument: Instrument) -> tuple[Any, ...]:
    """The row of a kline without its ids: open_time, the values of the fact, event_time.

    Volumes are turned into coins and quote units by the instrument; the four optional columns are
    null where the venue says no trade and yet a volume, for then it does not say them. Raises
    Rejected with the code NOT_A_KLINE, UNKNOWN_INTERVAL,
    NOT_FINITE, BAD_OHLC, BAD_VOLUME, BAD_TIME or MISALIGNED.
    """
    c = candle
    if c.parameters_hash is not None:
        raise Rejected(f"{c.interval} is a bar profile, not a kline", code="NOT_A_KLINE")
    if not (EARLIEST_NS <= c.open_time <= LATEST_NS and EARLIEST_NS <= c.event_time <= LATEST_NS):
        raise Rejected(
            f"open_time {c.open_time} or event_time {c.event_time} is not between 2009 and 2100 "
            "in nanoseconds",
            code="BAD_TIME",
        )
    if (c.open_time - MONDAY_NS) % _duration_ns(c.interval):
        raise Rejected(
            f"open_time {from_ns(c.open_time).isoformat()} is not the start of a {c.interval}",
            code="MISALIGNED",
        )
    prices = c.open + c.high + c.low + c.close
    if not isfinite(prices - prices + c.volume):
        raise Rejected(
            f"open, high, low, close, volume = {c.open}, {c.high}, {c.low}, {c.close}, {c.volume}: "
            "all must be finite",
            code="NOT_FINITE",
        )
    problem = ohlc_problem(c.open, c.high, c.low, c.close)
    if problem is not None:
        raise Rejected(problem, code="BAD_OHLC")
    quote_volume, trades = c.quote_volume, c.trade_count
    taker, taker_quote = c.taker_buy_volume, c.taker_buy_quote_volume
    if trades == 0 and c.volume > 0:
        quote_volume = trades = taker = taker_quote = None
    if not (
        c.volume >= 0
        and (quote_volume is None or 0 <= quote_volume < INFINITE)
        and (trades is None or 0 <= trades < 2**63)
        and (taker is None or 0 <= taker < INFINITE)
        and (taker_quote is None or 0 <= taker_quote < INFINITE)
    ):
        raise Rejected(
            f"volume, quote_volume, trade_count, taker_buy_volume, taker_buy_quote_volume = "
            f"{c.volume}, {quote_volume}, {trades}, {taker}, {taker_quote}: each must be finite "
            "and 0 or more",
            code="BAD_VOLUME",
        )
    volume, quote_volume, taker, taker_quote = kline_volumes(
        instrument.volume_unit, c.volume, quote_volume, taker, taker_quote
    )
    return (
        _at(c.open_time),
        c.open,
        c.high,
        c.low,
        c.close,
        volume,
        quote_volume,
        trades,
        taker,
        taker_quote,
        from_ns(c.event_time),
    )
