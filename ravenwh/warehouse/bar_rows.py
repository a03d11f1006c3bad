"""Bars to rows: the border where units are turned and values are checked. Pure functions."""

from __future__ import annotations

from math import isfinite
from typing import Any

from ravenwh.domain.errors import Rejected
from ravenwh.domain.instrument import Instrument
from ravenwh.domain.messages import Candle
from ravenwh.domain.ohlc import ohlc_problem
from ravenwh.domain.series import EARLIEST_NS, LATEST_NS, from_ns
from ravenwh.domain.units import convert

__all__ = ["tick_bar_values", "volume_bar_values", "vpin_values"]

LONGEST_NAME = 128
MOST_SEQ = 2**31 - 1
MOST_TICKS = 2**63 - 1


def tick_bar_values(candle: Candle, instrument: Instrument) -> tuple[Any, ...]:
    """The row of a bar whose theta counts trades, without its ids.

    As of all bars: open_time, bar_seq, the values of the fact, event_time. Raises Rejected with the
    code NOT_A_BAR, BAD_NAME, NOT_CLOSED, BAD_TIME, BAD_SEQ, NOT_FINITE, BAD_OHLC, BAD_VOLUME or
    BAD_TICKS, and where a number is in no unit that can be turned into coins, NOT_IN_COINS.
    """
    (theta,) = _said(candle, "theta")
    return (*_bar(candle, instrument), theta, from_ns(candle.event_time))


def volume_bar_values(candle: Candle, instrument: Instrument) -> tuple[Any, ...]:
    """The row of a bar whose theta is a volume, which is turned into coins."""
    (theta,) = _said(candle, "theta")
    coins = _coins(candle, instrument, theta=theta)
    return (*_bar(candle, instrument), *coins, from_ns(candle.event_time))


def vpin_values(candle: Candle, instrument: Instrument) -> tuple[Any, ...]:
    """The row of a bucket of VPIN, whose volumes are turned into coins."""
    vpin, bought, sold = _said(candle, "vpin", "buy_volume", "sell_volume")
    if not (0.0 <= vpin <= 1.0 and bought >= 0.0 and sold >= 0.0):
        raise Rejected(
            f"vpin, buy_volume, sell_volume = {vpin}, {bought}, {sold}: vpin must be from 0 to 1, "
            "the volumes 0 or more",
            code="BAD_VOLUME",
        )
    coins = _coins(candle, instrument, buy_volume=bought, sell_volume=sold)
    return (*_bar(candle, instrument), vpin, *coins, from_ns(candle.event_time))


def _bar(c: Candle, instrument: Instrument) -> tuple[Any, ...]:
    """What all bars have, from open_time to after_gap."""
    if c.parameters_hash is None:
        raise Rejected(
            f"{c.interval}: found no parameters_hash, which every bar has: have its publisher send "
            "it, with the parameters",
            code="NOT_A_BAR",
        )
    for name in (c.interval, c.parameters_hash):
        if not (name.isprintable() and 0 < len(name) <= LONGEST_NAME):
            raise Rejected(
                f"profile or parameters_hash: found {name[:LONGEST_NAME]!r}, allowed are 1 to "
                f"{LONGEST_NAME} printable characters",
                code="BAD_NAME",
            )
    if not c.closed:
        raise Rejected(f"{c.interval}: the bar has not ended yet", code="NOT_CLOSED")
    earliest, latest = min(c.open_time, c.event_time), max(c.close_time, c.event_time)
    if not (earliest >= EARLIEST_NS and c.open_time <= c.close_time and latest <= LATEST_NS):
        raise Rejected(
            f"open_time, close_time, event_time = {c.open_time}, {c.close_time}, {c.event_time}: "
            "all must be between 2009 and 2100 in nanoseconds, and the end not before the start",
            code="BAD_TIME",
        )
    if not 0 <= c.bar_seq <= MOST_SEQ:
        raise Rejected(f"bar_seq: found {c.bar_seq}, allowed is 0 to {MOST_SEQ:,}", code="BAD_SEQ")
    _require_finite(open=c.open, high=c.high, low=c.low, close=c.close, volume=c.volume)
    problem = ohlc_problem(c.open, c.high, c.low, c.close)
    if problem is not None:
        raise Rejected(problem, code="BAD_OHLC")
    if c.volume < 0:
        raise Rejected(f"volume: found {c.volume}, allowed is 0 or more", code="BAD_VOLUME")
    ticks = (c.buy_ticks, c.sell_ticks, c.total_ticks)
    if not all(count is None or 0 <= count <= MOST_TICKS for count in ticks):
        raise Rejected(
            "buy_ticks, sell_ticks, total_ticks = {}, {}, {}: each must be 0 or more".format(
                *ticks
            ),
            code="BAD_TICKS",
        )
    return (
        from_ns(c.open_time),
        c.bar_seq,
        from_ns(c.close_time),
        c.open,
        c.high,
        c.low,
        c.close,
        convert(instrument.volume_unit, c.volume)[0],
        *ticks,
        c.after_gap,
    )


def _said(candle: Candle, *names: str) -> list[float]:
    """What a bar of the kind must say."""
    values = {name: getattr(candle, name) for name in names}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise Rejected(
            f"{candle.interval}: found no {', '.join(missing)}, which a bar of this kind has",
            code="NOT_A_BAR",
        )
    _require_finite(**values)
    return list(values.values())


def _require_finite(**values: float) -> None:
    if not all(map(isfinite, values.values())):
        told = ", ".join(f"{name} {value}" for name, value in values.items())
        raise Rejected(f"found {told}: all must be finite", code="NOT_FINITE")


def _coins(candle: Candle, instrument: Instrument, **volumes: float) -> list[float]:
    """The volumes in coins."""
    unit = instrument.volume_unit
    coins = {name: convert(unit, volume)[0] for name, volume in volumes.items()}
    if None in coins.values():
        raise Rejected(
            f"{candle.venue} {candle.symbol}: {', '.join(volumes)} cannot be turned into coins, as "
            f"the venue counts in {unit.kind}s that are no number of coins: if they are, say so in "
            "routing.symbol_map (contract_size, contract_of); else make tick bars of this symbol",
            code="NOT_IN_COINS",
        )
    return [amount for amount in coins.values() if amount is not None]
