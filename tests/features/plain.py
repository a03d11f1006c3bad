"""Bars made the slow way, from the formulas: whole lists, nothing carried on, no arrays.

Each trade that is looked at sums up the whole open bar, each bar that begins averages all that went
before. Trades are taken as they are: none may be invalid, repeated or late. Sums of floats are
made one by one, from the first to the last, as that is part of what must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from math import erfc, fsum, sqrt
from operator import add

from ravenwh.domain.messages import Trade
from ravenwh.features import Bar, Profile, TickImbalance, TickRun, VolumeImbalance, Vpin
from ravenwh.features.profile import Adaptive

Trades = Sequence[Trade]


def plain_bars(profile: Profile, trades: Trades) -> list[Bar]:
    """The bars, but for ``after_gap``."""
    if isinstance(profile, Vpin):
        return numbered([bar for _, bar in buckets_of(profile, trades)])
    assert isinstance(profile, TickImbalance | TickRun | VolumeImbalance)
    cut = list(cut_by_expectation(profile, trades))
    return numbered([bar_of(bar, theta=theta(profile, bar)) for bar in cut])


def numbered(bars: list[Bar]) -> list[Bar]:
    """With the number of each among those that open in the same microsecond."""
    opened = [bar.open_time // 1000 for bar in bars]
    return [
        Bar(**{**fields_of(bar), "bar_seq": opened[:at].count(opened[at])})
        for at, bar in enumerate(bars)
    ]


def fields_of(bar: Bar) -> dict[str, object]:
    return {name: getattr(bar, name) for name in bar.__struct_fields__}


def bar_of(trades: Trades, **values: float) -> Bar:
    prices = [trade.price for trade in trades]
    return Bar(
        open_time=trades[0].event_time,
        close_time=trades[-1].event_time,
        bar_seq=0,
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        volume=volume(trades),
        buy_ticks=len(bought(trades)),
        total_ticks=len(trades),
        after_gap=False,
        **values,
    )


def volume(trades: Trades) -> float:
    return reduce(add, (trade.quantity for trade in trades), 0.0)


def bought(trades: Trades) -> list[Trade]:
    return [trade for trade in trades if trade.side == "buy"]


def theta(profile: Adaptive, bar: Trades) -> float:
    buys = len(bought(bar))
    sells = len(bar) - buys
    match profile:
        case TickRun():
            return float(max(buys, sells))
        case VolumeImbalance():
            return reduce(add, (t.quantity if t.side == "buy" else -t.quantity for t in bar), 0.0)
        case _:
            return float(buys - sells)


def cut_by_expectation(profile: Adaptive, trades: Trades) -> Iterator[Trades]:
    start = profile.expected_ticks
    if len(trades) < start:
        return
    done = [trades[:start]]
    yield done[0]
    means = {kind: [kind(profile, done[0])] for kind in (mean_theta, mean_volume, share_bought)}
    expected = expected_theta(profile, done, *means.values())
    for at in range(start + 1, len(trades) + 1):
        bar = trades[start:at]
        if abs(theta(profile, bar)) >= expected:
            yield bar
            done.append(bar)
            for kind, values in means.items():
                values.append(kind(profile, bar))
            expected = expected_theta(profile, done, *means.values())
            start = at


def mean_theta(profile: Adaptive, bar: Trades) -> float:
    return theta(profile, bar) / len(bar)


def mean_volume(profile: Adaptive, bar: Trades) -> float:
    return volume(bar) / len(bar)


def share_bought(profile: Adaptive, bar: Trades) -> float:
    return len(bought(bar)) / len(bar)


def expected_theta(
    profile: Adaptive,
    done: list[Trades],
    thetas: list[float],
    volumes: list[float],
    shares: list[float],
) -> float:
    """E[theta] after these bars, whose means are given."""
    ticks, span = expected_ticks(profile, done), profile.span
    match profile:
        case TickRun():
            share = ewma(shares, span)
            return ticks * max(share, 1 - share)
        case VolumeImbalance():
            least = profile.least_imbalance * ewma(volumes, span)
            return ticks * max(abs(ewma(thetas, span)), least)
        case TickImbalance():
            return ticks * max(abs(ewma(thetas, span)), profile.least_imbalance)
    raise AssertionError(profile)


def expected_ticks(profile: Adaptive, done: list[Trades]) -> float:
    """E[T], held within its bounds at each bar."""
    lowest = profile.least * profile.expected_ticks
    highest = profile.most * profile.expected_ticks
    newest = 2 / (profile.span + 1)
    expected = min(max(float(len(done[0])), lowest), highest)
    for bar in done[1:]:
        expected = newest * len(bar) + (1 - newest) * expected
        expected = min(max(expected, lowest), highest)
    return expected


def ewma(values: list[float], span: int) -> float:
    newest = 2 / (span + 1)
    average = values[0]
    for value in values[1:]:
        average = newest * value + (1 - newest) * average
    return average


def buckets_of(profile: Vpin, trades: Trades) -> list[tuple[list[Trades], Bar]]:
    """Each bucket as its slices, and as a bar."""
    buckets: list[tuple[list[Trades], Bar]] = []
    changes: list[float] = []
    flows: list[tuple[float, float]] = []
    last_price: float | None = None
    for slices in cut_by_volume(profile, trades):
        whole = [trade for part in slices for trade in part]
        buy = before = 0.0
        for number, part in enumerate(slices):
            upto = volume([trade for each in slices[: number + 1] for trade in each])
            if last_price is None:
                share = 0.5
            else:
                changes.append(part[-1].price - last_price)
                share = normal(changes, profile.slices * profile.buckets)
            buy += (upto - before) * share
            before, last_price = upto, part[-1].price
        total = volume(whole)
        buy = min(buy, total)
        sell = total - buy
        flows.append((abs(buy - sell), total))
        counted = flows[-profile.buckets :]
        vpin = fsum(flow for flow, _ in counted) / fsum(size for _, size in counted)
        buckets.append((slices, bar_of(whole, vpin=vpin, buy_volume=buy, sell_volume=sell)))
    return buckets


def normal(changes: list[float], span: int) -> float:
    """Phi of the last change over the root of the average of all squared."""
    variance = ewma([change * change for change in changes], span)
    return 0.5 * erfc(-changes[-1] / sqrt(2 * variance)) if variance > 0 else 0.5


def cut_by_volume(profile: Vpin, trades: Trades) -> Iterator[list[Trades]]:
    boundaries = [
        profile.bucket_volume * (part / profile.slices) for part in range(1, profile.slices + 1)
    ]
    slices: list[Trades] = []
    bucket = start = 0
    for at in range(1, len(trades) + 1):
        before, now = volume(trades[bucket:start]), volume(trades[bucket:at])
        if any(before < boundary <= now for boundary in boundaries):
            slices.append(trades[start:at])
            start = at
        if now >= profile.bucket_volume:
            yield slices
            slices, bucket = [], at
