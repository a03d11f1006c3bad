"""What the sections of the settings name, for klines and for bars."""

from __future__ import annotations

from typing import Any

import pytest

from ravenwh.app.bar import _routed
from ravenwh.app.collecting import given_of
from ravenwh.app.instruments import register_of, seed_of, wanted_symbols, wanted_venues
from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings import Settings


def named(**bars: Any) -> Settings:
    return Settings(
        binance_klines={"venues": ("BINANCE_SPOT",), "symbols": ("BTC/USDT",)},
        bars=bars,
        feeds={"klines": {}, "bars": {"endpoint": "ipc://bars"}},
        routing={"upstreams": {"BINANCE_SPOT:CANDLE": "klines"}},
    )


def test_bars_are_of_what_the_klines_are_of_unless_they_say_otherwise() -> None:
    settings = named()
    assert wanted_venues(settings, "bars") == ("BINANCE_SPOT",)
    assert wanted_symbols(settings, register_of(settings), "bars") == {"BINANCE_SPOT": ("BTCUSDT",)}
    settings = named(venues=("BINANCE_FUTURES",), symbols="ETH/USDT")
    register = register_of(settings)
    assert wanted_symbols(settings, register, "bars") == {"BINANCE_FUTURES": ("ETHUSDT",)}
    assert wanted_symbols(settings, register) == {"BINANCE_SPOT": ("BTCUSDT",)}
    assert [str(one) for one in given_of(settings, register, "TRADE", "bars")] == [
        "BINANCE_FUTURES:TRADE:ETHUSDT"
    ]


def test_what_either_names_is_seeded() -> None:
    settings = named(venues=("BINANCE_FUTURES",), symbols=("ETH/USDT",))
    found = seed_of(settings, register_of(settings))
    assert found.exchanges == {"BINANCE_SPOT", "BINANCE_FUTURES"}
    assert {one.symbol for one in found.instruments} == {"BTCUSDT", "ETHUSDT"}


@pytest.mark.parametrize(
    ("bars", "key"), [({}, "binance_klines"), ({"venues": ("BINANCE_SPOT",)}, "bars")]
)
def test_the_key_that_leaves_no_venue_is_told(bars: dict[str, Any], key: str) -> None:
    settings = Settings(
        binance_klines={"venues": ("BINANCE_SPOT",)},
        bars=bars,
        routing={"venue_exclude": ("BINANCE_SPOT",)},
    )
    with pytest.raises(SettingsError, match=rf"^{key}\.venues: found BINANCE_SPOT, and routing"):
        wanted_venues(settings, "bars")


def test_bars_come_from_their_own_feed_and_klines_from_theirs() -> None:
    settings = named(feed="bars")
    assert _routed(settings).upstream_for("BINANCE_SPOT", "CANDLE").feed == "bars"
    assert settings.upstream_for("BINANCE_SPOT", "CANDLE").feed == "klines"
    without = named()
    assert _routed(without) is without
