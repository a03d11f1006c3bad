"""A synthetic market, for demonstrations and tests. Nothing in it was ever traded.

Every minute of a symbol is a function of (seed, symbol, minute) alone: whatever range is asked, in
whatever pieces, the same minute has the same kline and the same trades, so a part that was lost can
be asked for again. Within a day the price is a geometric random walk, bent so that it ends where
the next day begins; from day to day it moves around a base price. Only ``random()`` of seeded
generators is used, the one sequence that Python promises to keep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

import attrs

from ravenwh.domain.errors import Refused
from ravenwh.domain.interval import INTERVALS
from ravenwh.domain.messages import Candle, Side, Trade
from ravenwh.domain.series import TimeRange

__all__ = ["SimulatedKlines", "SimulatedMarket", "SimulatedTrades"]

PRODUCER = "simulator"

_MINUTES = 1440
_MINUTE_NS = 60 * 10**9
_MS_NS = 10**6
_BASE_PRICES = {"BTCUSDT": 42_000.0, "ETHUSDT": 2_300.0}
_DAILY_SIGMA = 0.02
_MINUTE_SIGMA = 0.0006


class _Minute(NamedTuple):
    """Prices on the tick; volumes in coins."""

    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trade_count: int
    taker_buy_volume: float
    taker_buy_quote_volume: float


@attrs.frozen(kw_only=True)
class SimulatedMarket:
    """The invented trading of one symbol; some 30,000 of the quoting asset change hands a minute.

    Klines are closed and look like Vision's: ``close_time`` is the last millisecond of the period,
    ``event_time`` the same.
    """

    symbol: str
    venue: str = "BINANCE_SPOT"
    seed: int = 0

    def klines(self, interval: str, span: TimeRange) -> Iterator[Candle]:
        """The klines that open in the range, in order; ``1m`` to ``1d``.

        Longer ones are folded from those of a minute. Raises Refused for another interval.
        """
        at_minutes = self.open_minutes(interval, span)
        minutes = at_minutes.step
        day: tuple[int, list[_Minute]] | None = None
        for at in at_minutes:
            if day is None or day[0] != at // _MINUTES:
                day = at // _MINUTES, self._day(at // _MINUTES)
            of_day = at % _MINUTES
            yield self._candle(interval, at, minutes, _fold(day[1][of_day : of_day + minutes]))

    def open_minutes(self, interval: str, span: TimeRange) -> range:
        """The open times of those klines, in minutes since 1970. Raises Refused as they do."""
        known = INTERVALS.get(interval)
        minutes = known.duration_ns // _MINUTE_NS if known else 0
        if minutes == 0 or _MINUTES % minutes:
            raise Refused(f"the simulator has klines of 1m to 1d, not of {interval!r}")
        period_ns = minutes * _MINUTE_NS
        first, last = -(-span.start_ns // period_ns), -(-span.end_ns // period_ns)
        return range(first * minutes, last * minutes, minutes)

    def trades(self, span: TimeRange) -> Iterator[Trade]:
        """The trades in the range, in order of time and id.

        Those of a minute make up its kline: open, high, low, close and count exactly, volume and
        taker_buy_volume to rounding.
        """
        start_ns, end_ns = span.start_ns, span.end_ns
        for at, minute in self._touched(span):
            for trade in self._minute_trades(at, minute):
                if start_ns <= trade.event_time < end_ns:
                    yield trade

    def most_trades(self, span: TimeRange) -> int:
        """How many trades the minutes have that the range touches."""
        return sum(minute.trade_count for _, minute in self._touched(span))

    def _touched(self, span: TimeRange) -> Iterator[tuple[int, _Minute]]:
        """The minutes that the range holds, or holds a part of, counted from 1970."""
        day: tuple[int, list[_Minute]] | None = None
        for at in range(span.start_ns // _MINUTE_NS, -(-span.end_ns // _MINUTE_NS)):
            if day is None or day[0] != at // _MINUTES:
                day = at // _MINUTES, self._day(at // _MINUTES)
            yield at, day[1][at % _MINUTES]

    def _candle(self, interval: str, at: int, minutes: int, one: _Minute) -> Candle:
        close_time = (at + minutes) * _MINUTE_NS - _MS_NS
        return Candle(
            venue=self.venue,
            symbol=self.symbol,
            event_time=close_time,
            producer=PRODUCER,
            interval=interval,
            open_time=at * _MINUTE_NS,
            close_time=close_time,
            **one._asdict(),
        )

    def _random(self, *what: object) -> Random:
        return Random(":".join(str(part) for part in (self.seed, self.symbol, *what)))  # noqa: S311  an invented market

    def _base(self) -> tuple[float, int]:
        """The price around which all moves, and the digits of its tick."""
        price = _BASE_PRICES.get(self.symbol) or 10 ** (self._random("base").random() * 4 - 2)
        return price, 6 - math.floor(math.log10(price))

    def _anchor(self, base: float, day: int) -> float:
        """The logarithm of the price at which a day begins: slow waves and one random step."""
        phase = self._random("phase").random() * 2 * math.pi
        waves = 0.25 * math.sin(day / 58 + phase) + 0.1 * math.sin(day / 7 + 2 * phase)
        return math.log(base) + waves + _DAILY_SIGMA * _normal(self._random("anchor", day).random)

    def _day(self, day: int) -> list[_Minute]:
        """The 1440 minutes of one UTC day, counted from 1970."""
        base, digits = self._base()
        begin, finish = self._anchor(base, day), self._anchor(base, day + 1)
        random = self._random("day", day).random
        walk = [0.0]
        for _ in range(_MINUTES):
            walk.append(walk[-1] + _MINUTE_SIGMA * _normal(random))
        bend = (finish - begin - walk[-1]) / _MINUTES
        prices = [round(math.exp(begin + step + at * bend), digits) for at, step in enumerate(walk)]
        minutes = []
        for at in range(_MINUTES):
            open_, close = prices[at], prices[at + 1]
            spread = _MINUTE_SIGMA / 2
            high = round(max(open_, close) * (1 + spread * random()), digits)
            low = round(min(open_, close) * (1 - spread * random()), digits)
            busy = 1 + 0.5 * math.sin(2 * math.pi * at / _MINUTES)  # quiet and busy hours
            activity = busy * (0.2 + 1.6 * random() * random() + 4 * random() ** 8)
            mean = (open_ + high + low + close) / 4
            volume = round(50_000 / mean * activity, 5)
            taker = round(volume * (0.3 + 0.4 * random()), 5)
            minutes.append(
                _Minute(
                    open=open_,
                    high=high,
                    low=low,
                    close=close,
                    volume=volume,
                    quote_volume=round(volume * mean, 8),
                    trade_count=4 + int(60 * activity),
                    taker_buy_volume=taker,
                    taker_buy_quote_volume=round(taker * mean, 8),
                )
            )
        return minutes

    def _minute_trades(self, at: int, one: _Minute) -> list[Trade]:
        """The trades of one minute: first at the open, last at the close, touching high and low."""
        random = self._random("trades", at).random
        digits = self._base()[1]
        count = one.trade_count
        prices = [
            round(one.low + (one.high - one.low) * random(), digits) for _ in range(count - 4)
        ]
        for extreme in (one.high, one.low):
            prices.insert(int(random() * (len(prices) + 1)), extreme)
        prices = [one.open, *prices, one.close]
        buys = min(count - 1, max(1, round(count * one.taker_buy_volume / one.volume)))
        sides: list[Side] = ["buy" if n < buys else "sell" for n in range(count)]
        for position in range(count - 1, 0, -1):
            other = int(random() * (position + 1))
            sides[position], sides[other] = sides[other], sides[position]
        weights = [0.1 + random() for _ in range(count)]
        volume: dict[Side, float] = {
            "buy": one.taker_buy_volume,
            "sell": one.volume - one.taker_buy_volume,
        }
        total = dict.fromkeys(volume, 0.0)
        for side, weight in zip(sides, weights, strict=True):
            total[side] += weight
        times = sorted(int(random() * 60_000) for _ in range(count))
        return [
            Trade(
                venue=self.venue,
                symbol=self.symbol,
                event_time=at * _MINUTE_NS + times[n] * _MS_NS,
                producer=PRODUCER,
                price=prices[n],
                quantity=round(volume[sides[n]] * weights[n] / total[sides[n]], 10),
                side=sides[n],
                trade_id=str(at * 1000 + n),  # a minute never has a thousand
            )
            for n in range(count)
        ]


@attrs.frozen(kw_only=True)
class _Simulated:
    """A range of a market, to be sent as a file would be."""

    market: SimulatedMarket
    span: TimeRange
    origin: str = "the simulator"

    @property
    def symbol(self) -> str:
        """The market's."""
        return self.market.symbol

    @property
    def venue(self) -> str:
        """The market's."""
        return self.market.venue


@attrs.frozen(kw_only=True)
class SimulatedKlines(_Simulated):
    """Its klines."""

    interval: str
    noun: str = "synthetic klines"

    @property
    def subjects(self) -> tuple[tuple[str, str, str]]:
        """One."""
        return ((self.venue, "CANDLE", self.symbol),)

    def check(self) -> int:
        """How many klines there are. Raises Refused for an interval that cannot be simulated."""
        return len(self.market.open_minutes(self.interval, self.span))

    def messages(self, on_bad: object) -> Iterator[Candle]:
        """The klines; none is ever bad."""
        return self.market.klines(self.interval, self.span)


@attrs.frozen(kw_only=True)
class SimulatedTrades(_Simulated):
    """Its trades."""

    interval: None = None
    noun: str = "synthetic trades"

    @property
    def subjects(self) -> tuple[tuple[str, str, str]]:
        """One."""
        return ((self.venue, "TRADE", self.symbol),)

    def check(self) -> int:
        """At most how many trades there are."""
        return self.market.most_trades(self.span)

    def messages(self, on_bad: object) -> Iterator[Trade]:
        """The trades; none is ever bad."""
        return self.market.trades(self.span)


def _fold(minutes: list[_Minute]) -> _Minute:
    """One kline of several that follow each other."""
    if len(minutes) == 1:
        return minutes[0]
    return _Minute(
        open=minutes[0].open,
        high=max(one.high for one in minutes),
        low=min(one.low for one in minutes),
        close=minutes[-1].close,
        volume=math.fsum(one.volume for one in minutes),
        quote_volume=math.fsum(one.quote_volume for one in minutes),
        trade_count=sum(one.trade_count for one in minutes),
        taker_buy_volume=math.fsum(one.taker_buy_volume for one in minutes),
        taker_buy_quote_volume=math.fsum(one.taker_buy_quote_volume for one in minutes),
    )


def _normal(random: Callable[[], float]) -> float:
    """Nearly a standard normal number, by additions alone: the same on every machine."""
    return (random() + random() + random() + random() - 2) * 1.7320508075688772
