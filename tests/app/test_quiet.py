"""When a stream may be silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravenwh.app.instruments import register_of
from ravenwh.app.quiet import expected_by
from ravenwh.app.wires import subject_of
from ravenwh.config import load
from ravenwh.domain.series import to_ns
from ravenwh.domain.settings import Settings
from ravenwh.domain.settings.routing import window_of

TOML = """
[feeds.ours]
endpoint = "tcp://127.0.0.1:5555"
[feeds.foreign]
endpoint = "tcp://127.0.0.1:5556"
mode = "bind"
wire = "cryptofeed"
[routing.upstreams]
"BINANCE_SPOT:CANDLE" = "ours"
"BINANCE_FUTURES:CANDLE" = "foreign"
[routing.maintenance]
BINANCE_SPOT = ["2026-12-01T02:00Z/2026-12-01T04:00Z", "2026-12-08T02:00+01:00/2026-12-08T03:00Z"]
BINANCE_FUTURES = ["2026-12-01T02:00Z/2026-12-01T04:00Z"]
[routing.symbol_map]
"LUNA/USDT" = { BINANCE_SPOT = { symbol = "LUNAUSDT", delisted_at = 2026-05-13T00:00:00Z } }
"BTC/USD" = { BINANCE_FUTURES = { symbol = "BTCPERP", delisted_at = 2026-05-13T00:00:00Z } }
"""
WANTED = {
    "ours": (b"BINANCE_SPOT:CANDLE:BTCUSDT ", b"BINANCE_SPOT:CANDLE:LUNAUSDT "),
    "foreign": (b"BINANCE_FUTURES-candles-", b"candles "),
}
SPOT = ("ours", b"BINANCE_SPOT:CANDLE:BTCUSDT ")
LUNA = ("ours", b"BINANCE_SPOT:CANDLE:LUNAUSDT ")
ETH = ("ours", b"BINANCE_SPOT:CANDLE:ETHUSDT ")
FUTURES = ("foreign", b"BINANCE_FUTURES-candles-BTC-USDT-PERP")
STATIC = ("foreign", b"candles")
NONSENSE = ("foreign", b"BINANCE_FUTURES-candles-???")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "ravenwh.toml").write_text(TOML)
    return load(tmp_path / "ravenwh.toml", {})


def at(text: str) -> int:
    return to_ns(window_of(f"{text}/2100-01-01T00:00Z")[0])


@pytest.mark.parametrize(
    ("stream", "now", "expected"),
    [
        (SPOT, "2026-12-01T01:59Z", True),
        (SPOT, "2026-12-01T02:00Z", False),
        (SPOT, "2026-12-01T03:59Z", False),
        (SPOT, "2026-12-01T04:00Z", True),
        (SPOT, "2026-12-08T01:30Z", False),
        (FUTURES, "2026-12-01T02:00Z", False),  # whose venue cryptofeed calls otherwise
        (FUTURES, "2026-12-01T04:00Z", True),
        (LUNA, "2026-05-12T23:59Z", True),
        (LUNA, "2026-05-13T00:00Z", False),
        (LUNA, "2027-01-01T00:00Z", False),
        (ETH, "2026-05-12T00:00Z", False),  # which nobody wants
        (STATIC, "2026-12-01T03:00Z", True),  # which holds several venues
        (NONSENSE, "2026-05-12T00:00Z", True),
    ],
)
def test_it_is_expected_unless_there_is_a_reason(
    settings: Settings, stream: tuple[str, bytes], now: str, expected: bool
) -> None:
    is_expected = expected_by(settings, register_of(settings), lambda feed: WANTED[feed])
    assert is_expected(stream, at(now)) is expected


def test_streams_are_told_by_venues_of_ours(settings: Settings) -> None:
    subject = subject_of(settings, register_of(settings))
    assert subject(SPOT) == ("BINANCE_SPOT", "BTCUSDT")
    assert subject(FUTURES) == ("BINANCE_FUTURES", "BTCUSDT")
    assert subject(STATIC) == ("candles", None)
    assert subject(NONSENSE) == ("BINANCE_FUTURES", None)
    assert subject(("ours", b"\xff:no topic")) == ("\ufffd", None)
