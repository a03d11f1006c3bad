"""Dead letters as they are looked at: alike ones together, or one by one."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator

import attrs

from ravenwh.journal.chunks import decode_frame
from ravenwh.ports import Frame

__all__ = [
    "CAUSE_IS",
    "LETTER_IS",
    "CauseCount",
    "DeadLetter",
    "Selection",
    "causes",
    "letters",
]


@attrs.frozen(kw_only=True)
class DeadLetter:
    """A frame that could not be written, and why. ``at`` is nanoseconds since 1970, UTC."""

    seq: int
    at: int
    error: str
    code: str
    origin: str
    reason: str
    frame: Frame


@attrs.frozen(kw_only=True)
class CauseCount:
    """Letters that are alike: from one feed and one venue and data type, with one error and code.

    ``kept`` letters are there, ``collapsed`` ones were counted only, ``dropped`` ones had to give
    way at the byte limit. ``newest`` is the number of the newest that is there, ``reason`` its
    text. Times are nanoseconds since 1970, UTC.
    """

    feed: str
    origin: str
    error: str
    code: str
    kept: int
    bytes: int
    collapsed: int
    dropped: int
    first_at: int
    last_at: int
    newest: int | None
    reason: str | None


@attrs.frozen(kw_only=True)
class Selection:
    """Which letters are meant: those that have all that is given; without anything, all."""

    numbers: tuple[int, ...] = ()
    feed: str | None = None
    origin: str | None = None
    code: str | None = None

    def values(self) -> dict[str, str | None]:
        """The values that CAUSE_IS and LETTER_IS ask for."""
        numbers = json.dumps(self.numbers) if self.numbers else None
        return {"feed": self.feed, "origin": self.origin, "code": self.code, "numbers": numbers}


CAUSE_IS = """(:feed IS NULL OR feed = :feed) AND (:origin IS NULL OR origin = :origin)
AND (:code IS NULL OR code = :code)"""
LETTER_IS = f"""{CAUSE_IS}
AND (:numbers IS NULL OR seq IN (SELECT value FROM json_each(:numbers)))"""  # noqa: S608  constants
"""The conditions of a selection, on causes, and on letters joined to theirs."""

_CAUSES = f"""
SELECT feed, origin, error, code, kept, cause.bytes, collapsed, dropped, first_at, last_at,
    newest.seq, newest.reason
FROM cause LEFT JOIN dead_letter AS newest
    ON newest.seq = (SELECT max(seq) FROM dead_letter WHERE cause = cause.id)
WHERE {CAUSE_IS} ORDER BY kept + collapsed + dropped DESC, cause.id"""  # noqa: S608  constants

_LETTERS = f"""
SELECT seq, at, error, code, origin, reason, body
FROM dead_letter JOIN cause ON cause.id = cause WHERE {LETTER_IS} ORDER BY seq"""  # noqa: S608  constants


def causes(db: sqlite3.Connection, selection: Selection) -> list[CauseCount]:
    """The causes, those with most letters first."""
    rows = db.execute(_CAUSES, selection.values()).fetchall()
    names = [field.name for field in attrs.fields(CauseCount)]
    return [CauseCount(**dict(zip(names, row, strict=True))) for row in rows]


def letters(db: sqlite3.Connection, selection: Selection) -> Iterator[DeadLetter]:
    """The letters, oldest first, read as they are asked for."""
    with contextlib.closing(db.execute(_LETTERS, selection.values())) as rows:
        for seq, at, error, code, origin, reason, body in rows:
            yield DeadLetter(
                seq=seq,
                at=at,
                error=error,
                code=code,
                origin=origin,
                reason=reason,
                frame=decode_frame(body),
            )
