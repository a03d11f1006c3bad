"""When a bar of each kind ends, and what it has taught by then."""

from __future__ import annotations

import math

import msgspec

from ravenwh.features.bar import Growing
from ravenwh.features.profile import (
    Adaptive,
    Imbalance,
    Profile,
    TickImbalance,
    TickRun,
    VolumeImbalance,
    Vpin,
)

__all__ = ["Expected", "end_slice", "finish", "most_ticks_of", "theta_of", "threshold_of"]


class Expected(msgspec.Struct, kw_only=True):
    """What the bars so far have taught; nothing in the first bar of a chain."""

    bars: int = 0
    ticks: float = 0.0
    """E[T], trades a bar."""
    signed: float = 0.0
    """E[b] or E[b v] of a trade."""
    volume: float = 0.0
    """E[v] of a trade."""
    buys: float = 0.0
    """P[b=1]."""
    close: float | None = None
    """Of VPIN: the price at the end of the last slice."""
    variance: float | None = None
    """Of VPIN: the average of dP squared."""
    flows: list[tuple[float, float]] = msgspec.field(default_factory=list)
    """Of VPIN: abs(buy - sell) and volume of the last buckets, oldest first."""


def theta_of(profile: Profile, bar: Growing) -> float:
    """The sum that is held against the threshold."""
    match profile:
        case TickImbalance():
            return float(abs(2 * bar.buys - bar.ticks))
        case TickRun():
            return float(max(bar.buys, bar.ticks - bar.buys))
        case VolumeImbalance():
            return abs(bar.signed_volume)
        case _:
            return bar.volume


def threshold_of(profile: Profile, bar: Growing, expected: Expected) -> float:
    """What theta must reach for the bar, or a slice of the bucket, to end.

    Infinite in a warm-up bar, which ends by its trades.
    """
    if isinstance(profile, Vpin):
        return _end_of_slice(profile, bar)
    if expected.bars == 0:
        return math.inf
    match profile:
        case VolumeImbalance():
            least = profile.least_imbalance * expected.volume
            return expected.ticks * max(abs(expected.signed), least)
        case Imbalance():
            return expected.ticks * max(abs(expected.signed), profile.least_imbalance)
        case _:
            return expected.ticks * max(expected.buys, 1.0 - expected.buys)


def _end_of_slice(profile: Vpin, bar: Growing) -> float:
    """The first boundary between slices above the volume of those that ended."""
    whole, slices = profile.bucket_volume, profile.slices
    part = int(bar.sliced / whole * slices)  # rounded: it may be one off
    while whole * (part / slices) <= bar.sliced:
        part += 1
    while whole * ((part - 1) / slices) > bar.sliced:
        part -= 1
    return whole * (part / slices)


def most_ticks_of(profile: Profile, expected: Expected) -> float:
    """The trades at which a warm-up bar ends; infinite in any other."""
    if isinstance(profile, Adaptive) and expected.bars == 0:
        return profile.expected_ticks
    return math.inf


def end_slice(profile: Vpin, bar: Growing, expected: Expected) -> None:
    """Divide the volume of the slice that ended into bought and sold."""
    share = 0.5
    if expected.close is not None:
        change = bar.close - expected.close
        square = change * change
        weight = 2.0 / (profile.slices * profile.buckets + 1.0)
        old = expected.variance
        expected.variance = square if old is None else _averaged(old, square, weight)
        if expected.variance > 0.0:
            share = 0.5 * math.erfc(-change / math.sqrt(2.0 * expected.variance))
    expected.close = bar.close
    bar.bought += (bar.volume - bar.sliced) * share
    bar.sliced = bar.volume


def finish(profile: Profile, bar: Growing, expected: Expected) -> dict[str, float]:
    """Learn from a bar that ended; the values that only its kind has."""
    expected.bars += 1
    match profile:
        case Vpin():
            return _finish_bucket(profile, bar, expected)
        case VolumeImbalance():
            signed = theta = bar.signed_volume
        case TickRun():
            signed, theta = float(2 * bar.buys - bar.ticks), theta_of(profile, bar)
        case _:
            signed = theta = float(2 * bar.buys - bar.ticks)
    assert isinstance(profile, Adaptive)  # noqa: S101  all kinds but Vpin are
    _learn(profile, bar, signed, expected)
    return {"theta": theta}


def _learn(profile: Adaptive, bar: Growing, signed: float, expected: Expected) -> None:
    ticks = float(bar.ticks)
    weight = 1.0 if expected.bars == 1 else 2.0 / (profile.span + 1.0)
    size = _averaged(expected.ticks, ticks, weight)
    least, most = profile.least * profile.expected_ticks, profile.most * profile.expected_ticks
    expected.ticks = min(max(size, least), most)
    expected.signed = _averaged(expected.signed, signed / ticks, weight)
    expected.volume = _averaged(expected.volume, bar.volume / ticks, weight)
    expected.buys = _averaged(expected.buys, bar.buys / ticks, weight)


def _averaged(old: float, new: float, weight: float) -> float:
    return weight * new + (1.0 - weight) * old


def _finish_bucket(profile: Vpin, bar: Growing, expected: Expected) -> dict[str, float]:
    buy = min(bar.bought, bar.volume)  # rounded sums of parts may pass the whole
    sell = bar.volume - buy
    expected.flows.append((abs(buy - sell), bar.volume))
    del expected.flows[: -profile.buckets]
    flows, volumes = zip(*expected.flows, strict=True)
    return {"vpin": math.fsum(flows) / math.fsum(volumes), "buy_volume": buy, "sell_volume": sell}
