"""One line to one message, and why not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravenwh.domain.interval import INTERVALS
from ravenwh.domain.messages import Candle, Trade
from ravenwh.sources.rows import BadRow, Kind, Parser, parser

MS = 10**6  # nanoseconds
OPEN = 1_704_067_200_000  # 2024-01-01 00:00 UTC, a Monday
GOOD = f"{OPEN},10,12,9,11,3.5,{OPEN + 59_999},38.5,7,1.25,13.75,0"
COLUMNS = 12


def klines(interval: str = "1m") -> Parser:
    return parser("klines", venue="BINANCE_SPOT", symbol="BTCUSDT", interval=interval)


def trades(kind: Kind = "trades") -> Parser:
    return parser(kind, venue="BINANCE_SPOT", symbol="BTCUSDT")


def with_column(at: int, text: str) -> bytes:
    fields = GOOD.split(",")
    fields[at] = text
    return ",".join(fields).encode()


def test_a_kline() -> None:
    assert klines()(GOOD.encode()) == Candle(
        venue="BINANCE_SPOT",
        symbol="BTCUSDT",
        event_time=(OPEN + 59_999) * MS,
        producer="replay",
        interval="1m",
        open_time=OPEN * MS,
        close_time=(OPEN + 59_999) * MS,
        open=10.0,
        high=12.0,
        low=9.0,
        close=11.0,
        volume=3.5,
        quote_volume=38.5,
        trade_count=7,
        taker_buy_volume=1.25,
        taker_buy_quote_volume=13.75,
        closed=True,
    )


def test_microseconds_mean_the_same_instant() -> None:
    us = with_column(0, f"{OPEN}000").replace(str(OPEN + 59_999).encode(), b"1704067259999999")
    kline = klines()(us)
    assert isinstance(kline, Candle)
    assert kline.open_time == OPEN * MS
    assert kline.close_time == kline.event_time == 1_704_067_259_999_999_000


@pytest.mark.parametrize(
    ("volume", "count", "known"),
    [("3.5", "0", False), ("0", "0", True), ("0.0", "0", True), ("3.5", "1", True)],
)
def test_a_kline_with_volume_but_no_trades_does_not_know_its_optional_columns(
    volume: str, count: str, known: bool
) -> None:
    fields = GOOD.split(",")
    fields[5], fields[8] = volume, count
    kline = klines()(",".join(fields).encode())
    assert isinstance(kline, Candle)
    optional = (
        kline.quote_volume,
        kline.trade_count,
        kline.taker_buy_volume,
        kline.taker_buy_quote_volume,
    )
    assert optional == ((38.5, int(count), 1.25, 13.75) if known else (None,) * 4)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (GOOD.rsplit(",", 1)[0].encode(), "11 columns, where 12 are expected"),
        (GOOD.encode() + b",1", "13 columns"),
        (b"open_time,open,high", "3 columns"),
        (with_column(0, "x"), "open_time is 'x', not a whole number"),
        (with_column(0, "1704067200000.0"), "open_time"),
        (with_column(0, str(OPEN + 1)), "no start of a period of 1m"),
        (with_column(0, "1704067200"), "13 digits"),
        (with_column(0, "1704067200000000000"), "13 digits"),
        (with_column(0, "-1704067200000"), "13 digits"),
        (with_column(0, "9" * 5000), "open_time is"),
        (with_column(1, ""), "open is '', not a number"),
        (with_column(1, "nan"), "open is 'nan', not a finite number"),
        (with_column(2, "inf"), "high is 'inf', not a finite number"),
        (with_column(3, "-Infinity"), "low is '-Infinity', not a finite number"),
        (with_column(4, "1e999"), "close is '1e999', not a finite number"),
        (with_column(4, "1_0"), "close is '1_0', not a number"),
        (with_column(4, "\u0661"), r"close is '\xd9\xa1', not a number"),
        (with_column(2, "8.5"), "high '8.5' is below low '9'"),
        (with_column(1, "99"), "open and close must lie between low and high"),
        (with_column(4, "0.5"), "open and close must lie between low and high"),
        (with_column(5, "-0.1"), "volume is '-0.1', below zero"),
        (with_column(5, "NaN"), "volume is 'NaN', not a finite number"),
        (with_column(6, str(OPEN - 1)), "is before open_time"),
        (with_column(6, str(OPEN + 60_001)), "more than 1m after open_time"),
        (with_column(6, ""), "close_time is ''"),
        (with_column(7, "-1"), "quote_volume is '-1', below zero"),
        (with_column(8, "-1"), "count is '-1'"),
        (with_column(8, "1.5"), "count is '1.5', not a whole number"),
        (with_column(8, str(2**63)), "count is '9223372036854775808'"),
        (with_column(9, "-1"), "taker_buy_volume is '-1'"),
        (with_column(10, "?"), "taker_buy_quote_volume is '?', not a number"),
    ],
)
def test_a_bad_kline_is_told_by_its_first_wrong_column(line: bytes, reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        klines()(line)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 250


def test_the_unit_of_the_first_row_holds_for_the_file() -> None:
    parse = klines()
    with pytest.raises(BadRow, match="13 digits"):
        parse(with_column(0, "0"))
    parse(GOOD.encode())
    us = with_column(0, f"{OPEN}000").replace(str(OPEN + 59_999).encode(), b"1704067259999999")
    with pytest.raises(BadRow, match="no time in milliseconds, as the rows before have"):
        parse(us)
    assert isinstance(parse(GOOD.encode()), Candle)


@pytest.mark.parametrize(
    ("interval", "good", "bad"),
    [
        ("1s", OPEN + 1000, OPEN + 500),
        ("1h", OPEN + 3_600_000, OPEN + 60_000),
        ("1d", OPEN + 86_400_000, OPEN + 43_200_000),
        ("3d", OPEN + 86_400_000, OPEN + 43_200_000),
        ("1w", OPEN, OPEN + 3 * 86_400_000),  # a Thursday is no start of a week
    ],
)
def test_klines_open_where_their_interval_starts(interval: str, good: int, bad: int) -> None:
    def line(at: int) -> bytes:
        last = at + INTERVALS[interval].duration_ns // MS - 1
        return f"{at},1,1,1,1,1,{last},1,1,1,1,0".encode()

    assert isinstance(klines(interval)(line(good)), Candle)
    with pytest.raises(BadRow, match=f"no start of a period of {interval}"):
        klines(interval)(line(bad))


@pytest.mark.parametrize(
    ("kind", "line", "time_ns", "side"),
    [
        ("trades", b"42,1.5,2,3,1704067200123,True,True", 1_704_067_200_123 * MS, "sell"),
        ("trades", b"42,1.5,2,3,1704067200123,false", 1_704_067_200_123 * MS, "buy"),
        ("trades", b"42,1.5,2,3,1704067200123456,true,true\r", 1_704_067_200_123_456_000, "sell"),
        ("aggTrades", b"42,1.5,2,7,9,1704067200123,False,True", 1_704_067_200_123 * MS, "buy"),
        ("aggTrades", b"42,1.5,2,7,9,1704067200123,true", 1_704_067_200_123 * MS, "sell"),
    ],
)
def test_a_trade(kind: Kind, line: bytes, time_ns: int, side: str) -> None:
    trade = trades(kind)(line)
    assert isinstance(trade, Trade)
    assert (trade.event_time, trade.side, trade.trade_id) == (time_ns, side, "42")
    assert (trade.price, trade.quantity, trade.producer) == (1.5, 2.0, "replay")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,2,3", "3 columns, where 6 or 7"),
        (b"x,1.5,2,3,1704067200123,True,True", "id is 'x'"),
        (b"-1,1.5,2,3,1704067200123,True,True", "id is '-1'"),
        (b",1.5,2,3,1704067200123,True,True", "id is ''"),
        (b"1,abc,2,3,1704067200123,True,True", "price is 'abc', not a number"),
        (b"1,nan,2,3,1704067200123,True,True", "finite"),
        (b"1,1.5,-2,3,1704067200123,True,True", "not negative"),
        (b"1,1.5,2,3,170406720012,True,True", "13 digits"),
        (b"1,1.5,2,3,17040672001_3,True,True", "time is"),
        (b"1,1.5,2,3,1704067200123,maybe,True", "is_buyer_maker is 'maybe', not true or false"),
    ],
)
def test_a_bad_trade_is_told_by_its_first_wrong_column(line: bytes, reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        trades()(line)
    assert reason in str(caught.value)


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_prices_are_read_exactly(value: float) -> None:
    fields = GOOD.split(",")
    fields[1:5] = [repr(value)] * 4
    kline = klines()(",".join(fields).encode())
    assert isinstance(kline, Candle)
    assert kline.open == kline.high == kline.low == kline.close == value


@given(
    at=st.integers(0, COLUMNS - 1),
    text=st.one_of(
        st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=12),
        st.integers().map(str),
        st.floats().map(str),
    ),
)
def test_any_column_gives_a_kline_that_can_be_or_a_reason(at: int, text: str) -> None:
    try:
        kline = klines()(with_column(at, text))
    except BadRow:
        return
    assert isinstance(kline, Candle)
    assert kline.low <= kline.high
    assert kline.volume >= 0
    assert all(math.isfinite(v) for v in (kline.open, kline.high, kline.low, kline.close))
    assert kline.open_time % (60_000 * MS) == 0
    assert kline.open_time <= kline.close_time < 2**63
