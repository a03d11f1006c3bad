"""What is stored against what was sent: klines as they were, hours and bars as they must be."""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.messages import Candle, Trade
from ravenwh.domain.ohlc import PRICES
from ravenwh.domain.register import Register
from ravenwh.domain.series import Series, to_ns
from ravenwh.features import Bar, Profile, bars_of
from ravenwh.schema import VIEWS
from ravenwh.warehouse.bars import BAR_FACTS
from ravenwh.warehouse.read import Warehouse

__all__ = [
    "Agreement",
    "Row",
    "Rows",
    "Sent",
    "bars_agree",
    "hours_agree",
    "hours_in",
    "klines_agree",
]

HOURS = VIEWS["kline_1h"].table
HOUR_NS = 3600 * 10**9

SUMS = ("volume", "quote_volume", "trade_count", "taker_buy_volume", "taker_buy_quote_volume")
TICKS = ("buy_ticks", "sell_ticks", "total_ticks", "after_gap")
MEASURES = {"vpin": ("vpin", "buy_volume", "sell_volume")}

Row = Mapping[str, Any]
Rows = Mapping[tuple[object, ...], Row]
"""Values by column, by key."""

Names = tuple[str, str, str]
"""Coin, quote, exchange."""


@attrs.frozen(kw_only=True)
class Agreement:
    """How what is stored compares with ``what`` must be there.

    ``different`` are stored rows that must not be there, or not with their values.
    """

    what: str
    expected: int
    stored: int
    different: int

    @property
    def holds(self) -> bool:
        """Whether every row is stored, with its values, and no other."""
        return self.expected == self.stored and self.different == 0

    def __str__(self) -> str:
        verdict = "they agree" if self.holds else "THEY DO NOT AGREE"
        return (
            f"{self.what}, stored {self.stored:,}, {self.different:,} with another value: {verdict}"
        )


@attrs.define
class Sent:
    """What is sent: klines by series and open_time, trades in their order."""

    klines: dict[Series, dict[int, Candle]] = attrs.field(factory=lambda: defaultdict(dict))
    trades: dict[Names, list[Trade]] = attrs.field(factory=lambda: defaultdict(list))

    def note(self, register: Register, messages: Iterable[Candle | Trade]) -> None:
        """These too."""
        for message in messages:
            at = message.open_time if isinstance(message, Candle) else message.event_time
            one = register.series_instrument(message.venue, message.symbol, at)
            if isinstance(message, Trade):
                self.trades[one.coin, one.quote, one.exchange].append(message)
                continue
            series = Series(
                coin=one.coin, quote=one.quote, exchange=one.exchange, interval=message.interval
            )
            self.klines[series][message.open_time] = message


def klines_agree(warehouse: Warehouse, sent: Sent) -> Agreement:
    """Every value of every kline."""
    expected: dict[tuple[object, ...], Row] = {}
    stored: dict[tuple[object, ...], Row] = {}
    for series, klines in sent.klines.items():
        for at, kline in klines.items():
            expected[series, at] = {n: getattr(kline, n) for n in (*PRICES, *SUMS)}
        for row in warehouse.klines(*attrs.astuple(series), raw=True).arrow().to_pylist():
            stored[series, to_ns(row["open_time"])] = row
    return _compared(f"sent {len(expected):,} klines", expected, stored)


async def hours_in(engine: AsyncEngine) -> Rows:
    """The rows of the view ``kline_1h``, which is a rollup of klines of a minute."""
    names = HOURS.c.coin, HOURS.c.quote, HOURS.c.exchange
    async with engine.connect() as connection:
        found = await connection.execute(sa.select(HOURS).order_by(*names, HOURS.c.open_time))
        rows = [row._asdict() for row in found]
    return {
        (row["coin"], row["quote"], row["exchange"], to_ns(row["open_time"])): row for row in rows
    }


def hours_agree(stored: Rows, sent: Sent) -> Agreement:
    """The hours that the klines of a minute add up to; sums to rounding, in whatever order."""
    expected: dict[tuple[object, ...], Row] = {}
    for series, klines in sent.klines.items():
        if series.interval == "1m":
            for at, of_hour in groupby(sorted(klines), lambda opened: opened // HOUR_NS * HOUR_NS):
                minutes = [klines[opened] for opened in of_hour]
                expected[series.coin, series.quote, series.exchange, at] = _folded(minutes)
    return _compared(f"they make {len(expected):,} klines of an hour", expected, stored, _nearly)


def _folded(minutes: list[Candle]) -> Row:
    sums = {name: [getattr(minute, name) for minute in minutes] for name in SUMS}
    return {
        "open": minutes[0].open,
        "high": max(minute.high for minute in minutes),
        "low": min(minute.low for minute in minutes),
        "close": minutes[-1].close,
        **{name: None if None in values else sum(values) for name, values in sums.items()},
        "base_rows": len(minutes),
    }


def _nearly(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other)
    return bool(one == other)


def bars_agree(warehouse: Warehouse, sent: Sent, profiles: Mapping[str, Profile]) -> Agreement:
    """Every value of every bar, against those that are made of all trades at once."""
    expected: dict[tuple[object, ...], Row] = {}
    stored: dict[tuple[object, ...], Row] = {}
    for market, trades in sent.trades.items():
        for name, profile in profiles.items():
            columns = "volume", *PRICES, *TICKS, *MEASURES.get(profile.PREFIX, ("theta",))
            for bar in bars_of(profile, trades):
                expected[market, name, bar.open_time, bar.bar_seq] = _row_of(bar, columns)
            frames = warehouse.bars(BAR_FACTS[profile.PREFIX].name, *market, name, raw=True)
            for row in frames.arrow().to_pylist():
                row["close_time"] = to_ns(row["close_time"])
                stored[market, name, to_ns(row["open_time"]), row["bar_seq"]] = row
    count = sum(map(len, sent.trades.values()))
    return _compared(f"{count:,} trades make {len(expected):,} bars", expected, stored)


def _row_of(bar: Bar, columns: Iterable[str]) -> Row:
    return {"close_time": bar.close_time, **{name: getattr(bar, name) for name in columns}}


def _compared(
    what: str, expected: Rows, stored: Rows, same: Callable[[Any, Any], bool] = operator.eq
) -> Agreement:
    def is_as_expected(key: tuple[object, ...], row: Row) -> bool:
        wanted = expected.get(key)
        return wanted is not None and all(same(row[name], wanted[name]) for name in wanted)

    different = sum(not is_as_expected(key, row) for key, row in stored.items())
    return Agreement(what=what, expected=len(expected), stored=len(stored), different=different)
