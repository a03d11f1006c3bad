"""Named reads: what a quant gets for a name, in each kind of frame."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone

import attrs
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.app.instruments import register_of
from ravenwh.domain.errors import Refused, SchemaMismatch, Unavailable, UnknownName
from ravenwh.domain.instrument import Contract, Instrument
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.domain.seed import Seed
from ravenwh.domain.settings import Settings
from ravenwh.schema import KLINES, SYMBOLS
from ravenwh.warehouse.read import Warehouse
from ravenwh.warehouse.seed import Pruning, seed
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
        (np.datetime64("2024-01-01T00:02"), np.datetime64("2024-01-01T00:03", "ns"), [2]),
        (
            pd.Timestamp("2024-01-01T09:02", tz="Asia/Tokyo"),
            pd.Timestamp("2024-01-02", tz="UTC"),
            [2, 3],
        ),
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
        ("yesterday", None, "start 'yesterday' is no time: give ISO 8601"),
        (5, None, "start 5 is no time: give ISO 8601"),
        (None, 1.7e9, "end 1700000000.0 is no time"),
        (pd.NaT, None, "start NaT is no time"),
        (np.datetime64("NaT"), None, "is no time"),
        (pd.Timestamp("2024-01-01"), None, "has no time zone"),
        ("0001-01-01T00:00+09:00", None, "is no time"),
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


def traded_as(symbol: str, multiplier: float, **times: datetime) -> Instrument:
    return Instrument(
        exchange="BINANCE_FUTURES",
        symbol=symbol,
        coin="PEPE",
        quote="USDT",
        contract=Contract.PERPETUAL,
        multiplier=multiplier,
        **times,
    )


PEPE = ("PEPE", "USDT", "BINANCE_FUTURES", "1m")
AT_2 = datetime(2024, 1, 1, 0, 2, tzinfo=UTC)


async def write(engine: AsyncEngine, symbol: Instrument, *minutes: int) -> None:
    klines = [candle(n, venue="BINANCE_FUTURES", symbol=symbol.symbol) for n in minutes]
    assert (await kline_sink(engine, Register(listings=(symbol,))).write(klines)).written


async def seed_only(engine: AsyncEngine, *symbols: Instrument) -> None:
    await seed(engine, Seed(instruments=symbols), pruning=Pruning(share=1.0))


async def test_a_multiplier_ends_with_the_delisting(wh: Warehouse, mart: AsyncEngine) -> None:
    old = traded_as("1000PEPEUSDT", 1000.0, delisted_at=AT_2)
    new = traded_as("PEPEUSDT", 1.0, listed_at=AT_2)
    await seed_only(mart, old, new)
    await write(mart, old, 0, 1)
    await write(mart, new, 2, 3)
    assert list(wh.klines(*PEPE).pandas()["close"]) == [0.105, 0.105, 105.0, 105.0]


async def test_the_live_symbol_goes_before_one_that_was_never_used(
    wh: Warehouse, mart: AsyncEngine
) -> None:
    for old, new, expected in (
        (traded_as("1000PEPEUSDT", 1000.0), traded_as("PEPEUSDT", 1.0), 105.0),
        (traded_as("1MPEPEUSDT", 1e6), traded_as("1000PEPEUSDT", 1000.0), 0.105),
    ):
        async with mart.begin() as connection:
            await connection.execute(sa.delete(KLINES))
            await connection.execute(sa.delete(SYMBOLS))
        await seed_only(mart, old)
        await seed_only(mart, new)
        await write(mart, new, 0)
        assert list(wh.klines(*PEPE).pandas()["close"]) == [expected]


async def test_two_multipliers_for_the_same_rows_are_refused(
    wh: Warehouse, mart: AsyncEngine
) -> None:
    old, new = traded_as("1000PEPEUSDT", 1000.0), traded_as("PEPEUSDT", 1.0)
    await seed_only(mart, old)
    await write(mart, old, 0, 1)
    await seed_only(mart, new)
    await write(mart, new, 2, 3)
    with pytest.raises(Refused) as caught:
        wh.klines(*PEPE).pandas()
    text = str(caught.value)
    assert "PEPEUSDT (multiplier 1) and 1000PEPEUSDT (multiplier 1000, which is soft-del" in text
    assert "raw=True" in text
    assert list(wh.klines(*PEPE, raw=True).pandas()["close"]) == [105.0] * 4
    assert list(wh.klines(*PEPE, AT_2).pandas()["close"]) == [105.0] * 2  # all of them are new

    told = text.partition("each of the two held: ")[2].partition("; then run")[0]
    lines = told.replace("<when it changed>", AT_2.isoformat()).replace(" and ", "\n")
    settings = Settings(routing={"symbol_map": tomllib.loads(lines)})
    await seed_only(mart, *register_of(settings).listings)
    assert list(wh.klines(*PEPE).pandas()["close"]) == [0.105, 0.105, 105.0, 105.0]


async def test_rows_of_a_time_that_nobody_claims_are_refused_where_it_matters(
    wh: Warehouse, mart: AsyncEngine
) -> None:
    old, new = traded_as("1000PEPEUSDT", 1000.0), traded_as("PEPEUSDT", 1.0, listed_at=AT_2)
    await seed_only(mart, old)
    await write(mart, old, 0, 1)
    earlier = attrs.evolve(old, delisted_at=AT_2 - timedelta(minutes=1))
    await seed_only(mart, earlier, new)
    assert list(wh.klines(*PEPE, None, earlier.delisted_at).pandas()["close"]) == [0.105]
    with pytest.raises(Refused, match=r"from 2024-01-01T00:01:00.* until 2024-01-01T00:02:00"):
        wh.klines(*PEPE).pandas()


@pytest.mark.parametrize("name", ["BTC\0", "\ud800", "BTC\n", 5, None])
def test_a_name_that_cannot_be(wh: Warehouse, name: str) -> None:
    with pytest.raises(UnknownName, match=r"^coin .* is not in the mart, and cannot be"):
        wh.klines(name, *SERIES[1:]).arrow()


async def test_a_closed_one_reads_no_more(wh: Warehouse, sink: FactSink[Candle]) -> None:
    await sink.write([candle()])
    frames = wh.klines(*SERIES)
    assert len(frames.arrow()) == 1
    wh.close()
    with pytest.raises(Refused, match="closed"):
        frames.arrow()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"password": "wrong"}, "password authentication failed"),
        ({"username": "nobody"}, "password authentication failed"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ],
)
def test_what_a_person_must_mend_is_said(mart_url: str, changed: dict[str, str], told: str) -> None:
    url = sa.make_url(mart_url).set(drivername="postgresql", **changed)  # type: ignore[arg-type]
    with Warehouse(url.render_as_string(hide_password=False)) as warehouse:  # noqa: SIM117
        with pytest.raises(Unavailable, match=told) as caught:
            warehouse.klines(*SERIES).arrow()
    assert caught.value.needs_person
    assert "cannot be reached" not in str(caught.value)


async def test_its_address_is_asked_for_at_each_connection(
    mart_url: str, sink: FactSink[Candle]
) -> None:
    await sink.write([candle()])
    url = sa.make_url(mart_url).set(drivername="postgresql")
    addresses = [url.set(password="wrong"), url]
    with Warehouse(lambda: addresses.pop(0).render_as_string(hide_password=False)) as warehouse:
        frames = warehouse.klines(*SERIES)
        with pytest.raises(Unavailable):
            frames.arrow()
        assert len(frames.arrow()) == len(frames.arrow()) == 1


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
from ravenwh.domain.frames import need
try:
    need("polars")
except Exception as error:
    print(error)
"""
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert "ravenwh[frames]" in out
