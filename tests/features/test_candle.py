"""Bars as messages of the wire: nothing of them is lost on the way."""

from __future__ import annotations

from random import Random

import pytest

from ravenwh.domain.messages import Candle
from ravenwh.features import (
    Chain,
    Profile,
    TickImbalance,
    TickRun,
    VolumeImbalance,
    Vpin,
    parse_profile,
    to_candle,
)
from ravenwh.feed import wire
from ravenwh.ports import Frame
from tests.features.streams import pushed, random_trades

PROFILES = [
    TickImbalance(expected_ticks=10),
    TickRun(expected_ticks=10),
    VolumeImbalance(expected_ticks=10),
    Vpin(bucket_volume=5),
]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda one: one.PREFIX)
def test_a_bar_on_the_wire(profile: Profile) -> None:
    chain = Chain(profile)
    chain.note_gap()
    bars = pushed(chain, random_trades(Random(1), 200))
    assert len(bars) > 3
    name = f"{profile.PREFIX}_small"
    for bar in bars:
        sent = to_candle(
            bar,
            profile=profile,
            name=name,
            venue="BINANCE_FUTURES",
            symbol="BTCUSDT",
            producer="make_bars",
        )
        topic, payload = wire.encode(sent)
        came = wire.decode(Frame("test", topic, wire.header(1, 1), payload, 0))
        assert came == sent
        assert isinstance(came, Candle)
        shared = set(bar.__struct_fields__) & set(came.__struct_fields__)
        assert shared == set(bar.__struct_fields__)
        assert [getattr(came, each) for each in shared] == [getattr(bar, each) for each in shared]
        assert came.sell_ticks == bar.total_ticks - bar.buy_ticks
        assert (came.interval, came.event_time) == (name, bar.close_time)
        assert came.parameters_hash == profile.parameters_hash
        assert came.parameters is not None
        assert parse_profile(name, came.parameters) == profile
    assert [bar.after_gap for bar in bars[:2]] == [True, False]
