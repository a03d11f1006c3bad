"""Messages become lines: byte for byte, or a reason why not."""

from __future__ import annotations

import math
import random
import re
from itertools import islice
from typing import Any

import pytest
from msgspec.structs import replace

from ravenwh.domain.errors import Rejected
from ravenwh.domain.messages import (
    Candle,
    Funding,
    Liquidation,
    Message,
    OpenInterest,
    OrderBook,
    PriceIndex,
    Ticker,
    Trade,
)
from ravenwh.staging.encoder import REMEMBERED, SERIES, Encoder
from ravenwh.staging.identity import MILLISECOND, venue_time
from ravenwh.staging.measurements import MEASUREMENTS

AT = 1_723_161_255_342_000_000
TRADE = Trade(
    venue="BINANCE_SPOT",
    symbol="BTCUSDT",
    event_time=AT,
    price=61837.63,
    quantity=0.00012,
    side="buy",
    trade_id="3712345678",
)
BOOK = OrderBook(
    venue="BINANCE_FUTURES",
    symbol="BTCUSDT",
    event_time=AT,
    bids=((61837.6, 3.0), (61837.5, 1.0)),
    asks=((61837.7, 1.0),),
    snapshot=True,
)
FUNDING = Funding(venue="BINANCE_FUTURES", symbol="BTCUSDT", event_time=AT, rate=0.0001)
LIQUIDATION = Liquidation(
    venue="BINANCE_FUTURES",
    symbol="BTCUSDT",
    event_time=AT,
    price=61800.1,
    quantity=0.25,
    side="sell",
)
INTEREST = OpenInterest(
    venue="BINANCE_FUTURES", symbol="BTCUSDT", event_time=AT, open_interest=80123.456
)
TICKER = Ticker(venue="DERIBIT", symbol="BTC-7JUN24-70000-C", event_time=AT, mark_iv=0.6512)
INDEX = PriceIndex(venue="DERIBIT", symbol="btc_usd", event_time=AT, price=61840.25)


def line_of(message: Message) -> str:
    """The line of a message, by an encoder of its own."""
    encoded = Encoder().encode([message])
    assert encoded.rejected == (), encoded.rejected
    (line,) = encoded.lines
    return line


def refusal_of(message: Message) -> Rejected:
    """Why a message can be no point."""
    encoded = Encoder().encode([message])
    assert list(encoded.lines) == []
    ((index, error),) = encoded.rejected
    assert index == 0
    assert isinstance(error, Rejected)
    return error


def times_of(lines: Any) -> list[int]:
    return [int(line.rpartition(" ")[2]) for line in lines]


@pytest.mark.parametrize(
    ("message", "line"),
    [
        pytest.param(
            TRADE,
            "trades,exchange=BINANCE_SPOT,side=buy,symbol=BTCUSDT "
            'price=61837.63,quantity=0.00012,trade_id="3712345678" 1723161255342345678',
            id="trade",
        ),
        pytest.param(
            replace(TRADE, trade_id=None, side="sell"),
            "trades,exchange=BINANCE_SPOT,side=sell,symbol=BTCUSDT "
            "price=61837.63,quantity=0.00012 1723161255342991307",
            id="trade without an id",
        ),
        pytest.param(
            replace(TRADE, trade_id="0f8fad5b-d9cb-469f-a165-70867728950e"),
            "trades,exchange=BINANCE_SPOT,side=buy,symbol=BTCUSDT price=61837.63,quantity=0.00012,"
            'trade_id="0f8fad5b-d9cb-469f-a165-70867728950e" 1723161255342489504',
            id="trade with a UUID",
        ),
        pytest.param(
            BOOK,
            "orderbook,exchange=BINANCE_FUTURES,symbol=BTCUSDT bid_price=61837.6,bid_qty=3.0,"
            "ask_price=61837.7,ask_qty=1.0,spread=0.09999999999854481,mid_price=61837.649999999994,"
            "imbalance=0.75 1723161255342000000",
            id="book",
        ),
        pytest.param(
            replace(
                FUNDING,
                mark_price=61840.5,
                index_price=61839,
                next_funding_time=1_723_161_600_000_000_000,
            ),
            "funding_rate,exchange=BINANCE_FUTURES,symbol=BTCUSDT rate=0.0001,mark_price=61840.5,"
            "index_price=61839.0,next_funding_time=1723161600000i 1723161255342000000",
            id="funding",
        ),
        pytest.param(
            replace(FUNDING, next_funding_time=0),
            "funding_rate,exchange=BINANCE_FUTURES,symbol=BTCUSDT rate=0.0001 1723161255342000000",
            id="funding that says no more",
        ),
        pytest.param(
            LIQUIDATION,
            "liquidation,exchange=BINANCE_FUTURES,side=sell,symbol=BTCUSDT "
            "price=61800.1,quantity=0.25 1723161255342364549",
            id="liquidation",
        ),
        pytest.param(
            replace(INTEREST, open_interest_value=4954000000.5),
            "open_interest,exchange=BINANCE_FUTURES,symbol=BTCUSDT "
            "open_interest=80123.456,open_interest_value=4954000000.5 1723161255342000000",
            id="open interest",
        ),
        pytest.param(
            INTEREST,
            "open_interest,exchange=BINANCE_FUTURES,symbol=BTCUSDT open_interest=80123.456 "
            "1723161255342000000",
            id="open interest without a value",
        ),
        pytest.param(
            replace(
                TICKER,
                event_time=AT + 123,
                open_interest=1,
                best_bid_price=0.01,
                best_ask_price=0.02,
                mark_price=1e-7,
                underlying_price=61840.0,
                last_price=0.015,
                bid_iv=0.6,
                ask_iv=0.7,
            ),
            "options_ticker,exchange=DERIBIT,symbol=BTC-7JUN24-70000-C open_interest=1.0,"
            "mark_iv=0.6512,best_bid_price=0.01,best_ask_price=0.02,mark_price=1e-07,"
            "underlying_price=61840.0,last_price=0.015,bid_iv=0.6,ask_iv=0.7 1723161255342000123",
            id="ticker of an option",
        ),
        pytest.param(
            TICKER,
            "options_ticker,exchange=DERIBIT,symbol=BTC-7JUN24-70000-C mark_iv=0.6512 "
            "1723161255342000000",
            id="ticker that says one thing",
        ),
        pytest.param(
            INDEX,
            "price_index,exchange=DERIBIT,index_name=btc_usd price=61840.25 1723161255342000000",
            id="index",
        ),
    ],
)
def test_golden_lines(message: Message, line: str) -> None:
    assert line_of(message) == line


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_lines_have_what_the_table_says(name: str) -> None:
    """Every field of a measurement, in its order, with the type that InfluxDB then keeps."""
    said: dict[str, Message] = {
        "trades": TRADE,
        "orderbook": BOOK,
        "funding_rate": replace(FUNDING, mark_price=1, index_price=2, next_funding_time=AT),
        "liquidation": LIQUIDATION,
        "open_interest": replace(INTEREST, open_interest_value=1),
        "options_ticker": replace(
            TICKER, **{field.name: 1 for field in MEASUREMENTS["options_ticker"].fields}
        ),
        "price_index": INDEX,
    }
    measurement = MEASUREMENTS[name]
    begin, fields, _ = line_of(said[name]).split(" ")
    assert begin.split(",")[0] == name
    assert tuple(tag.split("=")[0] for tag in begin.split(",")[1:]) == measurement.tags
    kinds = [(f.split("=")[0], kind_of(f.split("=")[1])) for f in fields.split(",")]
    assert kinds == [(field.name, field.kind) for field in measurement.fields]


def kind_of(value: str) -> type:
    if value.startswith('"'):
        return str
    return int if re.fullmatch(r"-?\d+i", value) else float


def test_a_whole_price_never_becomes_an_integer() -> None:
    line = line_of(replace(TRADE, price=96321, quantity=True))
    assert "price=96321.0,quantity=1.0," in line


def test_tags_and_texts_are_escaped() -> None:
    trade = replace(TRADE, venue="A=B", symbol="币安 人,生/USDT", trade_id='a"b\\c d,e=f')
    line = line_of(trade)
    assert line.startswith("trades,exchange=A\\=B,side=buy,symbol=币安\\ 人\\,生/USDT ")
    assert ',trade_id="a\\"b\\\\c d,e=f" ' in line


HOSTILE: list[tuple[Message, str]] = [
    (replace(TRADE, price=math.nan), "NOT_FINITE"),
    (replace(TRADE, quantity=-math.inf), "NOT_FINITE"),
    (replace(TRADE, price=10**400), "NOT_ENCODABLE"),
    (replace(TRADE, price=None), "NOT_ENCODABLE"),
    (replace(TRADE, price="nine"), "NOT_ENCODABLE"),
    (replace(TRADE, symbol=""), "BAD_TAG"),
    (replace(TRADE, symbol="a\\"), "BAD_TAG"),
    (replace(TRADE, symbol="a\nb,c=d e=1 5"), "BAD_TAG"),
    (replace(TRADE, symbol="\ud800"), "BAD_TAG"),
    (replace(TRADE, symbol="x" * 70_000), "BAD_TAG"),
    (replace(TRADE, symbol=None), "NOT_ENCODABLE"),
    (replace(TRADE, venue=" \x00"), "BAD_TAG"),
    (replace(TRADE, side=""), "BAD_TAG"),
    (replace(TRADE, side="long"), "BAD_TAG"),
    (replace(TRADE, trade_id="a\rb"), "BAD_ID"),
    (replace(TRADE, trade_id="\udfff"), "BAD_ID"),
    (replace(TRADE, trade_id=12345), "NOT_ENCODABLE"),
    (replace(TRADE, event_time=AT // MILLISECOND), "BAD_TIME"),
    (replace(TRADE, event_time=AT // 1_000_000_000), "BAD_TIME"),
    (replace(TRADE, event_time=float(AT)), "BAD_TIME"),
    (replace(TRADE, event_time=2**70), "BAD_TIME"),
    (replace(TRADE, event_time=-1), "BAD_TIME"),
    (replace(TRADE, event_time=None), "NOT_ENCODABLE"),
    (replace(BOOK, snapshot=False), "NOT_A_BOOK"),
    (replace(BOOK, bids=()), "ONE_SIDED"),
    (replace(BOOK, asks=()), "ONE_SIDED"),
    (replace(BOOK, bids=((math.nan, 1.0),)), "NOT_FINITE"),
    (replace(BOOK, bids=((1.0, math.inf),)), "NOT_FINITE"),
    (replace(BOOK, bids=((1.0, 0.0),), asks=((2.0, 0.0),)), "NOT_FINITE"),
    (replace(BOOK, bids=((1e308, 1.0),), asks=((1.7e308, 1.0),)), "NOT_FINITE"),
    (replace(BOOK, bids=(5,)), "NOT_ENCODABLE"),
    (replace(BOOK, event_time=AT // MILLISECOND), "BAD_TIME"),
    (replace(FUNDING, rate=math.nan), "NOT_FINITE"),
    (replace(FUNDING, next_funding_time=1_723_161_600_000), "BAD_TIME"),
    (replace(FUNDING, next_funding_time=2**80), "BAD_TIME"),
    (replace(FUNDING, next_funding_time=1.5e18), "NOT_ENCODABLE"),
    (replace(FUNDING, symbol="\t"), "BAD_TAG"),
    (replace(LIQUIDATION, price=math.inf), "NOT_FINITE"),
    (replace(LIQUIDATION, event_time=float(AT)), "BAD_TIME"),
    (replace(LIQUIDATION, side="x"), "BAD_TAG"),
    (replace(INTEREST, open_interest=math.nan), "NOT_FINITE"),
    (replace(TICKER, mark_iv=None), "EMPTY"),
    (replace(TICKER, mark_iv=math.nan), "EMPTY"),
    (replace(TICKER, mark_iv="0.5"), "NOT_ENCODABLE"),
    (replace(INDEX, price=-math.inf), "NOT_FINITE"),
    (
        Candle(
            venue="V",
            symbol="S",
            event_time=AT,
            interval="1m",
            open_time=AT,
            close_time=AT,
            open=1,
            high=1,
            low=1,
            close=1,
            volume=1,
        ),
        "NO_MEASUREMENT",
    ),
]


@pytest.mark.parametrize(("message", "code"), HOSTILE)
def test_what_can_be_no_point_is_refused(message: Message, code: str) -> None:
    error = refusal_of(message)
    assert error.code == code
    assert "allowed" in str(error) or code == "NOT_ENCODABLE"
    assert len(str(error)) < 400


def test_optional_fields_that_are_no_numbers_are_left_out() -> None:
    funding = replace(FUNDING, mark_price=math.nan, index_price=math.inf)
    assert line_of(funding) == line_of(FUNDING)


def test_the_sum_of_huge_numbers_is_no_reason_to_refuse() -> None:
    line = line_of(replace(TRADE, price=1.7e308, quantity=1.7e308))
    assert "price=1.7e+308,quantity=1.7e+308," in line


def test_a_batch_tells_which_message_each_line_is_of() -> None:
    bad = replace(TRADE, price=math.nan)
    encoded = Encoder().encode([bad, TRADE, bad, INDEX, FUNDING, bad])
    assert list(encoded.indices) == [1, 3, 4]
    assert [line.split(",")[0] for line in encoded.lines] == [
        "trades",
        "price_index",
        "funding_rate",
    ]
    assert [index for index, _ in encoded.rejected] == [0, 2, 5]


def test_measurements_and_sides_do_not_share_what_is_remembered() -> None:
    """A venue may be called as another thing is."""
    odd = replace(TRADE, venue="funding_rate", symbol="BINANCE_FUTURES", side="buy")
    funding = replace(FUNDING, venue="BINANCE_FUTURES", symbol="buy")
    lines = Encoder().encode([odd, funding, odd, funding]).lines
    assert [line.split(" ")[0] for line in lines[:2]] == [
        "trades,exchange=funding_rate,side=buy,symbol=BINANCE_FUTURES",
        "funding_rate,exchange=BINANCE_FUTURES,symbol=buy",
    ]
    assert list(lines[2:]) == list(lines[:2])


# When a point is.


def test_a_live_and_an_archived_copy_of_a_trade_are_one_point() -> None:
    live = replace(TRADE, event_time=AT + 987_654, producer="live")
    assert line_of(live) == line_of(TRADE)
    assert venue_time(times_of([line_of(live)])[0]) == AT


@pytest.mark.parametrize(
    ("trade_id", "slot"),
    [
        ("0", 0),
        ("7", 7),
        ("999999", 999_999),
        ("1000000", 0),
        ("3712345678", 345_678),
        ("18446744073709551616", 551_616),
        ("9" * 40, 999_999),
        ("0000000000000012345", 12_345),
        ("٣٤٥", 345),
    ],
)
def test_the_slot_of_a_decimal_id(trade_id: str, slot: int) -> None:
    assert times_of([line_of(replace(TRADE, trade_id=trade_id))]) == [AT + slot]


def test_ids_that_differ_only_in_leading_zeros_are_two_trades() -> None:
    encoder = Encoder()
    ids = ["12", "012", "0012", "1000012", "12", "012"]
    lines = encoder.encode([replace(TRADE, trade_id=i) for i in ids]).lines
    assert times_of(lines) == [AT + 12, AT + 13, AT + 14, AT + 15, AT + 12, AT + 13]
    assert encoder.ambiguous == 4  # of which the last is told again


def test_sequential_trades_of_a_millisecond_keep_their_order() -> None:
    trades = [replace(TRADE, trade_id=str(3_712_345_000 + i)) for i in range(1000)]
    encoder = Encoder()
    times = times_of(encoder.encode(trades).lines)
    assert times == sorted(set(times))
    assert encoder.ambiguous == 0


def test_a_replay_in_any_order_takes_the_same_slots() -> None:
    """Of ids that are no numbers, many more than there would be: some collide."""
    rng = random.Random(5)
    trades = [replace(TRADE, trade_id=f"t-{i}") for i in range(3000)]
    encoder = Encoder()
    first = set(times_of(encoder.encode(trades).lines))
    assert len(first) == len(trades)
    assert encoder.ambiguous > 0
    for _ in range(5):
        rng.shuffle(trades)
        assert set(times_of(Encoder().encode(trades).lines)) == first
        assert set(times_of(encoder.encode(trades).lines)) == first  # in the same process too


def test_equal_trades_without_an_id_are_each_a_point_and_a_replay_adds_none() -> None:
    trade = replace(TRADE, trade_id=None)
    other = replace(trade, price=trade.price + 1)
    batch = [trade, other, trade, trade, replace(trade, side="sell")]
    encoder = Encoder()
    first = encoder.encode(batch)
    assert len(set(first.lines)) == 5
    assert encoder.ambiguous == 2
    assert set(encoder.encode(batch).lines) == set(first.lines)
    assert encoder.ambiguous == 2 + 5  # each may be a second print, or the same again
    assert set(Encoder().encode(batch).lines) == set(first.lines)
    assert set(encoder.encode([trade]).lines) < set(first.lines)


def test_an_empty_id_is_none() -> None:
    assert line_of(replace(TRADE, trade_id="")) == line_of(replace(TRADE, trade_id=None))


def test_states_keep_the_time_that_the_venue_says() -> None:
    assert times_of([line_of(replace(INDEX, event_time=AT + 1234))]) == [AT + 1234]


def test_milliseconds_may_come_mixed() -> None:
    """Of two milliseconds by turns, each remembers whose its slots are."""
    ids = ["5", "1000005", "2000005"]
    trades = [
        replace(TRADE, trade_id=i, event_time=AT + ms * MILLISECOND) for i in ids for ms in range(6)
    ]
    assert len(set(times_of(Encoder().encode(trades).lines))) == len(trades)


def test_what_is_remembered_is_bounded() -> None:
    encoder = Encoder()
    many = (
        replace(TRADE, symbol=f"S{i}", trade_id=str(i), event_time=AT + i * 7919 * MILLISECOND)
        for i in range(3 * SERIES)
    )
    while batch := list(islice(many, 5000)):
        encoder.encode(batch)
        encoder.encode([replace(INDEX, symbol=m.symbol) for m in batch])
    assert len(encoder._trades) <= SERIES + 5000
    assert len(encoder._states) <= SERIES + 5000


def test_a_clock_that_stands_still_fills_no_memory() -> None:
    encoder = Encoder()
    batch = [replace(TRADE, trade_id=str(i)) for i in range(50_000)]
    for _ in range(REMEMBERED // len(batch) + 1):
        encoder.encode(batch)
    held = sum(len(slots[AT]) for _, slots in encoder._trades.values())
    assert held == len(batch)  # those of the last batch: all before it were forgotten
    assert encoder._encoded == len(batch)
