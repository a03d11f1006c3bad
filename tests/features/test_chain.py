"""Trades one by one, in arrays, in any pieces, saved and restored anywhere: the same bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import reduce
from itertools import cycle, pairwise, repeat
from operator import add
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravenwh.domain.errors import Refused
from ravenwh.domain.messages import Trade
from ravenwh.features import (
    Bar,
    Chain,
    Profile,
    TickImbalance,
    TickRun,
    VolumeImbalance,
    Vpin,
)
from ravenwh.features.profile import Adaptive
from tests.features.exact import check, check_vpin, parts
from tests.features.plain import buckets_of, plain_bars
from tests.features.streams import (
    START,
    extended,
    pieces,
    pushed,
    random_profile,
    random_trades,
    recorded,
    trade,
)

PROFILES: list[Profile] = [
    TickImbalance(expected_ticks=100),
    TickRun(expected_ticks=60),
    VolumeImbalance(expected_ticks=20, span=5, least=0.5, most=2),
    Vpin(bucket_volume=3.5),
]
STREAMS = ("spot 2021", "spot 2024", "um 2024")
RANDOM_SERIES = 1_000

Take = Callable[[Chain, list[Trade]], list[Bar]]


@pytest.fixture(scope="module")
def streams(shared_data: Path) -> dict[str, list[Trade]]:
    found = recorded(shared_data)
    assert {name: len(trades) for name, trades in found.items()} == {
        "spot 2021": 2_001,
        "spot 2024": 19_904,
        "um 2024": 21_313,
    }
    return found


@pytest.fixture(params=STREAMS)
def real(request: pytest.FixtureRequest, streams: dict[str, list[Trade]]) -> list[Trade]:
    return streams[request.param]


each_profile = pytest.mark.parametrize("profile", PROFILES, ids=lambda one: one.PREFIX)


def sizes_of(text: str) -> Iterator[int]:
    random = Random(text)
    match text:
        case "by ones, then all":
            return iter([*repeat(1, 500), 10**9])
        case "short and long":
            return cycle([1, 2, 3, 0, 63, 64, 65, 1000, 7])
        case "whole":
            return repeat(10**9)
    return iter(lambda: int(random.paretovariate(0.5)), -1)


@each_profile
@pytest.mark.parametrize("how", ["whole", "by ones, then all", "short and long", "by chance"])
def test_arrays_give_the_bars_of_single_trades(
    real: list[Trade], profile: Profile, how: str
) -> None:
    one_by_one, in_arrays = Chain(profile), Chain(profile)
    bars = pushed(one_by_one, real)
    again = [bar for one in pieces(real, sizes_of(how)) for bar in extended(in_arrays, one)]
    assert len(bars) > 15
    assert again == bars
    assert in_arrays.save() == one_by_one.save()


@each_profile
def test_messages_give_the_bars_of_single_trades(real: list[Trade], profile: Profile) -> None:
    one_by_one, at_once = Chain(profile), Chain(profile)
    assert one_by_one.opened_at is None
    bars = pushed(one_by_one, real)
    assert [b for one in pieces(real, sizes_of("by chance")) for b in at_once.take(one)] == bars
    assert at_once.save() == one_by_one.save()
    assert at_once.latest == max(one.event_time for one in real)
    in_bars = sum(bar.total_ticks for bar in bars)
    opened = real[in_bars].event_time if in_bars < len(real) else None
    assert at_once.opened_at == one_by_one.opened_at == opened


@each_profile
@pytest.mark.parametrize("take", [pushed, extended])
def test_a_chain_goes_on_from_every_100th_trade(
    real: list[Trade], profile: Profile, take: Take
) -> None:
    chain = Chain(profile)
    bars = []
    for one in pieces(real, repeat(100)):
        chain = Chain.restored(profile, chain.save())
        bars += take(chain, list(one))
    straight = Chain(profile)
    assert bars == pushed(straight, real)
    assert chain.save() == straight.save()


@each_profile
def test_both_ways_mixed_and_restored_anywhere(real: list[Trade], profile: Profile) -> None:
    random = Random(5)
    chain, bars = Chain(profile), []
    for one in pieces(real, sizes_of("mixed")):
        if random.random() < 0.3:
            chain = Chain.restored(profile, chain.save())
        bars += random.choice([pushed, extended])(chain, one)
    assert bars == extended(Chain(profile), real)


@each_profile
def test_recorded_trades_give_the_bars_of_the_formulas(real: list[Trade], profile: Profile) -> None:
    bars = extended(Chain(profile), real)
    assert bars == plain_bars(profile, real)
    check_exactly(profile, bars, real)


@pytest.mark.parametrize("hundred", range(RANDOM_SERIES // 100))
def test_random_trades_give_the_bars_of_the_formulas(hundred: int) -> None:
    total = 0
    for seed in range(100 * hundred, 100 * (hundred + 1)):
        random = Random(seed)
        trades, profile = random_trades(random, random.randrange(240)), random_profile(random)
        chain = Chain(profile)
        bars = pushed(chain, trades)
        assert bars == plain_bars(profile, trades), f"seed {seed}: {profile}"
        assert extended(Chain(profile), trades) == bars, f"seed {seed}: {profile}"
        check_exactly(profile, bars, trades)
        check_conserved(chain, bars, trades)
        total += len(bars)
    assert total > 1_000


def check_exactly(profile: Profile, bars: list[Bar], trades: list[Trade]) -> None:
    if isinstance(profile, Vpin):
        slices = iter([slices for slices, _ in buckets_of(profile, trades)])
        check_vpin(profile, bars, trades, lambda _: next(slices))
    else:
        assert isinstance(profile, Adaptive)
        check(profile, bars, trades)


@each_profile
def test_every_trade_is_in_one_bar(real: list[Trade], profile: Profile) -> None:
    chain = Chain(profile)
    check_conserved(chain, extended(chain, real), real)


def check_conserved(chain: Chain, bars: list[Bar], trades: list[Trade]) -> None:
    """Counts exactly, volume as the sum of the trades; exactly, where floats add exactly."""
    assert sum(bar.total_ticks for bar in bars) + chain.ticks == len(trades)
    assert chain.counts == {"passed": len(trades), "invalid": 0, "duplicate": 0, "late": 0}
    found = parts(bars, trades)
    for bar, part in zip(bars, found, strict=True):
        prices = [one.price for one in part]
        assert (bar.open, bar.high, bar.low) == (prices[0], max(prices), min(prices))
        assert (bar.close, bar.volume) == (prices[-1], reduce(add, [one.quantity for one in part]))
        assert (bar.open_time, bar.close_time) == (part[0].event_time, part[-1].event_time)
        assert bar.buy_ticks == sum(one.side == "buy" for one in part)
        assert bar.buy_ticks + bar.sell_ticks == bar.total_ticks == len(part)
    in_bars = [one.quantity for part in found for one in part]
    if all(quantity * 1024 == int(quantity * 1024) for quantity in in_bars):
        assert sum(Fraction(bar.volume) for bar in bars) == sum(map(Fraction, in_bars))
    for bar in bars:
        if bar.vpin is not None:
            assert bar.buy_volume is not None
            assert bar.sell_volume is not None
            assert 0 <= bar.vpin <= 1
            assert 0 <= bar.buy_volume <= bar.volume
            assert bar.sell_volume == bar.volume - bar.buy_volume


def test_some_random_series_have_quantities_that_add_exactly() -> None:
    dyadic = [
        bool(trades) and all(one.quantity * 1024 == int(one.quantity * 1024) for one in trades)
        for trades in (random_trades(Random(seed), 50) for seed in range(100))
    ]
    assert 30 < sum(dyadic) < 70


@each_profile
def test_bars_are_told_apart(real: list[Trade], profile: Profile) -> None:
    bars = extended(Chain(profile), real)
    assert len({(bar.open_time // 1000, bar.bar_seq) for bar in bars}) == len(bars)
    for before, after in pairwise(bars):
        assert after.open_time >= before.open_time
        same = after.open_time == before.open_time
        assert after.bar_seq == (before.bar_seq + 1 if same else 0)


@pytest.mark.parametrize("take", [pushed, extended])
def test_two_run_bars_that_open_in_one_millisecond(take: Take) -> None:
    profile = TickRun(expected_ticks=2)
    trades = [trade(0, side=side) for side in ("buy", "buy", "sell", "sell")]
    bars = take(Chain(profile), [*trades, trade(1), trade(1)])
    assert [(bar.open_time - START, bar.bar_seq) for bar in bars] == [
        (0, 0),
        (0, 1),
        (1_000_000, 0),
    ]


@pytest.mark.parametrize("take", [pushed, extended])
def test_bars_are_numbered_within_what_a_table_tells_apart(take: Take) -> None:
    """Its times are microseconds; some venues count nanoseconds."""
    trades = [msgspec.structs.replace(trade(0), event_time=START + ns) for ns in (1, 999, 1000)]
    bars = take(Chain(TickRun(expected_ticks=1)), trades)
    assert [(bar.open_time - START, bar.bar_seq) for bar in bars] == [(1, 0), (999, 1), (1000, 0)]


@pytest.mark.parametrize("take", [pushed, extended])
def test_a_gap_marks_the_bar_that_is_open_or_the_next(take: Take) -> None:
    profile = TickRun(expected_ticks=4)
    chain = Chain(profile)
    seen = take(chain, [trade(at) for at in range(3)])
    chain.note_gap()  # within the first bar
    chain = Chain.restored(profile, chain.save())
    seen += take(chain, [trade(at) for at in range(3, 8)])
    assert [bar.after_gap for bar in seen] == [True, False]
    assert chain.ticks == 0
    chain.note_gap()  # between two bars
    chain = Chain.restored(profile, chain.save())
    seen += take(chain, [trade(at) for at in range(8, 20)])
    assert [bar.after_gap for bar in seen] == [True, False, True, False, False]


def test_the_first_bar_is_the_warm_up() -> None:
    for profile in (TickImbalance(), TickRun(), VolumeImbalance()):
        chain = Chain(profile)
        alternating = [trade(at, side="sell" if at % 2 else "buy") for at in range(1_000)]
        assert pushed(chain, alternating[:-1]) == []
        assert chain.expected_ticks is None
        (bar,) = pushed(chain, alternating[-1:])
        assert bar.total_ticks == profile.expected_ticks == chain.expected_ticks == 1_000


@pytest.mark.parametrize("kind", [TickImbalance, TickRun, VolumeImbalance])
@pytest.mark.parametrize("against", ["all buys", "alternating", "to make it grow", "by chance"])
def test_the_expected_size_stays_within_its_bounds(kind: type[Adaptive], against: str) -> None:
    """Whoever trades, and knowing what is expected."""
    profile = kind(expected_ticks=40, span=3, least=0.25, most=2.0)
    chain, random, seen = Chain(profile), Random(3), set()
    bought = 0
    for number in range(20_000):
        match against:
            case "all buys":
                buys = True
            case "alternating":
                buys = number % 2 == 0
            case "to make it grow":  # one side more than the other, as slowly as may be
                bought += 1 if number % 20 < 11 else -1
                buys = number % 20 < 11 if chain.ticks < 40 else number % 5 < 3
            case _:
                buys = random.random() < 0.5
        if chain.push(trade(number, side="buy" if buys else "sell")) is not None:
            assert chain.expected_ticks is not None
            assert 10 <= chain.expected_ticks <= 80
            seen.add(chain.expected_ticks)
    assert seen


@pytest.mark.parametrize(
    ("least_imbalance", "span", "reached"),
    [
        pytest.param(0.0001, 1000, 10, id="each trade ends a bar"),
        pytest.param(1, 3, 80, id="few trades in many are of one side"),
    ],
)
def test_the_bounds_of_the_expected_size_are_reached(
    least_imbalance: float, span: int, reached: float
) -> None:
    profile = TickImbalance(
        expected_ticks=40, span=span, least=0.25, most=2.0, least_imbalance=least_imbalance
    )
    random, chain, seen = Random(3), Chain(profile), []
    for number in range(100_000):
        one_in_turn = "buy" if number % 2 else "sell"
        side = one_in_turn if reached == 10 else random.choice(["buy", "sell"])
        if chain.push(trade(number, side=side)) is not None:
            seen.append(chain.expected_ticks)
    assert seen.count(reached) > 10
    assert all(expected is not None and 10 <= expected <= 80 for expected in seen)


@pytest.mark.parametrize("whole", [0.1, 1.0, 3.5, 7.0, 10.7, 100.0])
@pytest.mark.parametrize("slices", [3, 7, 10, 29, 49, 100])
def test_slices_end_at_their_boundaries(whole: float, slices: int) -> None:
    """Also where a volume is a boundary to the last bit, as round quantities make it."""
    profile = Vpin(bucket_volume=whole, slices=slices, buckets=2)
    random = Random(1)
    trades = []
    for part in range(1, slices):
        first = whole * (part / slices)
        rest = [whole / slices / 3] * 2 + [whole]
        trades += [trade(0, 100 + random.random(), size) for size in (first, *rest)]
    bars = pushed(Chain(profile), trades)
    assert bars == plain_bars(profile, trades)
    assert len(bars) == slices - 1


def test_no_more_is_bought_than_there_is() -> None:
    """In seed 289 the rounded parts add up to more than the rounded whole."""
    for seed in range(280, 300):
        random = Random(seed)
        rising = [trade(at, 1e-9 * 3**at, random.random() * 0.5) for at in range(56)]
        bars = pushed(Chain(Vpin(bucket_volume=1, slices=4, buckets=1000)), rising)
        assert len(bars) > 5
        assert all(bar.sell_volume is not None and bar.sell_volume >= 0 for bar in bars)
        assert all(bar.vpin is not None and bar.vpin <= 1 for bar in bars)


@each_profile
def test_a_state_of_other_parameters_is_refused(profile: Profile) -> None:
    saved = Chain(profile).save()
    for other in [*PROFILES, TickImbalance(expected_ticks=101), Vpin(bucket_volume=3.25)]:
        if other != profile:
            with pytest.raises(Refused, match="give changed parameters another name"):
                Chain.restored(other, saved)
    Chain.restored(profile, saved)


@given(st.binary(max_size=60), st.integers(0, 200))
def test_bytes_that_are_no_state_are_refused(extra: bytes, cut: int) -> None:
    saved = Chain(PROFILES[0]).save()
    for damaged in (extra, saved[:cut], saved + (extra or b"x"), b"\xc1" + saved):
        if damaged != saved:
            with pytest.raises(Refused, match="cannot be read"):
                Chain.restored(PROFILES[0], damaged)


@pytest.mark.parametrize("short", range(5))
def test_arrays_of_different_lengths_are_refused(short: int) -> None:
    chain = Chain(PROFILES[0])
    before = chain.save()
    arrays = [np.ones(4, np.int64), np.ones(4), np.ones(4), np.ones(4, np.bool_), ["a"] * 4]
    arrays[short] = arrays[short][:3]
    with pytest.raises(Refused, match="allowed is one length"):
        chain.extend(*arrays)  # type: ignore[arg-type]  # a list of what has five types
    assert chain.save() == before


SOME_TRADES = st.lists(
    st.builds(
        trade,
        st.integers(-5, 60),
        st.sampled_from([100.0, 100.5, 99.0, 1e18, 5e-324, 0.0, -1.0, float("nan"), float("inf")]),
        st.sampled_from([1.0, 0.1, 7.25, 1e18, 5e-324, 0.0, -3.0, float("nan"), float("inf")]),
        st.sampled_from(["buy", "sell"]),
        st.sampled_from([None, "1", "2", "3", *map(str, range(10, 40))]),
    ),
    max_size=60,
)
SOME_PROFILES = st.randoms(use_true_random=False).map(random_profile)


@settings(max_examples=400)
@given(SOME_PROFILES, SOME_TRADES, st.data())
def test_any_trades_in_any_pieces(
    profile: Profile, trades: list[Trade], data: st.DataObject
) -> None:
    """Hostile ones among them: the same bars, the same counts, all that came accounted for."""
    straight, mixed = Chain(profile), Chain(profile)
    bars = pushed(straight, trades)
    again, at = [], 0
    while at < len(trades):
        size = data.draw(st.integers(0, 12))
        again += data.draw(st.sampled_from([pushed, extended]))(mixed, trades[at : at + size])
        if data.draw(st.booleans()):
            mixed = Chain.restored(profile, mixed.save())
        at += size
    assert again == bars
    assert mixed.save() == straight.save()
    counts = straight.counts
    assert counts["passed"] + counts["invalid"] + counts["duplicate"] == len(trades)
    assert sum(bar.total_ticks for bar in bars) + straight.ticks == counts["passed"]
    for bar in bars:
        values = [value for value in msgspec.structs.astuple(bar) if value is not None]
        assert np.isfinite(np.array(values, np.float64)).all()
        assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        assert bar.open_time <= bar.close_time
