"""The SELECT of a rollup without TimescaleDB: the same rows from stock PostgreSQL.

``time_bucket`` becomes ``date_bin`` (``date_trunc`` for months and years), ``first`` and ``last``
become the first element of an ordered array. It works on the text, so that what a server gives
back (its own spelling of a definition) is translated by the same rules as what a model says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ravenwh.timescale.interval import Interval

__all__ = ["ORIGIN", "bucket_is_plain", "bucket_width", "collapse", "literals_apart", "plain_sql"]

ORIGIN = "TIMESTAMPTZ '2000-01-03 00:00:00+00'"
"""A Monday: with it date_bin gives TimescaleDB's days and weeks."""

TRUNCATED = {1: "month", 3: "quarter", 12: "year"}
CALL = re.compile(
    r"(?<![\w.\"])(?:(?:public|\"public\")\.)?(time_bucket|first|last)\(", re.IGNORECASE
)
LITERAL = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
WIDTH = re.compile(r"'([^']+)'")


def literals_apart(sql: str) -> Iterator[tuple[bool, str]]:
    """The text in pieces: (whether the piece is quoted, the piece)."""
    at = 0
    for match in LITERAL.finditer(sql):
        yield False, sql[at : match.start()]
        yield True, match[0]
        at = match.end()
    yield False, sql[at:]


def collapse(sql: str) -> str:
    """The text in one line, with single spaces, but what is quoted as it was."""
    pieces = (
        piece if quoted else re.sub(r"\s+", " ", piece) for quoted, piece in literals_apart(sql)
    )
    return "".join(pieces).strip().rstrip(";").rstrip()


def arguments(sql: str, start: int) -> tuple[list[str], int]:
    """The arguments of a call whose parenthesis opened before ``start``, and where it ends."""
    found, depth, at, begun = [], 0, start, start
    while at < len(sql):
        if literal := LITERAL.match(sql, at):
            at = literal.end()
            continue
        sign = sql[at]
        if sign in "([":
            depth += 1
        elif depth == 0 and sign in ",)":
            found.append(sql[begun:at].strip())
            begun = at + 1
            if sign == ")":
                return found, at + 1
        elif sign in ")]":
            depth -= 1
        at += 1
    raise ValueError(f"a parenthesis is not closed in: {sql}")


def calls(sql: str) -> Iterator[tuple[int, int, str, list[str]]]:
    """Every call that stock PostgreSQL lacks: where it is, its name, its arguments."""
    quoted = [match.span() for match in LITERAL.finditer(sql)]
    for match in CALL.finditer(sql):
        if not any(begin <= match.start() < end for begin, end in quoted):
            given, end = arguments(sql, match.end())
            yield match.start(), end, match[1].lower(), given


def bucket_width(sql: str) -> Interval:
    """The width of the buckets of a SELECT. Raises ValueError where there is not exactly one."""
    widths = set()
    for _, _, name, given in calls(sql):
        if name == "time_bucket":
            width = WIDTH.search(given[0])
            if width is None:
                raise ValueError(f"the width {given[0]} of time_bucket is not a written interval")
            widths.add(Interval.parse(width[1]))
    if len(widths) != 1:
        raise ValueError("the SELECT must group by one time_bucket(INTERVAL '...', time column)")
    return widths.pop()


def bucket_is_plain(sql: str) -> bool:
    """Whether the buckets of a SELECT have no time zone, origin or offset of their own."""
    return all(len(given) == 2 for _, _, name, given in calls(sql) if name == "time_bucket")


def plain_sql(sql: str) -> str:
    """The same SELECT for stock PostgreSQL 15. Raises ValueError for what has no such form."""
    out, at = [], 0
    for begin, end, name, given in calls(sql):
        if begin < at:
            continue  # inside a call that was translated as a whole
        out += [sql[at:begin], translated(name, [plain_sql(each) for each in given])]
        at = end
    return "".join([*out, sql[at:]])


def translated(name: str, given: list[str]) -> str:
    """One call in stock PostgreSQL."""
    if len(given) != 2:
        raise ValueError(f"{name} with {len(given)} arguments has no plain form")
    if name != "time_bucket":
        order = "" if name == "first" else " DESC"
        return f"(array_agg({given[0]} ORDER BY {given[1]}{order}))[1]"
    found = WIDTH.search(given[0])
    if found is None:
        raise ValueError(f"the width {given[0]} of time_bucket is not a written interval")
    width = Interval.parse(found[1])
    if not width.months:
        return f"date_bin(INTERVAL '{width}', {given[1]}, {ORIGIN})"
    if width.months not in TRUNCATED or width.days or width.microseconds:
        raise ValueError(f"a bucket of {width} has no plain form")
    return f"date_trunc('{TRUNCATED[width.months]}', {given[1]}, 'UTC')"
