"""docs/reference/wire.md is normative: its tables and its bytes are the code's, both ways."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from ravenwh.domain.messages import DATA_TYPES, Candle, Message
from ravenwh.feed import wire
from ravenwh.feed.collecting import Fixed, collection_handlers
from ravenwh.feed.control import (
    CODES,
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    REQUESTS,
    Changed,
    Collected,
    Collection,
)
from ravenwh.feed.control_client import ControlClient
from ravenwh.feed.control_server import MAX_FRAME_BYTES, ControlServer
from ravenwh.feed.descriptor import news
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.resender import FeedResender
from ravenwh.feed.resending import MOST_MESSAGES, MOST_TOPICS, resend_handlers
from ravenwh.feed.ring import MESSAGE_BYTES
from ravenwh.ports import Frame

PAGES = Path(__file__).parents[2] / "docs"
PAGE = (PAGES / "reference" / "wire.md").read_text()
DATA_TYPES_SECTION = PAGE.split("\n## Data types\n")[1].split("\n## ")[0]
SECTIONS = {
    section.split("\n", 1)[0].strip(): section
    for section in re.split(r"^### ", DATA_TYPES_SECTION, flags=re.MULTILINE)[1:]
}
COMMON_SECTION = DATA_TYPES_SECTION.split("\n### ")[0]
CONTROL_SECTION = PAGE.split("\n## Control\n")[1].split("\n## ")[0]
COMMON = ("venue", "symbol", "event_time", "producer")


def table(section: str) -> list[tuple[str, ...]]:
    """The cells of the table that begins with a column ``field``."""
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split(" | "))
        for line in section.splitlines()
        if line.startswith("|")
    ]
    assert rows[0] == ("field", "type", "unit", "default", "meaning")
    return rows[2:]


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)


def fields_of(cls: type[Message]) -> list[msgspec.inspect.Field]:
    return list(msgspec.inspect.type_info(cls).fields)  # type: ignore[attr-defined]  # of a struct


def kind_of(kind: msgspec.inspect.Type) -> str:
    match kind:
        case msgspec.inspect.UnionType(types=types):
            (other,) = [each for each in types if not isinstance(each, msgspec.inspect.NoneType)]
            return kind_of(other)
        case msgspec.inspect.StrType() | msgspec.inspect.LiteralType():
            return "text"
        case msgspec.inspect.IntType():
            return "integer"
        case msgspec.inspect.FloatType():
            return "float"
        case msgspec.inspect.BoolType():
            return "boolean"
        case msgspec.inspect.VarTupleType(item_type=msgspec.inspect.TupleType()):
            return "levels"
        case msgspec.inspect.DictType():
            return "parameters"
    raise AssertionError(f"the page has no word for {kind}")


def default_of(field: msgspec.inspect.Field) -> str:
    if field.required:
        return "required"
    return "null" if field.default is None else f"`{json.dumps(field.default)}`"


def declared(fields: list[msgspec.inspect.Field]) -> list[tuple[str, str, str]]:
    return [(f"`{field.name}`", kind_of(field.type), default_of(field)) for field in fields]


def shown(rows: list[tuple[str, ...]]) -> list[tuple[str, str, str]]:
    return [(name, kind, default) for name, kind, _, default, _ in rows]


def test_the_page_has_every_data_type_in_order() -> None:
    assert list(SECTIONS) == list(DATA_TYPES)


def test_the_common_fields_are_those_of_every_message() -> None:
    rows = table(COMMON_SECTION)
    assert shown(rows[:1]) == [("`type`", "text", "required")]
    for cls in DATA_TYPES.values():
        common = fields_of(cls)[: len(COMMON)]
        assert tuple(field.name for field in common) == COMMON
        assert shown(rows[1:]) == declared(common)


@pytest.mark.parametrize("data_type", DATA_TYPES)
def test_the_table_of_a_data_type_is_its_declaration(data_type: str) -> None:
    rows = table(SECTIONS[data_type])
    assert shown(rows) == declared(fields_of(DATA_TYPES[data_type])[len(COMMON) :])
    assert all(unit and meaning for _, _, unit, _, meaning in rows)


@pytest.mark.parametrize("data_type", DATA_TYPES)
def test_times_say_their_unit(data_type: str) -> None:
    for name, kind, unit, _, _ in table(COMMON_SECTION) + table(SECTIONS[data_type]):
        assert (unit == "ns, UTC") == (kind == "integer" and name.endswith("_time`"))


GOLDEN = [
    pytest.param(data_type, message, bytes_, id=f"{data_type}-{number}")
    for data_type, section in SECTIONS.items()
    for number, (message, bytes_) in enumerate(
        zip(blocks(section, "json"), blocks(section, "text"), strict=True)
    )
]


def test_every_data_type_has_golden_bytes_and_candle_both_kinds() -> None:
    assert {param.values[0] for param in GOLDEN} == set(DATA_TYPES)
    candles = [json.loads(str(p.values[1])) for p in GOLDEN if p.values[0] == "CANDLE"]
    assert {"parameters_hash" in candle for candle in candles} == {True, False}


@pytest.mark.parametrize(("data_type", "shown_message", "shown_bytes"), GOLDEN)
def test_golden_bytes_hold_in_both_directions(
    data_type: str, shown_message: str, shown_bytes: str
) -> None:
    labels = re.split(r"^(topic|header|payload)\n", shown_bytes, flags=re.MULTILINE)
    assert labels[0] == ""
    assert labels[1::2] == ["topic", "header", "payload"]
    topic, header, payload = (bytes.fromhex(part) for part in labels[2::2])
    message = msgspec.json.decode(shown_message, type=DATA_TYPES[data_type])

    assert wire.encode(message) == (topic, payload)
    assert wire.header(*wire.parse_header(header)) == header
    assert wire.decode(Frame("test", topic, header, payload, 0)) == message
    assert json.loads(shown_message) == msgspec.msgpack.decode(payload)


CONTROL_EXAMPLES = [json.loads(block) for block in blocks(CONTROL_SECTION, "json")]
BTCUSDT = Collection("BINANCE_SPOT", "CANDLE", "BTCUSDT")


def rows_of(section: str, *head: str) -> list[list[str]]:
    """The cells of the table with these columns."""
    lines = section.split(f"| {' | '.join(head)} |\n", 1)[1].splitlines()[1:]
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip(" `") for cell in row.strip("|").split(" | ")] for row in rows]


def test_the_tables_of_control_are_the_codes() -> None:
    rows = rows_of(CONTROL_SECTION, "request", "what it does", "served by")
    assert [name for name, _, _ in rows] == list(REQUESTS)
    assert [name for name, _, served in rows if "runners" not in served] == ["Sequences", "Resend"]
    assert [code for code, _ in rows_of(CONTROL_SECTION, "code", "what is wrong")] == list(CODES)


def test_the_limits_of_control_are_the_codes() -> None:
    text = " ".join(CONTROL_SECTION.split())
    for limit in (
        f"of at most {MAX_REQUEST_BYTES:,} bytes",
        f"A request above {MAX_FRAME_BYTES:,} bytes is not received",
        f"at most {MOST_TOPICS:,} at once",
        f"at most {MOST_MESSAGES:,} messages, and {MAX_REPLY_BYTES:,} bytes",
    ):
        assert limit in text


class OneStarted:
    """A runner that collects what the page's examples say."""

    async def start(self, wanted: Collection) -> Changed:
        return Changed(changed=wanted != BTCUSDT)

    async def stop(self, unwanted: Collection) -> Changed:
        return Changed(changed=unwanted == BTCUSDT)

    async def list_all(self) -> Collected:
        return Collected(collections=(BTCUSDT,))

    async def stop_all(self) -> Collected:
        return Collected(collections=(BTCUSDT,))


def kline(number: int) -> Candle:
    """Messages of equal size, so that a ring holds a known number of them."""
    at = 1_723_161_240_000_000_000 + number
    return Candle(
        venue="BINANCE_SPOT", symbol="BTCUSDT", event_time=at, interval="1m", open_time=at,
        close_time=at, open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0,
    )  # fmt: skip


async def replies(endpoint: str, requests: list[dict[str, Any]]) -> AsyncIterator[list[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        for request in requests:
            socket.send(json.dumps(request).encode())
            while True:
                try:
                    yield socket.recv_multipart(zmq.NOBLOCK)
                    break
                except zmq.Again:
                    await asyncio.wait_for(news(socket), 20)


@pytest.mark.parametrize("who", ["runner", "publisher"])
async def test_what_the_page_shows_of_control_is_what_comes(who: str) -> None:
    """Each example of a reply is the answer to the request above it, on a real socket."""
    shown: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for one in CONTROL_EXAMPLES:
        if "request" in one:
            request = one
            continue
        if one["id"] == "6":
            request = {"request": "Resend", "id": "6", "topic": "x", "epoch": 1, "from": 2, "to": 1}
        elif one["id"] == "5":
            request = request | {"id": "5", "from": 1, "to": 5}
        shown.append((request, one))
    is_for = {"runner": {"1", "2"}, "publisher": {"3", "4", "5", "6", "7"}}[who]
    mine = [(request, reply) for request, reply in shown if reply["id"] in is_for]
    assert len(shown) == 7
    assert len(mine) == len(is_for)

    size = len(wire.encode(kline(1))[1]) + MESSAGE_BYTES
    any_port = Endpoint(address="tcp://127.0.0.1:0", mode="bind")
    async with Publisher(
        endpoint=any_port, epoch=1_723_161_200_000_000_000, ring_bytes=1_000 * size
    ) as publisher:
        for number in range(1, 5_001):
            await publisher.publish(kline(number))
        handlers = (
            {**resend_handlers(publisher), **collection_handlers(Fixed([BTCUSDT]))}
            if who == "publisher"
            else collection_handlers(OneStarted())
        )
        with ControlServer(endpoint=any_port, handlers=handlers) as server:
            task = asyncio.create_task(server.serve())
            try:
                left = [reply for _, reply in mine]
                requests = [request for request, _ in mine]
                async with aclosing(replies(server.address, requests)) as answers:
                    async for reply, *frames in answers:
                        expected = left.pop(0)
                        assert json.loads(reply) == expected
                        first = expected.get("result", {}).get("first")
                        assert len(frames) == (6 if first == 4_001 else 0)
                        for seq, (header, payload) in enumerate(
                            zip(frames[::2], frames[1::2], strict=True), 4_001
                        ):
                            assert header == wire.header(publisher.epoch, seq)
                            assert payload == wire.encode(kline(seq))[1]
                assert left == []
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def test_the_publisher_of_the_how_to_resends_as_the_page_says() -> None:
    """Its few lines answer our own client, by the same rules."""
    page = PAGES / "how-to" / "publisher.md"
    namespace: dict[str, Any] = {}
    functions = [block for block in blocks(page.read_text(), "python") if "\ndef " in block]
    exec("\n".join(functions), namespace)  # noqa: S102  it is our page
    topic = wire.topic("BINANCE_SPOT", "CANDLE", "BTCUSDT")
    kept = {topic.decode(): {seq: wire.encode(kline(seq))[1] for seq in range(11, 2_501)}}
    with zmq.Context() as context, context.socket(zmq.ROUTER) as control:
        address = f"tcp://127.0.0.1:{control.bind_to_random_port('tcp://127.0.0.1')}"

        def answer() -> None:
            while control.get(zmq.EVENTS) & zmq.POLLIN:
                namespace["answer"](control, 7, kept)

        loop = asyncio.get_running_loop()
        loop.add_reader(control.fileno(), answer)
        try:
            with ControlClient(endpoint=Endpoint(address=address)) as client:
                resender = FeedResender(clients={"spot": client}, wanted=lambda _: (topic,))
                assert await resender.positions("spot") == {topic: (7, 11, 2_500)}
                assert await resender.resend("spot", topic, 8, 1, 20) == []
                assert await resender.resend("spot", topic, 7, 2_501, 2_600) == []
                first = 1
                for expected in (range(11, 1_011), range(1_011, 2_011), range(2_011, 2_501)):
                    frames = await resender.resend("spot", topic, 7, first, 3_000)
                    assert [wire.decode(frame) for frame in frames] == list(map(kline, expected))
                    first = expected[-1] + 1
        finally:
            loop.remove_reader(control.fileno())
