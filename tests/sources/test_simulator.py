"""The synthetic market: the same each time, and such as a market could be."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from ravenwh.domain.errors import Refused
from ravenwh.domain.messages import Candle, Trade
from ravenwh.domain.series import TimeRange, from_ns, to_ns
from ravenwh.sources.simulator import SimulatedKlines, SimulatedMarket, SimulatedTrades

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = TimeRange(start=START, end=START + timedelta(days=1))
BTC = SimulatedMarket(symbol="BTCUSDT")


def span(start: datetime, **length: int) -> TimeRange:
    return TimeRange(start=start, end=start + timedelta(**length))


def test_a_day_of_minutes_without_gaps() -> None:
    klines = list(BTC.klines("1m", DAY))
    assert [kline.open_time for kline in klines] == [
        to_ns(START + timedelta(minutes=minute)) for minute in range(1440)
    ]
    assert {kline.producer for kline in klines} == {"simulator"}
    for kline in klines:
        assert kline.close_time == kline.event_time == kline.open_time + 59_999_000_000
        assert kline.closed
        assert 0 < kline.low <= min(kline.open, kline.close)
        assert max(kline.open, kline.close) <= kline.high
        assert kline.quote_volume is not None
        assert kline.trade_count is not None
        assert kline.taker_buy_volume is not None
        assert 0 < kline.taker_buy_volume < kline.volume
        assert kline.low <= kline.quote_volume / kline.volume <= kline.high
        assert 4 <= kline.trade_count < 1000
    assert len({kline.close for kline in klines}) > 1000


def test_the_price_goes_on_from_minute_to_minute_and_from_day_to_day() -> None:
    klines = list(BTC.klines("1m", span(START, days=3)))
    assert all(one.close == next_.open for one, next_ in pairwise(klines))
    returns = [math.log(one.close / one.open) for one in klines]
    assert 0.0003 < math.sqrt(sum(r * r for r in returns) / len(returns)) < 0.0012


def test_any_part_of_the_range_has_the_same_klines() -> None:
    whole = list(BTC.klines("1m", span(START, days=2)))
    late = span(START + timedelta(hours=23, minutes=50), minutes=25)
    assert list(BTC.klines("1m", late)) == whole[1430:1455]


def test_the_same_on_every_machine() -> None:
    first = next(BTC.klines("1m", DAY))
    assert (first.open, first.high, first.low, first.close) == (
        50732.32,
        50765.88,
        50720.4,
        50751.32,
    )
    assert (first.volume, first.trade_count, first.taker_buy_volume) == (1.17488, 75, 0.62675)


@pytest.mark.parametrize(
    "other",
    [
        SimulatedMarket(symbol="ETHUSDT"),
        SimulatedMarket(symbol="BTCUSDC"),
        SimulatedMarket(symbol="BTCUSDT", seed=1),
    ],
)
def test_another_symbol_or_seed_is_another_market(other: SimulatedMarket) -> None:
    ours = {(kline.open, kline.volume) for kline in BTC.klines("1m", DAY)}
    assert not ours & {(kline.open, kline.volume) for kline in other.klines("1m", DAY)}


@pytest.mark.parametrize(("interval", "minutes"), [("5m", 5), ("1h", 60), ("1d", 1440)])
def test_a_longer_kline_is_folded_from_minutes(interval: str, minutes: int) -> None:
    base = list(BTC.klines("1m", DAY))
    klines = list(BTC.klines(interval, DAY))
    assert len(klines) == 1440 // minutes
    for at, kline in enumerate(klines):
        part = base[at * minutes : (at + 1) * minutes]
        assert (kline.open_time, kline.close_time) == (part[0].open_time, part[-1].close_time)
        assert (kline.open, kline.close) == (part[0].open, part[-1].close)
        assert kline.high == max(one.high for one in part)
        assert kline.low == min(one.low for one in part)
        assert kline.trade_count == sum(one.trade_count or 0 for one in part)
        assert kline.volume == pytest.approx(sum(one.volume for one in part))


def test_ranges_are_half_open_and_periods_start_inside() -> None:
    odd = TimeRange(start=START + timedelta(seconds=1), end=START + timedelta(minutes=10))
    opens = [from_ns(kline.open_time) for kline in BTC.klines("5m", odd)]
    assert opens == [START + timedelta(minutes=5)]
    assert not list(BTC.klines("1m", TimeRange(start=START, end=START)))


@pytest.mark.parametrize("interval", ["1s", "3d", "1w", "7m", ""])
def test_other_intervals_are_refused(interval: str) -> None:
    with pytest.raises(Refused, match="klines of 1m to 1d"):
        SimulatedKlines(market=BTC, interval=interval, span=DAY).check()


def test_the_check_counts_what_comes() -> None:
    track = SimulatedKlines(market=BTC, interval="15m", span=span(START, minutes=100))
    assert track.check() == len(list(track.messages(None))) == 7


def test_as_many_trades_are_counted_as_its_minutes_have() -> None:
    odd = TimeRange(start=START + timedelta(seconds=30), end=START + timedelta(minutes=3))
    track = SimulatedTrades(market=BTC, span=odd)
    minutes = list(BTC.klines("1m", span(START, minutes=3)))
    assert track.check() == sum(kline.trade_count or 0 for kline in minutes)
    late = [
        trade for trade in BTC.trades(span(START, minutes=3)) if trade.event_time >= odd.start_ns
    ]
    assert list(track.messages(None)) == late
    assert track.check() > len(late) > 0


def folded(trades: list[Trade], kline: Candle) -> tuple[float | int, ...]:
    mine = [trade for trade in trades if kline.open_time <= trade.event_time <= kline.close_time]
    prices = [trade.price for trade in mine]
    return prices[0], max(prices), min(prices), prices[-1], len(mine)


def test_trades_make_up_their_klines() -> None:
    hour = span(START + timedelta(hours=23, minutes=30), hours=1)  # over midnight
    trades = list(BTC.trades(hour))
    assert [trade.event_time for trade in trades] == sorted(trade.event_time for trade in trades)
    ids = [int(trade.trade_id or 0) for trade in trades]
    assert all(one < next_ for one, next_ in pairwise(ids))
    klines = list(BTC.klines("1m", hour))
    assert sum(kline.trade_count or 0 for kline in klines) == len(trades)
    for kline in klines:
        assert folded(trades, kline) == (
            kline.open,
            kline.high,
            kline.low,
            kline.close,
            kline.trade_count,
        )
    bought = math.fsum(trade.quantity for trade in trades if trade.side == "buy")
    assert math.fsum(trade.quantity for trade in trades) == pytest.approx(
        math.fsum(kline.volume for kline in klines), rel=1e-6
    )
    assert bought == pytest.approx(
        math.fsum(kline.taker_buy_volume or 0 for kline in klines), rel=1e-6
    )
    assert all(trade.quantity > 0 for trade in trades)


def test_a_part_of_a_minute_has_its_own_trades() -> None:
    minute = list(BTC.trades(span(START, minutes=1)))
    split = START + timedelta(seconds=20)
    first = list(BTC.trades(TimeRange(start=START, end=split)))
    rest = list(BTC.trades(TimeRange(start=split, end=START + timedelta(minutes=1))))
    assert first
    assert rest
    assert first + rest == minute
