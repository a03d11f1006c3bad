"""Ticks read back by name: frames with the venue's times, options by their terms, messages."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import polars as pl
import pytest
from loguru import logger
from msgspec.structs import replace

from ravenwh.domain.errors import Refused, Unavailable, UnknownName
from ravenwh.domain.messages import Funding, Message, OrderBook, PriceIndex, Ticker, Trade
from ravenwh.staging.query import Selection, Span, select
from ravenwh.staging.reading import MEASUREMENTS, Ticks
from ravenwh.staging.sink import TickSink
from tests.engines.influx import InfluxBucket, bucket_on
from tests.engines.influxd import Influxd

AT = 1_723_161_255_342_000_000
MS = 1_000_000
START = pd.Timestamp(AT, unit="ns", tz="UTC")
TRADE = Trade(
    venue="BINANCE_SPOT", symbol="BTCUSDT", event_time=AT, price=1.0, quantity=1.0, side="buy"
)
TRADES: list[Message] = [
    replace(
        TRADE,
        event_time=AT + i // 3 * MS + 999,
        price=float(i),
        side="sell" if i % 2 else "buy",
        trade_id=str(70 + i) if i else None,
    )
    for i in range(9)
]
OPTIONS = ["BTC-7JUN24-70000-C", "BTC-7JUN24-70000-P", "BTC-28JUN24-70000-C", "ETH-7JUN24-3500-C"]


@pytest.fixture
async def ticks(influx: InfluxBucket) -> AsyncIterator[Ticks]:
    messages: list[Message] = [
        *TRADES,
        replace(TRADE, venue="BINANCE_FUTURES", event_time=AT + 5 * MS),
        replace(TRADE, symbol="ETHUSDT", event_time=AT + 6 * MS),
        *(
            Ticker(venue="DERIBIT", symbol=symbol, event_time=AT + i, mark_iv=0.5 + i)
            for i, symbol in enumerate(OPTIONS)
        ),
        Ticker(venue="DERIBIT", symbol="odd", event_time=AT + 9, mark_iv=9.0),
        Funding(venue="BINANCE_FUTURES", symbol="BTCUSDT", event_time=AT + 7, rate=1e-4),
        Funding(
            venue="BINANCE_FUTURES",
            symbol="BTCUSDT",
            event_time=AT + 8 * MS,
            rate=2e-4,
            next_funding_time=AT - AT % MS + MS,
        ),
        PriceIndex(venue="DERIBIT", symbol="btc_usd", event_time=AT, price=5.0),
        OrderBook(
            venue="V",
            symbol="S",
            event_time=AT,
            bids=((1.0, 1.0),),
            asks=((2.0, 3.0),),
            snapshot=True,
        ),
    ]
    with closing(influx.server()) as server:
        assert (await TickSink(server=server).write(messages)).rejected == ()
        yield Ticks(server=server)


def test_trades_as_a_frame(ticks: Ticks) -> None:
    frame = ticks.read("trades", "BTCUSDT", "BINANCE_SPOT").pandas()
    assert list(frame.columns) == ["side", "price", "quantity", "trade_id"]
    assert (frame.index.name, str(frame.index.dtype)) == ("event_time", "datetime64[ns, UTC]")
    assert list(frame.index) == [START + pd.Timedelta(i // 3, "ms") for i in range(9)]
    assert list(frame["trade_id"])[3:] == [str(70 + i) for i in range(3, 9)]
    assert frame["trade_id"].isna().sum() == 1
    by_price = frame.sort_values("price")
    assert list(by_price["price"]) == [float(i) for i in range(9)]
    assert list(by_price["side"]) == ["buy", "sell"] * 4 + ["buy"]
    assert str(frame["price"].dtype) == "float64"


def test_the_kinds_of_frames_agree(ticks: Ticks) -> None:
    found = ticks.read("trades", "BTCUSDT", "BINANCE_SPOT")
    table, frame = found.arrow(), found.polars()
    assert frame.schema["event_time"] == pl.Datetime("ns", "UTC")
    assert str(table.schema.field("event_time").type) == "timestamp[ns, tz=UTC]"
    assert frame.to_arrow().to_pylist() == table.to_pylist()
    assert found.pandas().reset_index()["price"].to_list() == frame["price"].to_list()


def test_a_range_is_half_open_by_the_time_of_the_venue(ticks: Ticks) -> None:
    """The slot does not count: what the venue did in a millisecond is in it or not."""
    second = START + pd.Timedelta(1, "ms")
    third = START + pd.Timedelta(2, "ms")

    def prices(start: Any, end: Any) -> list[float]:
        frame = ticks.read("trades", "BTCUSDT", "BINANCE_SPOT", start, end).pandas()
        return sorted(frame["price"])

    assert prices(second, third) == [3.0, 4.0, 5.0]
    assert prices(None, second) == [0.0, 1.0, 2.0]
    assert prices(third, None) == [6.0, 7.0, 8.0]
    within = START + pd.Timedelta(300, "us")
    assert prices(within, third) == [3.0, 4.0, 5.0]
    assert prices(None, within) == [0.0, 1.0, 2.0]
    assert prices("2024-08-08", "2024-08-10") == [float(i) for i in range(9)]
    assert prices(START, START) == []
    with pytest.raises(Refused, match="lies before"):
        prices(third, second)


def test_without_names_all_is_read_and_the_names_are_columns(ticks: Ticks) -> None:
    frame = ticks.read("trades").pandas()
    assert list(frame.columns) == ["exchange", "side", "symbol", "price", "quantity", "trade_id"]
    assert len(frame) == 11
    spot = ticks.read("trades", exchange="BINANCE_SPOT").pandas()
    assert list(spot.columns) == ["side", "symbol", "price", "quantity", "trade_id"]
    assert len(spot) == 10


def test_states_have_their_own_times_and_nulls_stay(ticks: Ticks) -> None:
    frame = ticks.read("funding_rate", "BTCUSDT", "BINANCE_FUTURES").pandas()
    assert list(frame.index) == [START + pd.Timedelta(7, "ns"), START + pd.Timedelta(8, "ms")]
    assert frame["mark_price"].isna().all()
    assert str(frame["next_funding_time"].dtype) == "Int64"
    assert frame["next_funding_time"].isna().to_list() == [True, False]
    assert frame["next_funding_time"].iloc[1] == AT // MS + 1


def test_an_index_by_its_name(ticks: Ticks) -> None:
    assert ticks.read("price_index", "btc_usd", "DERIBIT").pandas()["price"].to_list() == [5.0]
    assert list(ticks.read("price_index").pandas().columns) == ["exchange", "index_name", "price"]


@pytest.mark.parametrize(
    ("terms", "symbols"),
    [
        ({"coin": "BTC"}, OPTIONS[:3]),
        ({"coin": "BTC", "expiry": "2024-06-07"}, OPTIONS[:2]),
        ({"expiry": date(2024, 6, 7)}, [*OPTIONS[:2], OPTIONS[3]]),
        ({"strike": 70000}, OPTIONS[:3]),
        ({"kind": "put"}, OPTIONS[1:2]),
        ({"coin": "BTC", "expiry": "2024-06-07", "strike": 70000.0, "kind": "call"}, OPTIONS[:1]),
    ],
)
def test_options_by_their_terms(ticks: Ticks, terms: dict[str, Any], symbols: list[str]) -> None:
    frame = ticks.read("options_ticker", exchange="DERIBIT", **terms).pandas()
    assert list(frame["symbol"]) == symbols
    assert list(frame["mark_iv"]) == [0.5 + OPTIONS.index(symbol) for symbol in symbols]


def test_options_without_terms_have_them_beside(ticks: Ticks) -> None:
    frame = ticks.read("options_ticker", exchange="DERIBIT").pandas()
    assert list(frame["symbol"]) == [*OPTIONS, "odd"]
    first, odd = frame.iloc[0], frame.iloc[4]
    assert first["expiry"] == datetime(2024, 6, 7, 8, tzinfo=UTC)
    assert (first["strike"], first["kind"]) == (70000.0, "call")
    assert pd.isna(odd["expiry"])
    assert math.isnan(odd["strike"])
    one = ticks.read("options_ticker", OPTIONS[0], "DERIBIT").pandas()
    assert "symbol" not in one.columns
    assert "strike" not in one.columns


def test_names_that_are_not_there(ticks: Ticks) -> None:
    with pytest.raises(
        UnknownName, match=r"measurement 'trade' has no points; did you mean trades"
    ):
        ticks.read("trade")
    with pytest.raises(UnknownName, match=r"symbol 'BTCUSD' .* did you mean BTCUSDT"):
        ticks.read("trades", "BTCUSD", "BINANCE_SPOT").arrow()
    with pytest.raises(UnknownName, match=r"exchange 'BINANCE' .* did you mean BINANCE_"):
        ticks.read("trades", "BTCUSDT", "BINANCE").arrow()
    with pytest.raises(UnknownName, match=r"there is none at all: the tick runner writes them"):
        ticks.read("liquidation", "BTCUSDT", "BINANCE_SPOT").arrow()
    assert ticks.read("liquidation").arrow().num_rows == 0
    assert (
        ticks.read("trades", "BTCUSDT", "BINANCE_SPOT", "2023-01-01", "2023-01-02").arrow().num_rows
        == 0
    )
    with pytest.raises(
        UnknownName,
        match=r"no option .* coin BTC, strike 5; of BTC there are 2024-06-07, 2024-06-28",
    ):
        ticks.read("options_ticker", exchange="DERIBIT", coin="BTC", strike=5).arrow()


def test_questions_that_have_no_answer(ticks: Ticks) -> None:
    with pytest.raises(Refused, match="read options_ticker"):
        ticks.read("trades", exchange="DERIBIT", coin="BTC")
    with pytest.raises(Refused, match="name it, and no symbol"):
        ticks.read("options_ticker", coin="BTC")
    with pytest.raises(Refused, match="allowed are call and put"):
        ticks.read("options_ticker", exchange="DERIBIT", kind="C")  # type: ignore[arg-type]
    with pytest.raises(Refused, match=r"start .* is no time"):
        ticks.read("trades", start="yesterday")


@pytest.mark.parametrize(
    "name", ["it's", 'say "so"', "a\\'b", "x' OR '1'='1", "'; DROP MEASUREMENT trades; --", "/.*/"]
)
def test_names_are_quoted(ticks: Ticks, name: str) -> None:
    with pytest.raises(UnknownName):
        ticks.read("trades", name, "BINANCE_SPOT").arrow()
    with pytest.raises(UnknownName):
        ticks.read("trades", "BTCUSDT", name).arrow()
    assert ticks.read("trades").arrow().num_rows == 11


def test_the_question(influx: InfluxBucket) -> None:
    selection = Selection(
        measurement=MEASUREMENTS["trades"],
        symbols=("A", "B/C.d"),
        exchange="it's",
        span=Span(start=AT + 1, end=AT + MS + 1),
    )
    columns = '"exchange"::tag, "side"::tag, "symbol"::tag'
    fields = '"price"::field, "quantity"::field, "trade_id"::field'
    symbols = '"symbol" =~ /^(?:A|B\\/C\\.d)$/'
    assert select(selection).split(" FROM ") == [
        f"SELECT {columns}, {fields}",
        f'"trades" WHERE {symbols} AND "exchange" = \'it\\\'s\' '
        f"AND time >= {AT + MS} AND time < {AT + 2 * MS} ORDER BY time",
    ]


async def test_messages_come_back_as_they_were(ticks: Ticks) -> None:
    found = [m for part in ticks.parts("trades", "BTCUSDT", "BINANCE_SPOT") for m in part]
    assert sorted(found, key=lambda m: m.price) == [
        replace(t, event_time=t.event_time - t.event_time % MS) for t in TRADES
    ]
    (book,) = [m for part in ticks.parts("orderbook") for m in part]
    assert isinstance(book, OrderBook)
    assert (book.bids, book.asks, book.snapshot) == (((1.0, 1.0),), ((2.0, 3.0),), True)


async def test_written_again_they_are_the_same_points(ticks: Ticks, influx: InfluxBucket) -> None:
    names = list(MEASUREMENTS)
    before = [influx.points(name) for name in names]
    messages = [m for name in names for part in ticks.parts(name) for m in part]
    await TickSink(server=ticks.server).write(messages)
    assert [influx.points(name) for name in names] == before


async def test_points_of_somebody_else_are_passed_over(ticks: Ticks) -> None:
    lines: list[str] = []
    handler = logger.add(lambda line: lines.append(str(line)), format="{message} {extra[points]}")
    at = AT + 100 * MS
    body = f"trades,exchange=X,side=buy,symbol=S quantity=1 {at}\ntrades price=1,quantity=1 {at}"
    assert ticks.server.write(body.encode()).status == 204
    found = [m for part in ticks.parts("trades") for m in part]
    logger.remove(handler)
    assert len(found) == 11
    assert lines == ["POINTS_PASSED_OVER 2\n"]
    assert ticks.read("trades").arrow().num_rows == 13


async def test_many_points_are_read_in_pieces(influx: InfluxBucket) -> None:
    indices = [
        PriceIndex(venue="V", symbol="S", event_time=AT + i, price=float(i)) for i in range(25_000)
    ]
    with closing(influx.server()) as server:
        await TickSink(server=server).write(indices)
        ticks = Ticks(server=server)
        assert [m for part in ticks.parts("price_index") for m in part] == indices
        assert ticks.read("price_index").arrow()["price"].to_pylist() == [
            float(i) for i in range(25_000)
        ]
        some = ticks.parts("price_index")
        assert next(some) == indices[:10_000]
        some.close()  # in the middle


async def test_half_an_answer_is_not_taken_for_a_whole_one(influxd_of_its_own: Influxd) -> None:
    """The server is killed while it is read."""
    indices: list[Message] = [
        PriceIndex(venue="V", symbol="S", event_time=AT + i, price=float(i)) for i in range(200_000)
    ]
    with bucket_on(influxd_of_its_own, "strict") as influx:
        with closing(influx.server()) as server:
            await TickSink(server=server).write(indices)
        with closing(influx.server(url=influxd_of_its_own.url)) as server:  # as it streams
            parts = Ticks(server=server).parts("price_index")
            assert len(next(parts)) == 10_000
            influxd_of_its_own.stop(signal.SIGKILL)
            with pytest.raises(Unavailable):
                list(parts)


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"url": "http://127.0.0.1:1"}, Unavailable, "refused"),
        ({"token": "none"}, Unavailable, r"401.*influx\.token"),
        ({"bucket": "not_there"}, Refused, "not found"),
    ],
)
def test_servers_that_do_not_answer_or_refuse(
    influx: InfluxBucket, changed: dict[str, Any], error: type[Exception], match: str
) -> None:
    with closing(influx.server(**changed)) as server, pytest.raises(error, match=match):
        Ticks(server=server).read("trades").arrow()
