"""Several profiles behind one look at the trades, and what a restart of the publisher does."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravenwh.domain.errors import Refused
from ravenwh.domain.messages import Trade
from ravenwh.features import Bar, Chain, TickImbalance, TickRun
from ravenwh.features.maker import Maker
from tests.features.streams import pushed, random_profile, random_trades, trade

RUN = {"trb_a": TickRun(expected_ticks=2)}


def fed(maker: Maker, trades: list[Trade]) -> list[Bar]:
    return [bar for one in trades for _, bar in maker.push(one)]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_each_chain_makes_what_it_would_make_alone(seed: int) -> None:
    random = Random(seed)
    profiles = {f"p_{n}": random_profile(random) for n in range(3)}
    trades = random_trades(random, 300)
    for _ in range(20):  # some come twice, some late, some are none
        at = random.randrange(len(trades))
        trades.insert(at, random.choice([trades[at], trade(0), trade(at, quantity=0.0)]))
    maker, made = Maker(profiles), {name: list[Bar]() for name in profiles}
    for one in trades:
        if random.random() < 0.1:
            maker = Maker.restored(profiles, maker.save())
        for name, bar in maker.push(one):
            made[name].append(bar)
    chains = {name: Chain(profile) for name, profile in profiles.items()}
    assert made == {name: pushed(chain, trades) for name, chain in chains.items()}
    counts = next(iter(chains.values())).counts
    assert maker.counts == counts | {"repeated": 0}


def test_a_restart_that_repeats_the_last_trade_lost_nothing() -> None:
    maker = Maker(RUN)
    trades = [trade(at, trade_id=str(at)) for at in range(10_000)]
    before = fed(maker, trades[:9_001])
    maker.note_restart()
    maker = Maker.restored(RUN, maker.save())
    after = fed(maker, trades)  # all of it again, from long before what is remembered
    assert before + after == pushed(Chain(RUN["trb_a"]), trades)
    assert maker.counts["passed"] == 10_000
    assert maker.counts["repeated"] + maker.counts["duplicate"] == 9_001


@pytest.mark.parametrize("first", [trade(20, trade_id="new"), trade(10, trade_id="new"), trade(15)])
def test_a_restart_that_goes_on_elsewhere_may_have_lost_something(first: Trade) -> None:
    maker = Maker(RUN)
    maker.push(trade(10, trade_id="last"))
    maker.note_restart()
    assert fed(maker, [trade(4, trade_id="older"), trade(5)]) == []
    (bar,) = fed(maker, [first])
    assert bar.after_gap
    assert maker.counts["repeated"] == 2
    (bar,) = fed(maker, [trade(30), trade(31)])
    assert not bar.after_gap


def test_nothing_is_missing_before_the_first_trade() -> None:
    maker = Maker(RUN)
    maker.note_gap()
    maker.note_restart()
    (bar,) = fed(maker, [trade(0), trade(1)])
    assert not bar.after_gap


def test_a_gap_is_seen_by_all_chains() -> None:
    profiles = RUN | {"trb_b": TickRun(expected_ticks=3)}
    maker = Maker(profiles)
    fed(maker, [trade(0)])
    maker.note_gap()
    assert [bar.after_gap for bar in fed(maker, [trade(1), trade(2)])] == [True, True]


def test_profiles_come_and_go_but_none_changes() -> None:
    maker = Maker(RUN)
    fed(maker, [trade(0)])
    saved = maker.save()
    both = RUN | {"tib_new": TickImbalance(expected_ticks=1)}
    assert [name for name, _ in Maker.restored(both, saved).push(trade(1))] == ["trb_a", "tib_new"]
    without = Maker.restored({}, saved)
    assert without.push(trade(1)) == []
    assert fed(Maker.restored(RUN, without.save()), [trade(2)]) == []  # begins anew
    with pytest.raises(Refused, match=r"profile trb_a: .* give changed parameters another name"):
        Maker.restored({"trb_a": TickRun(expected_ticks=5)}, saved)
    with pytest.raises(Refused, match="cannot be read"):
        Maker.restored(RUN, b"nonsense")
