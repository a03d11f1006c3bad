"""Named reads: what a quant gets for a name, in each kind of frame."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone

import pandas as pd
import polars as pl
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.errors import Refused, SchemaMismatch, Unavailable, UnknownName
from ravenwh.domain.instrument import Contract, Instrument
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.warehouse.read import Warehouse
from ravenwh.warehouse.write import FactSink
from tests.warehouse.conftest import candle, kline_sink

SERIES = ("BTC", "USDT", "BINANCE_SPOT", "1m")


@pytest.fixture
def wh(mart_url: str) -> Iterator[Warehouse]:
    with Warehouse(mart_url.replace("+asyncpg", "")) as warehouse:
        yield warehouse


async def test_the_three_kinds_of_frame_hold_the_same(
    wh: Warehouse, sink: FactSink[Candle]
) -> None:
    await sink.write([candle(minute, close=100.0 + minute % 10) for minute in (3, 1, 0, 2)])
    frames = wh.klines(*SERIES)
    pandas, polars, arrow = frames.pandas(), frames.polars(), frames.arrow()
    assert pandas.index.name == "open_time"
    assert str(pandas.index.dtype) == "datetime64[us, UTC]"
    assert pandas.index.is_monotonic_increasing
    assert list(pandas["close"]) == [100.0, 101.0, 102.0, 103.0]
    assert pandas["trade_count"].dtype == pd.Int64Dtype()
    assert polars.schema["open_time"] == pl.Datetime("us", "UTC")
    assert polars["close"].to_list() == list(pandas["close"])
    assert arrow["close"].to_pylist() == list(pandas["close"])
    assert arrow.column_names == [
        "open_time",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "quote_volume",
        "trade_count",
        "taker_buy_volume",
        "taker_buy_quote_volume",
    ]


@pytest.mark.parametrize(
    ("start", "end", "minutes"),
    [
        (None, None, [0, 1, 2, 3]),
        ("2024-01-01T00:01", "2024-01-01T00:03:00Z", [1, 2]),
        (datetime(2024, 1, 1, 0, 2, tzinfo=UTC), None, [2, 3]),
        (datetime(2024, 1, 1, 9, 2, tzinfo=timezone(timedelta(hours=9))), None, [2, 3]),
        (None, "2024-01-01T00:01", [0]),
        (date(2024, 1, 1), date(2024, 1, 2), [0, 1, 2, 3]),
        ("2024-01-02", None, []),
        ("2024-01-01T00:02", "2024-01-01T00:02", []),
    ],
)
async def test_ranges_are_half_open(
    wh: Warehouse, sink: FactSink[Candle], start: object, end: object, minutes: list[int]
) -> None:
    await sink.write([candle(minute) for minute in range(4)])
    frame = wh.klines(*SERIES, start, end).pandas()  # type: ignore[arg-type]
    assert [at.minute for at in frame.index] == minutes
    assert str(frame.index.dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [
        ("yesterday", None, "ISO 8601"),
        (datetime(2024, 1, 1), None, "has no time zone"),  # noqa: DTZ001  that is the point
        ("2024-01-02", "2024-01-01", "lies before start"),
    ],
)
def test_a_bound_that_means_nothing_is_refused(
    wh: Warehouse, start: object, end: object, told: str
) -> None:
    with pytest.raises(Refused, match=told):
        wh.klines(*SERIES, start, end)  # type: ignore[arg-type]


async def test_a_wrong_name_is_answered_with_the_nearest(
    wh: Warehouse, sink: FactSink[Candle]
) -> None:
    await sink.write([candle(), candle(venue="BINANCE_FUTURES")])
    with pytest.raises(UnknownName) as caught:
        wh.klines("btc", "USDC", "BINANCE_FUTURE", "1min").pandas()
    text = str(caught.value)
    assert "coin 'btc' is not in the mart; did you mean BTC?" in text
    assert "quote 'USDC' is not in the mart; did you mean USDT?" in text
    assert "did you mean BINANCE_FUTURES or BINANCE_SPOT?" in text
    assert "interval '1min' is not in the mart; did you mean 1m?" in text


def test_an_empty_mart_says_what_to_run(wh: Warehouse) -> None:
    with pytest.raises(UnknownName, match=r"run python -m runners\.init"):
        wh.klines(*SERIES).arrow()


async def test_prices_are_for_one_coin_unless_raw(wh: Warehouse, mart: AsyncEngine) -> None:
    pepe = candle(venue="BINANCE_FUTURES", symbol="1000PEPEUSDT", volume=8.0, close=96.0)
    await kline_sink(mart, Register()).write([pepe])
    series = ("PEPE", "USDT", "BINANCE_FUTURES", "1m")
    one = wh.klines(*series).pandas().iloc[0]
    raw = wh.klines(*series, raw=True).pandas().iloc[0]
    assert (one.close, one.volume, one.quote_volume) == (0.096, 8000.0, 1250.0)
    assert (one.taker_buy_volume, one.taker_buy_quote_volume) == (6000.0, 600.0)
    assert (raw.close, raw.volume, raw.taker_buy_volume) == (96.0, 8.0, 6.0)


async def test_the_multiplier_is_that_of_the_symbol_of_its_time(
    wh: Warehouse, mart: AsyncEngine
) -> None:
    changed = datetime(2024, 1, 1, 0, 2, tzinfo=UTC)
    old, new = (
        Instrument(
            exchange="BINANCE_FUTURES",
            symbol=symbol,
            coin="BONK",
            quote="USDT",
            contract=Contract.PERPETUAL,
            multiplier=multiplier,
            **times,
        )
        for symbol, multiplier, times in (
            ("BONKUSDT", 1.0, {"delisted_at": changed}),
            ("1000BONKUSDT", 1000.0, {"listed_at": changed}),
        )
    )
    sink = kline_sink(mart, Register(listings=(old, new)))
    klines = [candle(n, venue="BINANCE_FUTURES", symbol="BONKUSDT") for n in (0, 1)]
    klines += [candle(n, venue="BINANCE_FUTURES", symbol="1000BONKUSDT") for n in (2, 3)]
    assert (await sink.write(klines)).written == 4
    frame = wh.klines("BONK", "USDT", "BINANCE_FUTURES", "1m").pandas()
    assert list(frame["close"]) == [105.0, 105.0, 0.105, 0.105]
    assert list(frame["volume"]) == [12.5, 12.5, 12500.0, 12500.0]


async def test_names_are_values_and_never_sql(wh: Warehouse, sink: FactSink[Candle]) -> None:
    await sink.write([candle()])
    with pytest.raises(UnknownName):
        wh.klines("BTC' OR '1'='1", "USDT", "BINANCE_SPOT", "1m").arrow()
    with pytest.raises(UnknownName):
        wh.klines("BTC%s:x\\", "USDT", "BINANCE_SPOT", "1m").arrow()


async def test_it_works_inside_a_running_loop_and_from_a_thread(
    wh: Warehouse, sink: FactSink[Candle]
) -> None:
    await sink.write([candle()])  # this test runs in a loop, as a notebook cell does
    assert len(wh.klines(*SERIES).pandas()) == 1
    assert len(await asyncio.to_thread(wh.klines(*SERIES).pandas)) == 1


def test_a_database_without_tables_says_how_to_make_them(database: str) -> None:
    with Warehouse(database.replace("+asyncpg", "")) as warehouse:
        frames = warehouse.klines(*SERIES)
        with pytest.raises(SchemaMismatch, match="ravenwh alembic upgrade head"):
            frames.arrow()


def test_a_server_that_is_away_is_unavailable() -> None:
    with Warehouse("postgresql://nobody:x@127.0.0.1:1/nothing") as warehouse:  # noqa: SIM117
        with pytest.raises(Unavailable):
            warehouse.klines(*SERIES).arrow()


def test_a_missing_library_says_how_to_install_it() -> None:
    program = """
import sys
sys.modules["polars"] = None
from ravenwh.warehouse.read import _need
try:
    _need("polars")
except Exception as error:
    print(error)
"""
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert "ravenwh[frames]" in out
