"""What control adds and removes survives a restart."""

from __future__ import annotations

from pathlib import Path

from ravenwh.journal import Store


def test_collections_are_there_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "j.sqlite")
    assert store.collections() == {}
    store.set_collection("BINANCE_SPOT", "CANDLE", "BTCUSDT", wanted=True)
    store.set_collection("BINANCE_SPOT", "CANDLE", "ETHUSDT", wanted=True)
    store.set_collection("BINANCE_SPOT", "CANDLE", "ETHUSDT", wanted=False)
    store.set_collection("BINANCE_SPOT", "TRADE", "ETHUSDT", wanted=True)
    store.set_collection("BINANCE_SPOT", "TRADE", "ETHUSDT", wanted=None)
    store.set_collection("BINANCE_SPOT", "TRADE", "XRPUSDT", wanted=None)
    store.close()
    store = Store(tmp_path / "j.sqlite")
    assert store.collections() == {
        ("BINANCE_SPOT", "CANDLE", "BTCUSDT"): True,
        ("BINANCE_SPOT", "CANDLE", "ETHUSDT"): False,
    }
    store.close()
