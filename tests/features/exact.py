"""Whether bars are those of the formulas, in numbers of 50 digits.

What is checked is the cut itself: at its last trade a bar has reached what was expected of it, and
at none before. Within a billionth, which is where a float may decide either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, localcontext
from itertools import accumulate
from statistics import NormalDist

from ravenwh.domain.messages import Trade
from ravenwh.features import Bar, TickRun, VolumeImbalance, Vpin
from ravenwh.features.profile import Adaptive, Imbalance

NEAR = Decimal("1e-9")


def parts(bars: Iterable[Bar], trades: Sequence[Trade]) -> list[Sequence[Trade]]:
    """The trades of each bar, by their number: every trade once, in order."""
    found, at = [], 0
    for bar in bars:
        found.append(trades[at : at + bar.total_ticks])
        at += bar.total_ticks
    return found


def exact(value: float) -> Decimal:
    """What is meant by a number that was written in decimals."""
    return Decimal(repr(value))


def check(profile: Adaptive, bars: Sequence[Bar], trades: Sequence[Trade]) -> None:
    """Of imbalance and run bars. Raises AssertionError."""
    with localcontext(prec=50):
        newest = 2 / Decimal(profile.span + 1)
        first = Decimal(profile.expected_ticks)
        lowest, highest = exact(profile.least) * first, exact(profile.most) * first
        ticks, expects = first, dict.fromkeys(("signed", "volume", "buys"), Decimal(0))
        for number, (bar, part) in enumerate(zip(bars, parts(bars, trades), strict=True)):
            volumes = [exact(one.quantity) for one in part]
            sides = [one.side == "buy" for one in part]
            sizes = volumes if isinstance(profile, VolumeImbalance) else [Decimal(1)] * len(part)
            pairs = list(zip(sizes, sides, strict=True))
            signed = list(accumulate(size if buy else -size for size, buy in pairs))
            buys = list(accumulate(map(int, sides)))
            runs = [max(one, at - one) for at, one in enumerate(buys, 1)]
            thetas = runs if isinstance(profile, TickRun) else [abs(one) for one in signed]
            told = thetas[-1] if isinstance(profile, TickRun) else signed[-1]
            near(bar.theta, Decimal(told))
            near(bar.volume, sum(volumes, Decimal(0)))
            assert (bar.buy_ticks, bar.sell_ticks) == (buys[-1], len(part) - buys[-1])
            if number == 0:
                assert len(part) == profile.expected_ticks
            else:
                threshold = ticks * expected_of_a_trade(profile, expects)
                assert thetas[-1] >= threshold * (1 - NEAR)
                assert all(theta < threshold * (1 + NEAR) for theta in thetas[:-1])
            count = Decimal(len(part))
            means = (signed[-1] / count, sum(volumes, Decimal(0)) / count, buys[-1] / count)
            weight = newest if number else Decimal(1)
            ticks = min(max(weight * count + (1 - weight) * ticks, lowest), highest)
            for name, mean in zip(expects, means, strict=True):
                expects[name] = weight * mean + (1 - weight) * expects[name]


def expected_of_a_trade(profile: Adaptive, expects: dict[str, Decimal]) -> Decimal:
    if isinstance(profile, TickRun):
        return max(expects["buys"], 1 - expects["buys"])
    assert isinstance(profile, Imbalance)
    floor = expects["volume"] if isinstance(profile, VolumeImbalance) else Decimal(1)
    return max(abs(expects["signed"]), exact(profile.least_imbalance) * floor)


def check_vpin(
    profile: Vpin,
    bars: Sequence[Bar],
    trades: Sequence[Trade],
    slices_of: Callable[[Sequence[Trade]], Sequence[Sequence[Trade]]],
) -> None:
    """Of buckets; ``slices_of`` says how each was cut. Raises AssertionError."""
    with localcontext(prec=50):
        full, last, variance = exact(profile.bucket_volume), None, None
        flows: list[tuple[Decimal, Decimal]] = []
        newest = 2 / Decimal(profile.slices * profile.buckets + 1)
        for bar, part in zip(bars, parts(bars, trades), strict=True):
            volumes = [exact(one.quantity) for one in part]
            whole = sum(volumes, Decimal(0))
            assert whole >= full * (1 - NEAR)
            assert whole - volumes[-1] < full * (1 + NEAR)
            buy = Decimal(0)
            for piece in slices_of(part):
                share, price = 0.5, exact(piece[-1].price)
                if last is not None:
                    square = (price - last) ** 2
                    old = variance
                    variance = square if old is None else newest * square + (1 - newest) * old
                    if variance:
                        share = NormalDist().cdf(float((price - last) / variance.sqrt()))
                last = price
                buy += sum((exact(one.quantity) for one in piece), Decimal(0)) * Decimal(share)
            flows.append((abs(2 * buy - whole), whole))
            counted = flows[-profile.buckets :]
            near(bar.buy_volume, buy)
            near(bar.sell_volume, whole - buy)
            near(bar.vpin, sum(flow for flow, _ in counted) / sum(size for _, size in counted))


def near(value: float | None, true: Decimal) -> None:
    assert value is not None
    assert abs(Decimal(value) - true) <= NEAR * max(abs(true), 1), (value, true)
