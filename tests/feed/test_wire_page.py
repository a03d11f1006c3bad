"""docs/reference/wire.md is normative: its tables and its bytes are the code's, both ways."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from ravenwh.domain.messages import DATA_TYPES, Message
from ravenwh.feed import wire
from ravenwh.ports import Frame

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "wire.md").read_text()
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


def test_control_examples_are_json_of_requests_in_the_table() -> None:
    names = re.findall(r"^\| `(\w+)` \|.*\| not yet \|$", CONTROL_SECTION, flags=re.MULTILINE)
    assert names == [
        "StartCollection",
        "StopCollection",
        "ListCollections",
        "StopAllCollections",
        "Sequences",
        "Resend",
    ]
    examples = [json.loads(block) for block in blocks(CONTROL_SECTION, "json")]
    assert examples
    for example in examples:
        assert example.get("request", example.get("reply")) in names
        assert "request" in example or isinstance(example["ok"], bool)
