"""What is written is what is read: through a real InfluxDB, types, times, digits and all."""

from __future__ import annotations

import math
import random
import string
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

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
from ravenwh.staging.encoder import Encoder
from ravenwh.staging.identity import MILLISECOND, venue_time
from ravenwh.staging.measurements import MEASUREMENTS
from ravenwh.staging.reading import Ticks
from ravenwh.staging.sink import TickSink
from tests.engines.influx import InfluxBucket

AT = 1_723_161_255_342_000_000

characters = st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" ")
printable = st.text(characters.filter(lambda c: c != "\\"), min_size=1, max_size=12)
names = (
    st.sampled_from(["BTCUSDT", "BTC-7JUN24-70000-C", "币安人生USDT", "a,b=c d", "'\"`#"])
    | printable
)
texts = st.text(characters, max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
optional = st.none() | numbers
times = st.integers(1_300_000_000_000_000_000, 4_000_000_000_000_000_000)
ids = st.none() | st.from_regex("[0-9]{1,25}", fullmatch=True) | st.uuids().map(str) | texts
amounts = st.floats(1e-9, 1e9)


def message(cls: type, **fields: Any) -> st.SearchStrategy[Any]:
    return st.builds(cls, venue=names, symbol=names, event_time=times, **fields)


sides = st.sampled_from(["buy", "sell"])
messages: st.SearchStrategy[Message] = st.one_of(
    message(Trade, price=numbers, quantity=numbers, side=sides, trade_id=ids),
    message(
        OrderBook,
        bids=st.tuples(st.tuples(amounts, amounts)),
        asks=st.tuples(st.tuples(amounts, amounts)),
        snapshot=st.just(True),
    ),
    message(
        Funding,
        rate=numbers,
        mark_price=optional,
        index_price=optional,
        next_funding_time=st.none() | times.map(lambda at: at - at % MILLISECOND),
    ),
    message(Liquidation, price=numbers, quantity=numbers, side=sides),
    message(OpenInterest, open_interest=numbers, open_interest_value=optional),
    message(Ticker, **{field.name: optional for field in MEASUREMENTS["options_ticker"].fields}),
    message(PriceIndex, price=numbers),
)


def as_read(message: Message) -> Message:
    """The message as a point tells it: without its producer, of events the millisecond."""
    if isinstance(message, Trade | Liquidation):
        message = replace(message, event_time=venue_time(message.event_time))
    if isinstance(message, Trade) and message.trade_id == "":
        message = replace(message, trade_id=None)
    return replace(message, producer="")


def canonical(messages: list[Message]) -> list[str]:
    """In one order, and exact: floats by their shortest digits; 0.0 and -0.0 are one."""
    return sorted(
        msgspec.json.encode(m, order="deterministic").decode() for m in map(unsigned, messages)
    )


def unsigned(message: Message) -> Message:
    """The zeros of a message without their sign, which InfluxDB's answers do not tell."""
    values = {f: getattr(message, f) for f in message.__struct_fields__}
    return replace(
        message, **{f: 0.0 for f, v in values.items() if isinstance(v, float) and v == 0.0}
    )


async def everything(bucket: InfluxBucket) -> list[Message]:
    server = bucket.server()
    ticks = Ticks(server=server)
    found = [m for name in MEASUREMENTS for part in ticks.parts(name) for m in part]
    server.close()
    return found


def distinct(batch: list[Message]) -> list[Message]:
    """Of messages that are one point the last one."""
    return list({identity(i, m): m for i, m in enumerate(batch)}.values())


def identity(number: int, m: Message) -> object:
    """What makes two messages the same point; those without an id are each a point."""
    if isinstance(m, Trade) and m.trade_id:
        return m.venue, m.symbol, m.side, venue_time(m.event_time), m.trade_id
    if isinstance(m, Trade | Liquidation):
        return number
    return type(m), m.venue, m.symbol, m.event_time


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.reuse, Phase.generate],  # each try is a round trip: shrinking takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(messages, min_size=10, max_size=25).map(distinct))
async def test_what_is_written_is_read(influx: InfluxBucket, batch: list[Message]) -> None:
    for name in MEASUREMENTS:
        influx.query(f'DROP SERIES FROM "{name}"')
    server = influx.server()
    sink = TickSink(server=server)
    result = await sink.write(batch)
    server.close()
    refused = {index for index, _ in result.rejected}
    written = [m for i, m in enumerate(batch) if i not in refused]
    assert all(isinstance(m, Ticker) for i, m in enumerate(batch) if i in refused)  # empty ones
    assert canonical(await everything(influx)) == canonical(list(map(as_read, written)))


async def test_types_are_those_of_the_table(influx: InfluxBucket) -> None:
    """Also where the first number of all is whole, which decides the type in a bucket for good."""
    whole: dict[str, Any] = {"venue": "V", "symbol": "S", "event_time": AT}
    ticker = dict.fromkeys((f.name for f in MEASUREMENTS["options_ticker"].fields), 7)
    batch: list[Message] = [
        Trade(**whole, price=96321, quantity=1, side="buy", trade_id="5"),
        OrderBook(**whole, bids=((1, 1),), asks=((2, 1),), snapshot=True),
        Funding(**whole, rate=0, mark_price=1, index_price=1, next_funding_time=AT),
        Liquidation(**whole, price=1, quantity=1, side="sell"),
        OpenInterest(**whole, open_interest=1, open_interest_value=1),
        Ticker(**whole, **ticker),
        PriceIndex(**whole, price=1),
    ]
    server = influx.server()
    result = await TickSink(server=server).write(batch)
    server.close()
    assert (result.written, result.rejected) == (len(batch), ())
    kinds = {float: "float", int: "integer", str: "string"}
    for measurement in MEASUREMENTS.values():
        reply = msgspec.json.decode(influx.query(f'SHOW FIELD KEYS FROM "{measurement.name}"'))
        found = {tuple(row) for row in reply["results"][0]["series"][0]["values"]}
        assert found == {(field.name, kinds[field.kind]) for field in measurement.fields}
        reply = msgspec.json.decode(influx.query(f'SHOW TAG KEYS FROM "{measurement.name}"'))
        tags = [row[0] for row in reply["results"][0]["series"][0]["values"]]
        assert tuple(tags) == measurement.tags


async def test_random_doubles_keep_every_digit(influx: InfluxBucket) -> None:
    rng = random.Random(9)
    numbers = [
        rng.choice((-1, 1)) * math.ldexp(rng.random(), rng.randint(-1000, 1000))
        for _ in range(5000)
    ]
    numbers += [5e-324, 1.7976931348623157e308, 1e22, 1e-7, 0.1, 123456789012345678.0]
    batch = [
        PriceIndex(venue="V", symbol="S", event_time=AT + i, price=number)
        for i, number in enumerate(numbers)
    ]
    server = influx.server()
    result = await TickSink(server=server).write(batch)
    assert result.written == len(batch)
    read = [m for part in Ticks(server=server).parts("price_index") for m in part]
    server.close()
    assert read == batch


async def test_a_thousand_trades_of_a_millisecond_are_a_thousand_points(
    influx: InfluxBucket,
) -> None:
    """Replayed in any order, by other processes, and with other batches: the same points."""
    trades = [
        Trade(
            venue="V",
            symbol="S",
            event_time=AT + i % 7,
            price=float(i),
            quantity=1.0,
            side="buy",
            trade_id=t,
        )
        for i, t in enumerate(
            [*map(str, range(3_712_000, 3_712_600)), *(f"x{i}" for i in range(400))]
        )
    ]
    server = influx.server()
    rng = random.Random(1)
    for _ in range(3):
        await TickSink(server=server).write(trades)
        rng.shuffle(trades)
    sink = TickSink(server=server)
    for start in range(0, len(trades), 300):
        await sink.write(trades[start : start + 300])
    assert influx.count() == 1000
    read = [m for part in Ticks(server=server).parts("trades") for m in part]
    server.close()
    assert canonical(read) == canonical(list(map(as_read, trades)))


def wild(rng: random.Random) -> Callable[[], Any]:
    """Values that no venue sends, and that somebody will."""
    alphabet = string.printable + "\\\"',= \n\r\t\0\x1f\x85\u2028\ufeff币\U0001f600\ud800"
    makers: list[Callable[[], Any]] = [
        lambda: math.nan,
        lambda: rng.choice((math.inf, -math.inf)),
        lambda: None,
        lambda: rng.choice((-1, 1)) * 10 ** rng.randint(0, 500),
        lambda: rng.choice((True, False, "", b"bytes", [], {}, 1.5, 0, -0.0, 5e-324, "nan", "1i")),
        lambda: "".join(rng.choices(alphabet, k=rng.randint(0, 12))),
        lambda: "\\" * rng.randint(1, 3),
        lambda: AT // 10 ** rng.randint(0, 12),
        lambda: rng.randint(-(2**70), 2**70),
    ]
    return lambda: rng.choice(makers)()


BASES: list[Message] = [
    Trade(venue="V", symbol="S", event_time=AT, price=1, quantity=1, side="buy", trade_id="1"),
    OrderBook(venue="V", symbol="S", event_time=AT, bids=((1, 1),), asks=((2, 1),), snapshot=True),
    Funding(venue="V", symbol="S", event_time=AT, rate=1, mark_price=1, next_funding_time=AT),
    Liquidation(venue="V", symbol="S", event_time=AT, price=1, quantity=1, side="sell"),
    OpenInterest(venue="V", symbol="S", event_time=AT, open_interest=1, open_interest_value=1),
    Ticker(venue="V", symbol="S", event_time=AT, mark_iv=1, bid_iv=1),
    PriceIndex(venue="V", symbol="S", event_time=AT, price=1),
]


def hostile(seed: int) -> list[Message]:
    """Five thousand messages, each with one or two such values."""
    rng = random.Random(seed)
    value = wild(rng)
    batch: list[Message] = []
    for _ in range(5000):
        base = rng.choice(BASES)
        fields = [f for f in base.__struct_fields__ if f != "producer"]
        chosen = rng.sample(fields, k=rng.randint(1, 2))
        odd = {f: value() for f in chosen}
        for side in ("bids", "asks"):
            if side in odd:
                odd[side] = rng.choice((odd[side], ((odd[side], 1.0),), ((1.0, odd[side]),)))
        if rng.random() < 0.7:  # names that differ, so that points do not hide each other
            odd.setdefault("symbol", f"S{len(batch)}")
        batch.append(replace(base, **odd))
    return batch


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_line_is_refused_whatever_the_messages_hold(
    influx: InfluxBucket, seed: int
) -> None:
    """Ten thousand hostile records: each is a point, or a dead letter; the server refuses none."""
    batch = hostile(seed)
    encoder = Encoder()
    encoded = encoder.encode(batch)
    assert all("\n" not in line for line in encoded.lines)
    server = influx.server()
    result = await TickSink(server=server, encoder=encoder).write(batch)
    server.close()
    assert {seen.status for seen in influx.shim.seen} == {204}
    assert result.written == len(encoded.lines)
    assert len(result.rejected) == len(batch) - len(encoded.lines)
    assert 500 < result.written < 4500
