"""The requests of the control socket, and what answers them: values, no sockets.

Normative, with examples, in ``docs/reference/wire.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, TypeVar

import msgspec

from ravenwh.domain.errors import Refused, Rejected
from ravenwh.domain.messages import DATA_TYPES
from ravenwh.feed import wire

__all__ = [
    "CODES",
    "EVERYTHING",
    "MAX_REPLY_BYTES",
    "MAX_REQUEST_BYTES",
    "REQUESTS",
    "Answer",
    "Changed",
    "Collected",
    "Collection",
    "ControlError",
    "Failure",
    "ListCollections",
    "Position",
    "Positions",
    "Reply",
    "Request",
    "Resend",
    "Resent",
    "Sequences",
    "Served",
    "StartCollection",
    "StopAllCollections",
    "StopCollection",
    "parse",
    "parse_head",
]

EVERYTHING = "*"
"""In the place of a symbol: all that the venue has."""

MAX_REQUEST_BYTES = 16_384
MAX_REPLY_BYTES = 2**20
"""Of all frames together; only a message that is larger by itself makes a reply larger."""

CODES = (
    "BAD_REQUEST",
    "UNKNOWN_REQUEST",
    "NOT_SERVED",
    "UNKNOWN_DATA_TYPE",
    "BAD_NAME",
    "UNKNOWN_VENUE",
    "UNKNOWN_SYMBOL",
    "UNKNOWN_TOPIC",
    "UNKNOWN_EPOCH",
    "REFUSED",
    "UNAVAILABLE",
    "FAILED",
)
"""What a reply says of a request that was not done; a later version may have more."""

T = TypeVar("T")
_Number = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class ControlError(Refused):
    """Why a request is not done, with a constant word for programs; a reply carries it."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(reason)


class Collection(msgspec.Struct, frozen=True, order=True):
    """What is collected: a data type of a symbol, or of all symbols, of a venue."""

    venue: str
    data_type: str
    symbol: str

    def __str__(self) -> str:
        return f"{self.venue}:{self.data_type}:{self.symbol}"


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="request", tag=str):
    """The base of all requests; ``id`` comes back in the reply."""

    FORM: ClassVar[str] = "no keys of its own"

    id: str = ""

    def check(self) -> None:
        """Raise ControlError for what the types alone let pass."""


class _OfCollection(Request, frozen=True, kw_only=True):
    """A request about one collection."""

    FORM: ClassVar[str] = "venue, data_type and symbol, texts"

    venue: str
    data_type: str
    symbol: str

    @property
    def collection(self) -> Collection:
        """What the request is about."""
        return Collection(self.venue, self.data_type, self.symbol)

    def check(self) -> None:
        """Refuse a data type that is none, and names that a topic cannot carry."""
        if self.data_type not in DATA_TYPES:
            found, allowed = wire.shown(self.data_type), ", ".join(DATA_TYPES)
            raise ControlError(
                "UNKNOWN_DATA_TYPE", f"data_type: found {found}, allowed are {allowed}"
            )
        try:
            wire.topic(self.venue, self.data_type, self.symbol)
        except Rejected as error:
            raise ControlError("BAD_NAME", str(error)) from None


class StartCollection(_OfCollection, frozen=True, kw_only=True):
    """Collect this from now on."""


class StopCollection(_OfCollection, frozen=True, kw_only=True):
    """Collect it no longer."""


class ListCollections(Request, frozen=True, kw_only=True):
    """What is collected."""


class StopAllCollections(Request, frozen=True, kw_only=True):
    """Collect nothing any more."""


class Sequences(Request, frozen=True, kw_only=True):
    """How far the topics are that begin with ``prefix``, and sort after ``after``."""

    FORM: ClassVar[str] = "prefix and after, texts, either may be left out"

    prefix: str = ""
    after: str = ""


class Resend(Request, frozen=True, kw_only=True):
    """Send these numbers of a topic again, both included."""

    FORM: ClassVar[str] = "topic, a text, and epoch, from and to, integers from 1 to 2^63 - 1"

    topic: str
    epoch: _Number
    first: _Number = msgspec.field(name="from")
    last: _Number = msgspec.field(name="to")

    def check(self) -> None:
        """Refuse a range that ends before it begins."""
        if self.last < self.first:
            raise ControlError(
                "BAD_REQUEST", f"to: found {self.last}, allowed is from ({self.first}) or more"
            )


REQUESTS: dict[str, type[Request]] = {
    cls.__name__: cls
    for cls in (
        StartCollection,
        StopCollection,
        ListCollections,
        StopAllCollections,
        Sequences,
        Resend,
    )
}


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The base of the results of requests that were done."""


class Changed(Answer, frozen=True, kw_only=True):
    """Whether it was otherwise before; ``note`` is for people."""

    changed: bool
    note: str = ""


class Collected(Answer, frozen=True, kw_only=True):
    """The collections that there are, or that were stopped; ``note`` is for people."""

    collections: tuple[Collection, ...]
    note: str = ""


class Position(msgspec.Struct, frozen=True):
    """The oldest number of a topic that can be sent again, and the last that was sent."""

    topic: str
    oldest: _Number
    last: _Number


class Positions(Answer, frozen=True, kw_only=True):
    """How far topics are, in the order of their bytes; where not ``complete``, more come after."""

    epoch: _Number
    topics: tuple[Position, ...]
    complete: bool


class Resent(Answer, frozen=True, kw_only=True):
    """Which numbers are sent again with this reply, None where none of them is there any more.

    Where not ``complete``, there are more after ``last``.
    """

    epoch: int
    topic: str
    first: int | None
    last: int | None
    complete: bool


Served = tuple[Answer, Sequence[bytes]]
"""A result, and the frames that follow its reply."""


class Failure(msgspec.Struct, frozen=True):
    """Why a request was not done: a constant word, and what was found and what is allowed."""

    code: str
    reason: str


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What comes back; ``reply`` and ``id`` are null where the request was not understood so far.

    There is a ``result`` where it is ``ok``, else an ``error``.
    """

    reply: str | None
    id: str | None
    ok: bool
    result: msgspec.Raw = msgspec.Raw()
    error: Failure | None = None


class _Head(msgspec.Struct):
    request: str
    id: str = ""


def parse_head(raw: bytes) -> tuple[str, str]:
    """The name and the id of a request, whatever else it holds. Raises ControlError."""
    if len(raw) > MAX_REQUEST_BYTES:
        raise ControlError(
            "BAD_REQUEST", f"found {len(raw)} bytes, allowed are {MAX_REQUEST_BYTES} in a request"
        )
    head = _decoded(raw, _Head, "request, and if you like id, texts")
    return head.request, head.id


def parse(raw: bytes, name: str) -> Request:
    """The request of that name. Raises ControlError with what was found and what is allowed."""
    cls = REQUESTS.get(name)
    if cls is None:
        raise ControlError(
            "UNKNOWN_REQUEST",
            f"request: found {wire.shown(name)}, allowed are {', '.join(REQUESTS)}",
        )
    request = _decoded(raw, cls, cls.FORM)
    request.check()
    return request


def _decoded(raw: bytes, cls: type[T], form: str) -> T:
    try:
        return msgspec.json.decode(raw, type=cls)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError("BAD_REQUEST", f"found no JSON object with {form}: {error}") from None
