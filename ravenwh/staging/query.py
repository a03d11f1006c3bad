"""Questions to InfluxDB, and their rows as a stream.

InfluxQL on ``/query``, which InfluxDB 1 and 2 both speak: version 2 takes the name of a bucket for
that of a database.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import attrs
import msgspec
from urllib3.exceptions import HTTPError

from ravenwh.domain.errors import RavenwhError, Refused, Unavailable
from ravenwh.staging.answers import Verdict
from ravenwh.staging.identity import MILLISECOND
from ravenwh.staging.measurements import Measurement
from ravenwh.staging.server import Server, answer_of, failed

__all__ = ["Selection", "Span", "count_by_day", "rows", "select", "tag_values"]

CHUNK = 10_000
"""Rows that are held at a time."""

BLOCK = 1 << 16

REMEDIES = {
    401: "put a token that may read the bucket into influx.token_file (or influx.token)",
    403: "give the token the right to read the bucket, or put another one into influx.token_file",
    404: "make the bucket (python -m runners.init), or mend influx.bucket and influx.org",
}
"""What a person does about an answer that waiting does not mend."""

RowT = TypeVar("RowT")


class _Series(msgspec.Struct, Generic[RowT]):
    values: list[RowT]


class _Result(msgspec.Struct, Generic[RowT]):
    series: list[_Series[RowT]] = []
    error: str | None = None


class _Reply(msgspec.Struct, Generic[RowT]):
    results: list[_Result[RowT]] = []
    error: str | None = None


@attrs.frozen(kw_only=True)
class Span:
    """Times from ``start`` to before ``end``, in nanoseconds since 1970; None is open."""

    start: int | None = None
    end: int | None = None

    def of_events(self) -> Span:
        """The same for points with a slot: those of a millisecond go with its beginning."""
        return Span(start=_up(self.start), end=_up(self.end))


def _up(at: int | None) -> int | None:
    return None if at is None else -(-at // MILLISECOND) * MILLISECOND


@attrs.frozen(kw_only=True)
class Selection:
    """Which points are meant: of these symbols and this exchange, None being all."""

    measurement: Measurement
    symbols: Sequence[str] | None = None
    exchange: str | None = None
    span: Span = Span()

    @property
    def symbol(self) -> str | None:
        """The one symbol that is meant, if it is one."""
        return self.symbols[0] if self.symbols and len(self.symbols) == 1 else None

    @property
    def row_type(self) -> Any:
        """The type of a row: the point's time in nanoseconds, the tags, then the fields."""
        kinds = [field.kind | None for field in self.measurement.fields]
        return tuple[(int, *((str | None,) * len(self.measurement.tags)), *kinds)]  # type: ignore[misc]  # made at run time


def select(selection: Selection) -> str:
    """The question for the points, oldest first."""
    measurement = selection.measurement
    columns = [f"{_name(tag)}::tag" for tag in measurement.tags]
    columns += [f"{_name(field.name)}::field" for field in measurement.fields]
    where = _where(selection)
    return f"SELECT {', '.join(columns)} FROM {_name(measurement.name)}{where} ORDER BY time"  # noqa: S608  everything in it is quoted


def count_by_day(selection: Selection) -> tuple[str, Any]:
    """The question for how many points have a field, by day, and the type of a row.

    A row has the start of the day in nanoseconds, then a count for each field that tells: the one
    that all points have, or all of them where there is none. A day without points has no row.
    """
    fields = selection.measurement.fields
    telling = [field for field in fields if not field.optional][:1] or fields
    columns = ", ".join(f"count({_name(field.name)})" for field in telling)
    origin = f"FROM {_name(selection.measurement.name)}{_where(selection)}"
    kinds = (int, *((int | None,) * len(telling)))
    return f"SELECT {columns} {origin} GROUP BY time(1d) fill(none)", tuple[kinds]  # type: ignore[valid-type]  # made at run time


def tag_values(measurement: str, tag: str, *, exchange: str | None = None) -> str:
    """The question for all values of a tag."""
    where = "" if exchange is None else f' WHERE "exchange" = {_text(exchange)}'
    return f"SHOW TAG VALUES FROM {_name(measurement)} WITH KEY = {_name(tag)}{where}"


def rows(server: Server, question: str, row_type: type[RowT]) -> Generator[list[RowT]]:
    """The rows of the answer, in order, some thousand at a time.

    Raises Unavailable, and Refused where the server does not understand.
    """
    decoder = msgspec.json.Decoder(_Reply[row_type])  # type: ignore[valid-type]  # made at run time
    asked = {
        "db": server.settings.bucket,
        "q": question,
        "epoch": "ns",
        "chunked": "true",
        "chunk_size": str(CHUNK),
    }
    body = urlencode(asked).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    try:
        with server.asked("POST", "/query", {}, body=body, headers=headers) as response:
            if response.status != 200:
                answer = answer_of(response)
                raise _error(server, str(answer), answer.verdict, REMEDIES.get(answer.status, ""))
            for line in _lines(response.stream(BLOCK, decode_content=True)):
                reply = decoder.decode(line)
                for result in reply.results:
                    if error := reply.error or result.error:
                        raise _error(server, error, Verdict.CONFIG)
                    yield from (series.values for series in result.series)
    except (HTTPError, OSError) as error:
        raise _error(server, str(failed(error)), Verdict.TRANSIENT) from error
    except msgspec.DecodeError as error:
        raise _error(server, f"an answer that nobody can read: {error}", Verdict.CONFIG) from error


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks of bytes, cut anew at the ends of lines."""
    rest: list[bytes] = []
    for block in blocks:
        *whole, last = block.split(b"\n")
        for line in whole:
            yield b"".join((*rest, line))
            rest.clear()
        rest.append(last)
    if line := b"".join(rest):
        yield line


def _error(server: Server, found: str, verdict: Verdict, remedy: str = "") -> RavenwhError:
    text = f"{server}, bucket {server.settings.bucket}: {found}" + (f"; {remedy}" if remedy else "")
    if verdict is Verdict.TRANSIENT:
        return Unavailable(text)
    return Unavailable(text, needs_person=True) if remedy else Refused(text)


def _where(selection: Selection) -> str:
    terms: list[str] = []
    if selection.symbols is not None:
        terms.append(f"{_name(selection.measurement.symbol_tag)} {_among(selection.symbols)}")
    if selection.exchange is not None:
        terms.append(f'"exchange" = {_text(selection.exchange)}')
    span = selection.span.of_events() if selection.measurement.of_events else selection.span
    if span.start is not None:
        terms.append(f"time >= {span.start}")
    if span.end is not None:
        terms.append(f"time < {span.end}")
    return f" WHERE {' AND '.join(terms)}" if terms else ""


def _among(values: Sequence[str]) -> str:
    if len(values) == 1:
        return f"= {_text(values[0])}"
    pattern = "|".join(re.escape(value) for value in values).replace("/", "\\/")
    return f"=~ /^(?:{pattern})$/"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def _name(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
