"""Which versions of recorded klines are final: read off the recordings by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.feed.cryptofeed.decoder import CryptofeedDecoder
from ravenwh.ingest import Finality
from tests.recorded import frame_of, messages_of

Row = tuple[str, int, float, float, float, float, float, int | None]
"""Symbol, open_time in s, open, high, low, close, volume, trades."""

FUTURES_FINAL: list[Row] = [
    ("SUSHIUSDT", 1626992700, 7.608, 7.618, 7.607, 7.617, 3005, 113),
    ("CTKUSDT", 1626992700, 1.01, 1.012, 1.01, 1.012, 11074, 86),
    ("AKROUSDT", 1626992700, 0.01731, 0.01733, 0.01731, 0.01733, 235736, 29),
    ("KEEPUSDT", 1626992700, 0.2463, 0.2466, 0.2458, 0.2466, 8464, 14),
]
"""The four that came flagged closed, the last of 16, 21, 6 and 3 frames of that minute."""

FUTURES_HELD: list[Row] = [
    ("SUSHIUSDT", 1626992760, 7.618, 7.62, 7.611, 7.611, 499, 18),
    ("KEEPUSDT", 1626992760, 0.2468, 0.2468, 0.2467, 0.2467, 3675, 5),
    ("AKROUSDT", 1626992760, 0.01734, 0.01735, 0.01734, 0.01734, 72905, 5),
    ("CTKUSDT", 1626992760, 1.012, 1.012, 1.01, 1.011, 9806, 36),
]
"""The minute after, of which the recording has the first ten seconds."""

SPOT_HELD: list[Row] = [
    ("NKNUSDT", 1633998480, 0.3527, 0.3528, 0.3522, 0.3528, 25877, 30),
    ("LRCBTC", 1633998480, 0.00000638, 0.00000638, 0.00000638, 0.00000638, 177, 1),
]

BYBIT_HELD: list[Row] = [("BTCUSDT", 1672324800, 16649.5, 16677, 16608, 16677, 2.081, None)]
"""Its ``trades`` is no count in 2.5 (``false``), and null in 3.0."""


def row_of(candle: Candle) -> Row:
    c = candle
    return (c.symbol, c.open_time // 10**9, c.open, c.high, c.low, c.close, c.volume, c.trade_count)


def fed(file: Path, *, grace_s: float = 5.0) -> tuple[list[Row], list[Row], int]:
    """Rows that became final, in order, rows still held, and how many versions were replaced."""
    decode = CryptofeedDecoder(register=Register())
    finality = Finality(grace_ns=int(grace_s * 1e9))
    final: list[Candle] = []
    latest: dict[int, Candle] = {}
    replaced = 0
    for number, frame in enumerate(map(frame_of, messages_of(file))):
        message = decode(frame)
        if isinstance(message, Candle):
            latest[number] = message
            out, gone = finality.offer((number, frame), message)
            final += [candle for _, candle in (*out, *finality.passed())]
            replaced += gone
    held = [row_of(latest[number]) for number, _ in finality.held()]
    assert len(final) + len(held) + replaced == len(latest)
    return [row_of(candle) for candle in final], held, replaced


@pytest.mark.parametrize("version", ["v2.5.0", "v3.0.1"])
@pytest.mark.parametrize(
    ("name", "final", "held", "replaced"),
    [
        ("BINANCE_FUTURES", FUTURES_FINAL, FUTURES_HELD, 67 - 8),
        ("BINANCE", [], SPOT_HELD, 0),
        ("INJ_BYBIT", [], BYBIT_HELD, 0),
    ],
    ids=["BINANCE_FUTURES", "BINANCE", "INJ_BYBIT"],
)
def test_the_final_versions_of_a_recording(
    name: str, version: str, final: list[Row], held: list[Row], replaced: int, shared_data: Path
) -> None:
    found = fed(shared_data / "wire" / f"{name}.{version}.frames.txt.gz")
    assert found[0] == final
    assert sorted(found[1]) == sorted(held)
    assert found[2] == replaced


def test_without_a_grace_the_flagged_versions_come_as_corrections(shared_data: Path) -> None:
    file = shared_data / "wire" / "BINANCE_FUTURES.v2.5.0.frames.txt.gz"
    final, held, replaced = fed(file, grace_s=0.0)
    early: list[Row] = [
        ("CTKUSDT", 1626992700, 1.01, 1.012, 1.01, 1.012, 11074, 86),
        ("AKROUSDT", 1626992700, 0.01731, 0.01733, 0.01731, 0.01733, 223151, 28),
        ("KEEPUSDT", 1626992700, 0.2463, 0.2466, 0.2458, 0.2466, 8464, 14),
    ]  # as they were when SUSHIUSDT came flagged closed, 0.2 s after the end of the minute
    assert final[0] == FUTURES_FINAL[0]
    assert sorted(final[1:4]) == sorted(early)
    assert final[4:] == FUTURES_FINAL[1:]
    assert sorted(held) == sorted(FUTURES_HELD)
    assert replaced == 67 - 8 - len(early)
