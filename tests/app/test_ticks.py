"""``wh.ticks``: from the names of a series to a frame, by the one way in that people have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

import ravenwh
from ravenwh.domain.errors import Refused, SettingsError, Unavailable, UnknownName
from ravenwh.domain.messages import (
    Funding,
    Liquidation,
    Message,
    OpenInterest,
    OrderBook,
    PriceIndex,
    Ticker,
    Trade,
)
from ravenwh.staging.measurements import MEASUREMENTS
from ravenwh.staging.sink import TickSink
from tests.engines.influx import InfluxBucket
from tests.programs import Programs

AT = 1_723_161_255_342_000_000
SAID: dict[str, Any] = {"venue": "BINANCE_FUTURES", "symbol": "BTCUSDT", "event_time": AT + 999}
MESSAGES: dict[str, Message] = {
    "trades": Trade(**SAID, price=1.5, quantity=2.0, side="buy", trade_id="42"),
    "orderbook": OrderBook(**SAID, bids=((1.0, 3.0),), asks=((2.0, 1.0),), snapshot=True),
    "funding_rate": Funding(**SAID, rate=1e-4, mark_price=7.0),
    "liquidation": Liquidation(**SAID, price=1.0, quantity=2.0, side="sell"),
    "open_interest": OpenInterest(**SAID, open_interest=5.0),
    "options_ticker": Ticker(**SAID, mark_iv=0.5),
    "price_index": PriceIndex(**SAID, price=3.0),
}
VALUES: dict[str, dict[str, Any]] = {
    "trades": {"side": "buy", "price": 1.5, "quantity": 2.0, "trade_id": "42"},
    "orderbook": {
        "bid_price": 1.0,
        "bid_qty": 3.0,
        "ask_price": 2.0,
        "ask_qty": 1.0,
        "spread": 1.0,
        "mid_price": 1.5,
        "imbalance": 0.75,
    },
    "funding_rate": {"rate": 1e-4, "mark_price": 7.0},
    "liquidation": {"side": "sell", "price": 1.0, "quantity": 2.0},
    "open_interest": {"open_interest": 5.0},
    "options_ticker": {"mark_iv": 0.5},
    "price_index": {"price": 3.0},
}


def settings_of(influx: InfluxBucket, url: str) -> str:
    """The settings of a mart, and of the bucket; without ports."""
    settings = influx.settings
    assert settings.token is not None
    return (
        f'timescale.url = "{url}"\njournal.dir = "journal"\n[influx]\nurl = "{settings.url}"\n'
        f'org = "{settings.org}"\nbucket = "{settings.bucket}"\ntoken = "{settings.token.reveal()}"'
    )


@pytest.fixture
async def written(influx: InfluxBucket) -> InfluxBucket:
    """A bucket with a point of each measurement."""
    server = influx.server()
    result = await TickSink(server=server).write(list(MESSAGES.values()))
    server.close()
    assert result.written == len(MESSAGES) == len(MEASUREMENTS)
    return influx


@pytest.fixture
def wh(tmp_path: Path, mart_url: str, written: InfluxBucket) -> Iterator[ravenwh.Warehouse]:
    config = Programs(folder=tmp_path).configure(settings_of(written, mart_url)).settings_file
    with ravenwh.connect(config) as opened:
        yield opened


@pytest.mark.parametrize("measurement", MEASUREMENTS)
def test_every_measurement_by_its_names(wh: ravenwh.Warehouse, measurement: str) -> None:
    frame = wh.ticks(measurement, "BTCUSDT", "BINANCE_FUTURES", "2024-08-08", "2024-08-10").pandas()
    time = AT if MEASUREMENTS[measurement].of_events else AT + 999
    assert list(frame.index) == [pd.Timestamp(time, unit="ns", tz="UTC")]
    assert frame.iloc[0].dropna().to_dict() == VALUES[measurement]
    fields = {field.name for field in MEASUREMENTS[measurement].fields}
    assert set(frame.columns) - {"side"} == fields


def test_the_same_frames_as_those_of_klines(wh: ravenwh.Warehouse) -> None:
    frames = wh.ticks("trades", exchange="BINANCE_FUTURES")
    assert isinstance(frames, ravenwh.Frames)
    assert (frames.of, frames.index) == ("trades BINANCE_FUTURES", "event_time")
    assert frames.polars().schema["event_time"] == pl.Datetime("ns", "UTC")
    assert frames.arrow().column_names == [
        "event_time",
        "side",
        "symbol",
        "price",
        "quantity",
        "trade_id",
    ]


def test_errors_are_those_of_the_bucket(wh: ravenwh.Warehouse) -> None:
    with pytest.raises(UnknownName, match="did you mean trades"):
        wh.ticks("trade")
    with pytest.raises(UnknownName, match="did you mean BTCUSDT"):
        wh.ticks("trades", "BTCUSD", "BINANCE_FUTURES").arrow()
    with pytest.raises(Refused, match="lies before"):
        wh.ticks("trades", start="2024-01-02", end="2024-01-01")


def test_klines_are_read_beside_ticks(wh: ravenwh.Warehouse) -> None:
    with pytest.raises(UnknownName, match="is not in the mart"):
        wh.klines("BTC", "USDT", "BINANCE_FUTURES", "1m").arrow()
    assert wh.ticks("trades").arrow().num_rows == 1


def test_what_is_closed_reads_no_more(wh: ravenwh.Warehouse) -> None:
    frames = wh.ticks("trades")
    assert frames.arrow().num_rows == 1
    wh.close()
    with pytest.raises(Refused, match="is closed"):
        frames.arrow()
    with pytest.raises(Refused, match="is closed"):
        wh.ticks("trades")


def test_without_influxdb_it_says_what_to_set(tmp_path: Path, mart_url: str) -> None:
    config = Programs(folder=tmp_path).configure(f'timescale.url = "{mart_url}"').settings_file
    with ravenwh.connect(config) as wh:
        with pytest.raises(SettingsError, match=r"influx\.token: found nothing; .*_INFLUX_TOKEN"):
            wh.ticks("trades", "BTCUSDT", "BINANCE_SPOT")
        with pytest.raises(UnknownName):  # klines are read all the same
            wh.klines("BTC", "USDT", "BINANCE_SPOT", "1m").arrow()
    with ravenwh.Warehouse("postgresql://nobody@127.0.0.1:1/nothing") as other:  # noqa: SIM117
        with pytest.raises(Refused, match=r"ravenwh\.connect\(\)"):
            other.ticks("trades")


def test_an_influxdb_that_is_away_is_unavailable(tmp_path: Path, mart_url: str) -> None:
    settings = f'timescale.url = "{mart_url}"\n[influx]\nurl = "http://127.0.0.1:1"\ntoken = "t"'
    config = Programs(folder=tmp_path).configure(settings).settings_file
    with ravenwh.connect(config) as wh, pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:1"):
        wh.ticks("trades").arrow()
