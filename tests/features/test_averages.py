"""What the bars so far have taught, and VPIN, are the averages that pandas makes of them."""

from __future__ import annotations

from itertools import chain as joined
from random import Random
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravenwh.domain.messages import Trade
from ravenwh.features import Bar, Chain, Profile, TickImbalance, TickRun, VolumeImbalance, Vpin
from ravenwh.features.profile import Adaptive
from tests.features.plain import buckets_of
from tests.features.streams import random_trades

SEEDS = st.integers(0, 10**9)
NEAR = 1e-9


def taught(profile: Profile, trades: list[Trade]) -> tuple[list[Bar], dict[str, list[Any]]]:
    """The bars, and what is expected after each, as a saved chain has it."""
    chain, bars, expected = Chain(profile), [], list[dict[str, Any]]()
    for one in trades:
        bar = chain.push(one)
        if bar is not None:
            bars.append(bar)
            expected.append(msgspec.msgpack.decode(chain.save())["expected"])
    return bars, {name: [one[name] for one in expected] for name in expected[0]}


@pytest.mark.parametrize("kind", [TickImbalance, TickRun, VolumeImbalance])
@settings(max_examples=60)
@given(SEEDS, st.integers(1, 30), st.one_of(st.integers(1, 12), st.integers(1, 100_000)))
def test_what_is_expected_is_an_exponential_average_of_the_bars(
    kind: type[Adaptive], seed: int, expected_ticks: int, span: int
) -> None:
    """With bounds so wide that E[T] never meets them."""
    profile = kind(expected_ticks=expected_ticks, span=span, least=0.001, most=1000)
    bars, found = taught(profile, random_trades(Random(seed), 300))
    ticks = np.array([bar.total_ticks for bar in bars])
    buys = np.array([bar.buy_ticks for bar in bars])
    thetas = np.array([bar.theta for bar in bars])
    a_bar = {
        "ticks": ticks,
        "buys": buys / ticks,
        "volume": np.array([bar.volume for bar in bars]) / ticks,
        "signed": (2 * buys - ticks if kind is TickRun else thetas) / ticks,
    }
    averages = pd.DataFrame(a_bar).ewm(span=span, adjust=False).mean()
    for name in a_bar:
        np.testing.assert_allclose(found[name], averages[name], rtol=NEAR, atol=NEAR)


@settings(max_examples=60)
@given(SEEDS, st.sampled_from([0.5, 3, 10.7]), st.integers(1, 10), st.integers(1, 8))
def test_vpin_and_its_sigma_are_averages_of_the_buckets(
    seed: int, bucket_volume: float, slices: int, buckets: int
) -> None:
    profile = Vpin(bucket_volume=bucket_volume, slices=slices, buckets=buckets)
    trades = random_trades(Random(seed), 200)
    bars, found = taught(profile, trades)
    frame = pd.DataFrame([msgspec.structs.asdict(bar) for bar in bars])
    flows = (frame["buy_volume"] - frame["sell_volume"]).abs()
    last = [values.rolling(buckets, min_periods=1).sum() for values in (flows, frame["volume"])]
    np.testing.assert_allclose(frame["vpin"], last[0] / last[1], rtol=NEAR, atol=NEAR)
    cut = [part for part, _ in buckets_of(profile, trades)]
    closes = pd.Series([part[-1].price for part in joined.from_iterable(cut)])
    squares = closes.diff().dropna() ** 2
    variances = squares.ewm(span=slices * buckets, adjust=False).mean()
    ends = np.cumsum([len(parts) for parts in cut]) - 1
    told = [np.nan if value is None else value for value in found["variance"]]
    np.testing.assert_allclose(told, variances.reindex(ends), rtol=NEAR, atol=NEAR)
