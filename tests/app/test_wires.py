"""Which decoder reads a frame: that of its feed, also of a feed that is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravenwh.app.wires import decoder_of
from ravenwh.app.work import upstreams_of
from ravenwh.config import load
from ravenwh.domain.errors import DecodeError
from ravenwh.domain.messages import PriceIndex
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Feed, Settings
from ravenwh.feed import wire
from ravenwh.feed.control import Collection
from ravenwh.ports import Frame
from tests.recorded import frame_of

INDEX = PriceIndex(venue="BYBIT_PERP", symbol="BTCUSD", event_time=10**18, price=1.5)
RAVEN = Frame("ours", *wire.encode(INDEX)[:1], wire.header(1, 1), wire.encode(INDEX)[1], 0)
CRYPTOFEED = (
    b'BYBIT-index-BTC-USD-PERP {"exchange":"BYBIT","symbol":"BTC-USD-PERP","price":1.5,'
    b'"timestamp":1000000000,"receipt_timestamp":1000000000.1}'
)
SETTINGS = Settings(
    feeds={
        "ours": Feed(endpoint="tcp://127.0.0.1:5555"),
        "foreign": Feed(endpoint="tcp://127.0.0.1:5556", mode="bind", wire="cryptofeed"),
    }
)


@pytest.mark.parametrize(
    "frame",
    [
        RAVEN,
        frame_of(CRYPTOFEED, feed="foreign"),
        Frame("gone", RAVEN.topic, RAVEN.header, RAVEN.payload, 0),
        frame_of(CRYPTOFEED, feed="gone"),
    ],
    ids=["raven", "cryptofeed", "raven, of a feed that is gone", "cryptofeed, the same"],
)
def test_a_frame_is_read_by_the_wire_of_its_feed(frame: Frame) -> None:
    message = decoder_of(SETTINGS, Register())(frame)
    assert isinstance(message, PriceIndex)
    assert (message.venue, message.symbol, message.event_time, message.price) == (
        INDEX.venue, INDEX.symbol, INDEX.event_time, INDEX.price,
    )  # fmt: skip


@pytest.mark.parametrize(
    "frame",
    [frame_of(CRYPTOFEED, feed="ours"), Frame("foreign", RAVEN.topic, RAVEN.header, b"", 0)],
    ids=["cryptofeed on a raven feed", "raven on a cryptofeed feed"],
)
def test_a_feed_speaks_one_wire(frame: Frame) -> None:
    with pytest.raises(DecodeError):
        decoder_of(SETTINGS, Register())(frame)


TOML = """
[feeds.foreign]
endpoint = "tcp://127.0.0.1:5678"
mode = "bind"
wire = "cryptofeed"
[binance_klines]
venues = ["BINANCE_SPOT", "OKX_PERP", "PHEMEX"]
symbols = ["BTC/USDT"]
[routing.symbol_map]
"BTC/USDT" = { PHEMEX = { symbol = "BTC-USDT-PERP", contract = "perpetual", volume_unit = "coin" } }
"""


def test_what_is_asked_of_cryptofeed(tmp_path: Path) -> None:
    file = tmp_path / "ravenwh.toml"
    file.write_text(TOML)
    settings = load(file, {})
    wanted = {"BINANCE_SPOT": "BTCUSDT", "OKX_PERP": "BTC-USDT-SWAP", "PHEMEX": "BTC-USDT-PERP"}
    (upstream,) = upstreams_of(
        settings, frozenset(Collection(venue, "CANDLE", symbol) for venue, symbol in wanted.items())
    )
    assert (upstream.feed, upstream.one_part) == ("foreign", True)
    assert upstream.topics == (
        b"BINANCE-candles-BTC-USDT ",
        b"OKX-candles-BTC-USDT-PERP ",
        b"PHEMEX-candles-BTC-USDT-PERP ",
        b"candles ",
    )
