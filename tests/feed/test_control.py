"""Requests as values: what is read, what is refused, and that every refusal can be answered."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from ravenwh.domain.errors import Refused
from ravenwh.domain.messages import DATA_TYPES
from ravenwh.feed.control import (
    CODES,
    MAX_REQUEST_BYTES,
    REQUESTS,
    Collection,
    ControlError,
    Failure,
    Reply,
    Request,
    Resend,
    Sequences,
    StartCollection,
    parse,
    parse_head,
)

START = {"request": "StartCollection", "venue": "OKX_SPOT", "data_type": "TRADE", "symbol": "*"}
RESEND = {"request": "Resend", "topic": "A:TRADE:x ", "epoch": 5, "from": 2, "to": 3}


def read(raw: bytes) -> Request:
    name, _ = parse_head(raw)
    return parse(raw, name)


def test_a_request_is_read() -> None:
    request = read(json.dumps(START | {"id": "7", "more": [1]}).encode())
    assert request == StartCollection(id="7", venue="OKX_SPOT", data_type="TRADE", symbol="*")
    assert isinstance(request, StartCollection)
    assert request.collection == Collection("OKX_SPOT", "TRADE", "*")
    assert read(b'{"request": "Sequences"}') == Sequences()
    large = RESEND | {"epoch": 2**63 - 1, "from": 2**63 - 1, "to": 2**63 - 1}
    assert read(json.dumps(large).encode()) == Resend(
        topic="A:TRADE:x ", epoch=2**63 - 1, first=2**63 - 1, last=2**63 - 1
    )


@pytest.mark.parametrize("request_", REQUESTS.values())
def test_what_is_written_is_read_as_the_same(request_: type[Request]) -> None:
    values: dict[str, Any] = {"id": "x"}
    if request_.__name__ in ("StartCollection", "StopCollection"):
        values |= {"venue": "A", "data_type": "TICKER", "symbol": "B"}
    elif request_ is Resend:
        values |= {"topic": "A:TRADE:x ", "epoch": 1, "first": 1, "last": 2}
    request = request_(**values)
    raw = msgspec.json.encode(request)
    assert parse_head(raw) == (request_.__name__, "x")
    assert read(raw) == request


@pytest.mark.parametrize(
    ("raw", "code", "told"),
    [
        (b"", "BAD_REQUEST", "found no JSON object with request"),
        (b"\x00\xff", "BAD_REQUEST", "found no JSON object"),
        (b'{"request": "Seq\xff"}', "BAD_REQUEST", "found no JSON object"),
        (b"[]", "BAD_REQUEST", "Expected `object`, got `array`"),
        (b"null", "BAD_REQUEST", "Expected `object`, got `null`"),
        (b'"Sequences"', "BAD_REQUEST", "Expected `object`, got `str`"),
        (b'{"id": "1"}', "BAD_REQUEST", "missing required field `request`"),
        (b'{"request": 1}', "BAD_REQUEST", "Expected `str`, got `int` - at `$.request`"),
        (b'{"request": "Sequences", "id": 1}', "BAD_REQUEST", "got `int` - at `$.id`"),
        (b'{"request": "Sequences"} {}', "BAD_REQUEST", "trailing characters"),
        (b'{"request": "Sequences", "x":' + b"[" * 9_000, "BAD_REQUEST", "recursion"),
        (b" " * MAX_REQUEST_BYTES + b"{}", "BAD_REQUEST", "found 16386 bytes, allowed are 16384"),
        (b'{"request": "Drop"}', "UNKNOWN_REQUEST", "found 'Drop', allowed are StartCollection, "),
        (b'{"request": "sequences"}', "UNKNOWN_REQUEST", "StopAllCollections, Sequences, Resend"),
        (b'{"request": "Sequences", "prefix": 5}', "BAD_REQUEST", "prefix and after, texts"),
        (json.dumps(START | {"venue": None}).encode(), "BAD_REQUEST", "got `null` - at `$.venue`"),
        (json.dumps(START | {"data_type": "KLINE"}).encode(), "UNKNOWN_DATA_TYPE", "are TRADE, "),
        (json.dumps(START | {"venue": "A B"}).encode(), "BAD_NAME", "venue: found 'A B', allowed"),
        (json.dumps(START | {"symbol": ""}).encode(), "BAD_NAME", "symbol: found ''"),
        (json.dumps(START | {"symbol": "x" * 9000}).encode(), "BAD_NAME", "(9000 long)"),
        (json.dumps(RESEND | {"from": 0}).encode(), "BAD_REQUEST", ">= 1 - at `$.from`"),
        (json.dumps(RESEND | {"to": 2**63}).encode(), "BAD_REQUEST", "at `$.to`"),
        (json.dumps(RESEND | {"to": 3.0}).encode(), "BAD_REQUEST", "got `float` - at `$.to`"),
        (json.dumps(RESEND | {"to": True}).encode(), "BAD_REQUEST", "got `bool` - at `$.to`"),
        (json.dumps(RESEND | {"to": 1}).encode(), "BAD_REQUEST", "found 1, allowed is from (2)"),
        (json.dumps(RESEND | {"epoch": "5"}).encode(), "BAD_REQUEST", "topic, a text, and epoch"),
    ],
)  # fmt: skip
def test_what_is_refused_says_what_was_found_and_what_is_allowed(
    raw: bytes, code: str, told: str
) -> None:
    with pytest.raises(Refused) as caught:
        read(raw)
    assert isinstance(caught.value, ControlError)
    assert caught.value.code == code
    assert code in CODES
    assert told in str(caught.value)
    assert len(str(caught.value)) < 400


texts = st.one_of(
    st.text(), st.sampled_from([*REQUESTS, *DATA_TYPES, "A:TRADE:x ", "*", "OKX_SPOT"])
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(
    ["request", "id", "venue", "data_type", "symbol", "topic", "epoch", "from", "to", "prefix"]
)
objects = st.dictionaries(keys | texts, values).map(lambda value: json.dumps(value).encode())
mutated = st.tuples(objects, st.integers(0, 200), st.binary(max_size=3)).map(
    lambda drawn: drawn[0][: drawn[1]] + drawn[2] + drawn[0][drawn[1] + len(drawn[2]) :]
)


@given(st.one_of(st.binary(), objects, mutated))
def test_any_bytes_are_a_request_or_can_be_answered(raw: bytes) -> None:
    name = id_ = failure = None
    request = Request()
    try:
        name, id_ = parse_head(raw)
        request = parse(raw, name)
    except ControlError as error:
        failure = Failure(error.code, str(error))
    reply = Reply(reply=name, id=id_, ok=failure is None, error=failure)
    assert json.loads(msgspec.json.encode(reply))["ok"] is (failure is None)
    if failure is not None:
        assert failure.code in CODES
    else:
        assert name is not None
        assert type(request) is REQUESTS[name]
        assert read(msgspec.json.encode(request)) == request
