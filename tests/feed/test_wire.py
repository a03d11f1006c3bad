"""The raven wire on values: whatever comes in, a message or a DecodeError comes out."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravenwh.domain.errors import DecodeError, Rejected, SettingsError
from ravenwh.domain.messages import DATA_TYPES, Message, PriceIndex, Trade
from ravenwh.feed import wire
from ravenwh.ports import Frame

INT64 = st.integers(-(2**63), 2**63 - 1)
NAMES = (
    st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters=":"), max_size=128)
    .filter(str.isprintable)
    .filter(bool)
)


def of_type(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a field, from its declaration, so that a new field is tested without an edit."""
    match kind:
        case msgspec.inspect.StrType():
            return st.text()
        case msgspec.inspect.IntType():
            return INT64
        case msgspec.inspect.FloatType():
            return st.floats(allow_nan=True, allow_infinity=True)
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.NoneType():
            return st.none()
        case msgspec.inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case msgspec.inspect.UnionType(types=types):
            return st.one_of([of_type(each) for each in types])
        case msgspec.inspect.TupleType(item_types=items):
            return st.tuples(*[of_type(each) for each in items])
        case msgspec.inspect.VarTupleType(item_type=item):
            return st.lists(of_type(item), max_size=4).map(tuple)
        case msgspec.inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(of_type(key), of_type(value), max_size=4)
    raise AssertionError(f"no strategy for {kind}")


def messages_of(cls: type[Message]) -> st.SearchStrategy[Message]:
    fields = msgspec.inspect.type_info(cls).fields  # type: ignore[attr-defined]  # of a struct
    values = {field.name: of_type(field.type) for field in fields}
    return st.builds(cls, **{**values, "venue": NAMES, "symbol": NAMES})


MESSAGES = st.one_of([messages_of(cls) for cls in DATA_TYPES.values()])
INDEX = PriceIndex(venue="DERIBIT", symbol="btc_usd", event_time=1, price=28_566.94)


def framed(message: Message) -> Frame:
    topic, payload = wire.encode(message)
    return Frame("test", topic, wire.header(1, 1), payload, 0)


def index_with(**changes: object) -> Frame:
    """The frame of INDEX with its payload changed; a field set to None is taken out."""
    topic, payload = wire.encode(INDEX)
    fields = {**msgspec.msgpack.decode(payload), **changes}
    kept = {name: value for name, value in fields.items() if value is not None}
    return Frame("test", topic, wire.header(1, 1), msgspec.msgpack.encode(kept), 0)


@pytest.mark.parametrize("cls", DATA_TYPES.values(), ids=list(DATA_TYPES))
def test_encode_then_decode_is_the_identity(cls: type[Message]) -> None:
    @given(messages_of(cls))
    def identical(message: Message) -> None:
        frame = framed(message)
        decoded = wire.decode(frame)
        assert type(decoded) is cls
        assert repr(decoded) == repr(message)  # NaN is not equal to itself
        assert wire.encode(decoded) == (frame.topic, frame.payload)

    identical()


@given(st.binary(), st.binary(min_size=16, max_size=16) | st.binary(), st.binary())
def test_any_bytes_give_a_message_or_a_decode_error(
    topic: bytes, header: bytes, payload: bytes
) -> None:
    try:
        message = wire.decode(Frame("test", topic, header, payload, 0))
    except DecodeError:
        return
    assert isinstance(message, Message)


@settings(max_examples=500)
@given(MESSAGES, st.data())
def test_a_mutated_message_gives_a_message_or_a_decode_error(
    message: Message, data: st.DataObject
) -> None:
    frame = framed(message)
    parts = [frame.topic, frame.header, frame.payload]
    which = data.draw(st.sampled_from([0, 1, 2, 2, 2]))
    part = bytearray(parts[which])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(0, len(part) - 1)))
        part[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    parts[which] = bytes(part)
    try:
        decoded = wire.decode(Frame("test", parts[0], parts[1], parts[2], 0))
    except DecodeError:
        return
    assert wire.encode(decoded)[0] == parts[0]  # one that a publisher could have sent


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=140)  # surrogates too


@given(
    venue=ANY_TEXT | NAMES,
    symbol=ANY_TEXT | NAMES,
    producer=ANY_TEXT,
    trade_id=st.none() | ANY_TEXT,
    event_time=INT64 | st.integers(-(2**65), 2**65),
)
def test_what_encode_takes_decode_gives_back(**fields: Any) -> None:
    trade = Trade(price=1.0, quantity=2.0, side="buy", **fields)
    refused = None
    try:
        frame = framed(trade)
    except Rejected as error:
        refused = error.code
    else:
        assert wire.decode(frame) == trade
    assert refused in {None, "BAD_NAME", "NOT_ENCODABLE"}


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64 - 1, 2**64, -(2**70)])
def test_an_integer_beyond_64_bits_is_not_encoded(value: int) -> None:
    with pytest.raises(Rejected, match=f"event_time: found {value}") as caught:
        wire.encode(msgspec.structs.replace(INDEX, event_time=value))
    assert caught.value.code == "NOT_ENCODABLE"


@pytest.mark.parametrize("value", [2**63, 2**64 - 1])
def test_an_integer_beyond_64_bits_is_not_decoded(value: int) -> None:
    with pytest.raises(DecodeError, match="event_time"):
        wire.decode(index_with(event_time=value))


def test_a_float_may_be_anything_a_double_is_and_an_integer() -> None:
    assert wire.decode(index_with(price=2000)).price == 2000.0  # type: ignore[union-attr]
    assert math.isnan(wire.decode(index_with(price=math.nan)).price)  # type: ignore[union-attr]
    assert wire.decode(index_with(price=-math.inf)).price == -math.inf  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "changes",
    [
        {"price": True},
        {"price": "1"},
        {"price": b"1"},
        {"event_time": 1.0},
        {"event_time": True},
        {"event_time": "1"},
        {"producer": 1},
        {"venue": b"DERIBIT"},
    ],
    ids=str,
)
def test_a_field_of_another_type_is_refused_by_its_name(changes: dict[str, object]) -> None:
    with pytest.raises(DecodeError, match=next(iter(changes))):
        wire.decode(index_with(**changes))


def test_an_unknown_type_is_told_with_those_there_are() -> None:
    with pytest.raises(DecodeError, match=r"found 'KLINE', allowed are TRADE, ORDERBOOK, CANDLE"):
        wire.decode(index_with(type="KLINE"))


@pytest.mark.parametrize("name", ["type", "venue", "symbol", "event_time", "price"])
def test_a_missing_field_is_told(name: str) -> None:
    with pytest.raises(DecodeError, match=f"missing required field `{name}`"):
        wire.decode(index_with(**{name: None}))


def test_unknown_fields_are_ignored_and_keys_come_in_any_order() -> None:
    frame = index_with(later={"a": [1, 2]}, much_later=None)
    fields = msgspec.msgpack.decode(frame.payload)
    reversed_fields = dict(reversed(fields.items()))
    assert list(reversed_fields)[-1] == "type"
    turned = msgspec.structs.replace(frame, payload=msgspec.msgpack.encode(reversed_fields))
    assert wire.decode(frame) == wire.decode(turned) == INDEX


def test_defaults_are_left_out_and_come_back() -> None:
    _, payload = wire.encode(INDEX)
    assert set(msgspec.msgpack.decode(payload)) == {
        "type",
        "venue",
        "symbol",
        "event_time",
        "price",
    }
    assert wire.decode(framed(INDEX)).producer == ""


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\xc0",
        b"\x80",
        b"\x90",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x82\xa4type\xa9ORDERBOOK\xa4bids\xdd\xff\xff\xff\xff",
        b"\x82\xa4type\xabPRICE_INDEX\xa1x" + b"\x91" * 100_000,
        b"\x82\xa1x" + b"\x81\xa1y" * 100_000,
        b"\x81\xa1x\xdb\xff\xff\xff\xff",
        b"\x81\xa4type\xa3\xff\xfe\xfd",
        b"\x81\xa4type\x05",
        framed(INDEX).payload + b"\x00",
        framed(INDEX).payload * 2,
        framed(INDEX).payload[:-1],
        framed(INDEX).payload.replace(b"btc_usd", b"btc\xff\xfe\xfd\xfc"),
    ],
    ids=lambda payload: payload[:24].hex(),
)
def test_a_payload_that_is_no_message_is_refused(payload: bytes) -> None:
    frame = msgspec.structs.replace(framed(INDEX), payload=payload)
    with pytest.raises(DecodeError, match="payload: ") as caught:
        wire.decode(frame)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("length", [0, 1, 15, 17, 32])
def test_a_header_of_another_length_is_refused(length: int) -> None:
    frame = msgspec.structs.replace(framed(INDEX), header=b"\0" * length)
    with pytest.raises(DecodeError, match=f"header: found {length} bytes, allowed are 16"):
        wire.decode(frame)
    with pytest.raises(DecodeError, match=f"header: found {length} bytes, allowed are 16"):
        wire.parse_header(frame.header)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_header_comes_back(epoch: int, seq: int) -> None:
    raw = wire.header(epoch, seq)
    assert raw == epoch.to_bytes(8, "big") + seq.to_bytes(8, "big")
    assert wire.parse_header(raw) == (epoch, seq)


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        (b"", "VENUE:DATA_TYPE:SYMBOL"),
        (b" ", "VENUE:DATA_TYPE:SYMBOL"),
        (b"DERIBIT:PRICE_INDEX:btc_usd", "one space at its end"),
        (b"DERIBIT:PRICE_INDEX:btc_usd  ", "symbol"),
        (b"DERIBIT:PRICE_INDEX:btc usd ", "symbol"),
        (b"DERIBIT:PRICE_INDEX:btc:usd ", "VENUE:DATA_TYPE:SYMBOL"),
        (b"DERIBIT:btc_usd ", "VENUE:DATA_TYPE:SYMBOL"),
        (b"DERIBIT:PRICE_INDEX: ", "symbol"),
        (b":PRICE_INDEX:btc_usd ", "venue"),
        (b"DERIBIT:price_index:btc_usd ", "found 'price_index', allowed are TRADE"),
        (b"DERIBIT:PRICE_INDEX:btc\x00usd ", "symbol"),
        (b"DERIBIT:PRICE_INDEX:" + b"x" * 129 + b" ", "symbol"),
        (b"DERIBIT:PRICE_INDEX:\xff ", "UTF-8"),
        (b"x" * 1_000_000, "1000000 long"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_topic_of_another_form_is_refused(topic: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason) as caught:
        wire.decode(msgspec.structs.replace(framed(INDEX), topic=topic))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "topic",
    [
        b"DERIBIT2:PRICE_INDEX:btc_usd ",
        b"DERIBIT:TRADE:btc_usd ",
        b"DERIBIT:PRICE_INDEX:eth_usd ",
        b"DERIBIT:PRICE_INDEX:BTC_USD ",
    ],
)
def test_topic_and_payload_must_name_the_same(topic: bytes) -> None:
    with pytest.raises(DecodeError, match="topic and payload differ"):
        wire.decode(msgspec.structs.replace(framed(INDEX), topic=topic))


@given(NAMES, st.sampled_from(sorted(DATA_TYPES)), NAMES)
def test_a_topic_comes_back(venue: str, data_type: str, symbol: str) -> None:
    raw = wire.topic(venue, data_type, symbol)
    assert raw == f"{venue}:{data_type}:{symbol} ".encode()
    assert wire.parse_topic(raw) == wire.Topic(venue, data_type, symbol)


BAD_NAMES = ["", "a b", "a:b", " ", "a ", "a\n", "a\tb", "\u00a0", "a\x00", "\ud800", "x" * 129]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_name_that_a_topic_cannot_carry_is_refused(name: str) -> None:
    for venue, symbol in ((name, "BTCUSDT"), ("BINANCE_SPOT", name)):
        with pytest.raises(Rejected, match="1 to 128 printable characters") as caught:
            wire.topic(venue, "TRADE", symbol)
        assert caught.value.code == "BAD_NAME"
        with pytest.raises(SettingsError, match="1 to 128 printable characters"):
            wire.subscriptions("TRADE", {venue: [symbol]})


def test_an_unknown_data_type_names_no_topic() -> None:
    with pytest.raises(Rejected, match="found 'KLINE', allowed are TRADE"):
        wire.topic("BINANCE_SPOT", "KLINE", "BTCUSDT")
    with pytest.raises(SettingsError, match="found 'KLINE', allowed are TRADE"):
        wire.subscriptions("KLINE", {})


def test_only_all_symbols_make_a_prefix() -> None:
    assert wire.subscriptions(
        "CANDLE",
        {"BINANCE_SPOT": ["ETHUSDT", "BTCUSDT", "BTCUSDT"], "BINANCE_FUTURES": None, "OKX": []},
    ) == (
        b"BINANCE_FUTURES:CANDLE:",
        b"BINANCE_SPOT:CANDLE:BTCUSDT ",
        b"BINANCE_SPOT:CANDLE:ETHUSDT ",
    )


def test_all_bad_names_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        wire.subscriptions("CANDLE", {"A:B": None, "BINANCE_SPOT": ["x y", "BTCUSDT", ""]})
    assert len(caught.value.problems) == 3


def test_the_wire_needs_no_zeromq() -> None:
    code = "import sys, ravenwh.feed.wire; sys.exit('zmq' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
