"""The raven wire, version 1: three frames a message, and the names of topics.

Normative, with golden bytes, in ``docs/reference/wire.md``. Functions on values, no sockets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import msgspec

from ravenwh.domain.errors import DecodeError, Rejected, SettingsError
from ravenwh.domain.messages import DATA_TYPES, Message
from ravenwh.ports import Frame, Position

__all__ = [
    "HEADER_BYTES",
    "MAX_NAME",
    "Header",
    "Topic",
    "decode",
    "encode",
    "header",
    "parse_header",
    "parse_topic",
    "position",
    "shown",
    "subscriptions",
    "topic",
]

MAX_NAME = 128  # characters; venues stay far below it, and an index of the mart takes it

_HEADER = struct.Struct(">QQ")
HEADER_BYTES = _HEADER.size
LARGEST = 2**63 - 1  # what a journal and a table take

_TAGS: dict[type[Message], str] = {cls: tag for tag, cls in DATA_TYPES.items()}
_ALLOWED = ", ".join(DATA_TYPES)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class Topic(NamedTuple):
    """What a topic names."""

    venue: str
    data_type: str
    symbol: str


class Header(NamedTuple):
    """When the publisher started (nanoseconds), and the message's number, from 1, in its topic."""

    epoch: int
    seq: int


class _Tag(msgspec.Struct):
    type: str


def _whole_numbers(cls: type[Message]) -> tuple[str, ...]:
    """The fields that hold integers; ``bool`` is none of them."""
    fields = msgspec.inspect.type_info(cls).fields  # type: ignore[attr-defined]  # of a struct
    return tuple(
        field.name
        for field in fields
        if any(
            isinstance(kind, msgspec.inspect.IntType)
            for kind in getattr(field.type, "types", (field.type,))
        )
    )


_INTEGERS = {cls: _whole_numbers(cls) for cls in DATA_TYPES.values()}


def topic(venue: str, data_type: str, symbol: str) -> bytes:
    """``VENUE:DATA_TYPE:SYMBOL`` and a space, as bytes.

    The space ends the symbol, so that a subscription to BTCUSD never matches BTCUSDT. Raises
    Rejected, code BAD_NAME, for a name that a topic cannot carry.
    """
    problem = _topic_problem(venue, data_type, symbol)
    if problem is not None:
        raise Rejected(problem, code="BAD_NAME")
    return f"{venue}:{data_type}:{symbol} ".encode()


@lru_cache(maxsize=16_384)  # names are short, and what is refused is not kept
def parse_topic(raw: bytes) -> Topic:
    """What the topic names. Raises DecodeError."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"topic: found {shown(raw)}, allowed is UTF-8: {error.reason}") from None
    parts = text[:-1].split(":")
    if not text.endswith(" ") or len(parts) != 3:
        raise DecodeError(
            f"topic: found {shown(raw)}, "
            "allowed is VENUE:DATA_TYPE:SYMBOL with one space at its end"
        )
    venue, data_type, symbol = parts
    problem = _topic_problem(venue, data_type, symbol)
    if problem is not None:
        raise DecodeError(f"topic {shown(raw)}: {problem}")
    return Topic(venue, data_type, symbol)


def subscriptions(data_type: str, symbols: Mapping[str, Iterable[str] | None]) -> tuple[bytes, ...]:
    """What to subscribe to for these symbols of these venues, sorted, each once.

    ``symbols`` maps a venue to its own symbols, or to None for all that it has: only then is the
    subscription a prefix, ``VENUE:DATA_TYPE:``. Raises SettingsError with every bad name.
    """
    found = [_type_problem(data_type)]
    topics: set[str] = set()
    for venue, names in symbols.items():
        found.append(_name_problem("venue", venue))
        if names is None:
            topics.add(f"{venue}:{data_type}:")
            continue
        for name in names:
            found.append(_name_problem(f"symbol of {venue}", name))
            topics.add(f"{venue}:{data_type}:{name} ")
    if problems := [problem for problem in found if problem is not None]:
        raise SettingsError(problems)
    return tuple(sorted(topic.encode() for topic in topics))


def header(epoch: int, seq: int) -> bytes:
    """The 16 bytes of the second frame: two unsigned integers, big-endian."""
    return _HEADER.pack(epoch, seq)


def parse_header(raw: bytes) -> Header:
    """Epoch and sequence number. Raises DecodeError."""
    if len(raw) != HEADER_BYTES:
        raise DecodeError(_header_problem(raw))
    return Header(*_HEADER.unpack(raw))


def position(frame: Frame) -> Position | None:
    """Epoch and sequence number of a frame, None where its header has none that can be."""
    raw = frame.header
    if len(raw) != HEADER_BYTES:
        return None
    found: Position = _HEADER.unpack(raw)
    return found if 0 < found[1] <= LARGEST and 0 < found[0] <= LARGEST else None


def encode(message: Message) -> tuple[bytes, bytes]:
    """Topic and payload of the message; the header is the publisher's.

    Raises Rejected: BAD_NAME for a venue or symbol that a topic cannot carry, NOT_ENCODABLE for an
    integer beyond 64 bits or a text that is not Unicode. Whatever passes decodes to an equal value.
    """
    cls = type(message)
    name = _encoded_topic(message.venue, _TAGS[cls], message.symbol)
    for field in _INTEGERS[cls]:
        value = getattr(message, field)
        if value is not None and not -(2**63) <= value < 2**63:
            raise Rejected(
                f"{field}: found {value}, allowed are integers of 64 bits with a sign",
                code="NOT_ENCODABLE",
            )
    try:
        return name, _encoder.encode(message)
    except (UnicodeEncodeError, OverflowError, TypeError) as error:
        raise Rejected(f"{_TAGS[cls]}: {error}", code="NOT_ENCODABLE") from error


def decode(frame: Frame, /) -> Message:
    """The message that the frame carries; a Decoder.

    Raises DecodeError for everything that is no message of this wire, also where topic and payload
    name different things. Floats may be any IEEE double, NaN too: what may be stored is decided at
    the row.
    """
    if len(frame.header) != HEADER_BYTES:
        raise DecodeError(_header_problem(frame.header))
    named = parse_topic(frame.topic)
    try:
        message = _decoder.decode(frame.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(_payload_problem(frame.payload, error)) from error
    said = (message.venue, _TAGS[type(message)], message.symbol)
    if said != named:
        raise DecodeError(
            f"topic and payload differ: the topic names {':'.join(named)}, "
            f"the payload {shown(':'.join(said))}"
        )
    return message


_encoded_topic = lru_cache(maxsize=16_384)(topic)


def _topic_problem(venue: str, data_type: str, symbol: str) -> str | None:
    return (
        _name_problem("venue", venue) or _type_problem(data_type) or _name_problem("symbol", symbol)
    )


def _name_problem(what: str, name: str) -> str | None:
    """Why a topic cannot carry the name, or None.

    Any script is a name (venues list symbols in Chinese), but nothing that a log or a table
    cannot show.
    """
    if 0 < len(name) <= MAX_NAME and name.isprintable() and ":" not in name and " " not in name:
        return None
    return (
        f"{what}: found {shown(name)}, allowed are 1 to {MAX_NAME} printable characters "
        "without a colon and without a space"
    )


def _type_problem(data_type: str) -> str | None:
    if data_type in DATA_TYPES:
        return None
    return f"data type: found {shown(data_type)}, allowed are {_ALLOWED}"


def _header_problem(raw: bytes) -> str:
    return (
        f"header: found {len(raw)} bytes, allowed are {HEADER_BYTES} "
        "in the second of exactly three frames"
    )


def _payload_problem(payload: bytes, error: Exception) -> str:
    """The error in words; an unknown ``type`` is told with the ones there are."""
    try:
        found = msgspec.msgpack.decode(payload, type=_Tag).type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    else:
        if found not in DATA_TYPES:
            return f"payload: {_type_problem(found)}"
    return f"payload: {error}"


def shown(value: str | bytes) -> str:
    """The value as an error shows it: escaped, and never longer than a line."""
    return repr(value) if len(value) <= 80 else f"{value[:80]!r} ({len(value)} long)"
