"""Bars made by hand."""

from __future__ import annotations

from typing import Any

from ravenwh.domain.messages import Candle
from tests.warehouse.conftest import START

PARAMETERS = {"kind": "tib", "expected_ticks": 400, "least": 0.5, "most": 1e18, "tiny": 1e-12}
MILLISECOND = 1_000_000


def bar(opened: int = 0, seq: int = 0, *, profile: str = "tib_small", **changes: Any) -> Candle:
    """A bar that opens so many milliseconds after the start, with whatever the test changes."""
    at = START + opened * MILLISECOND
    values: dict[str, Any] = {
        "venue": "BINANCE_FUTURES",
        "symbol": "BTCUSDT",
        "event_time": at + 5 * MILLISECOND,
        "interval": profile,
        "open_time": at,
        "close_time": at + 5 * MILLISECOND,
        "open": 100.0,
        "high": 110.0,
        "low": 90.0,
        "close": 105.0,
        "volume": 12.5,
        "parameters_hash": "a1",
        "parameters": PARAMETERS,
        "bar_seq": seq,
        "buy_ticks": 61,
        "sell_ticks": 19,
        "total_ticks": 80,
        "theta": 42.0,
    }
    return Candle(**values | changes)


def bucket(opened: int = 0, **changes: Any) -> Candle:
    """The same, of VPIN."""
    of_vpin = {"theta": None, "vpin": 0.25, "buy_volume": 8.0, "sell_volume": 4.5}
    return bar(opened, profile="vpin_btc", **of_vpin | changes)
