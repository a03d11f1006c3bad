"""What the database says, turned into the error whose class is the action: the one table."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError

from ravenwh.domain.errors import RavenwhError, Rejected, SchemaMismatch, TooLarge, Unavailable

__all__ = ["BY_STATE", "by_state", "row_of", "state_of", "translate", "translated"]

Action = type[RavenwhError]

# what the server writes in its detail; keys come first in our tables, and have no commas in them
_WHOLE_ROW = re.compile(r"Failing row contains \((.*)\)\.", re.DOTALL)
_KEY = re.compile(r"Key \((.*?)\)=\((.*)\) already exists\.", re.DOTALL)

BY_STATE: dict[str, Action] = {
    # classes (the first two characters), https://www.postgresql.org/docs/current/errcodes-appendix.html
    "08": Unavailable,  # connection exceptions
    "0A": Unavailable,  # feature not supported: a setting or a frozen chunk, not the row
    "21": Rejected,  # cardinality violation
    "22": Rejected,  # data exceptions
    "23": Rejected,  # integrity violations
    "25": Unavailable,  # invalid transaction state: a read-only standby
    "28": Unavailable,  # authorisation
    "3D": Unavailable,  # the database does not exist (yet)
    "40": Unavailable,  # deadlock, serialisation
    "42": SchemaMismatch,  # undefined table or column
    "53": Unavailable,  # insufficient resources, too many connections
    "54": TooLarge,  # program limits
    "55": Unavailable,  # object not in the prerequisite state, lock not available
    "57": Unavailable,  # shutdown, cancelled, starting up
    "58": Unavailable,  # system errors
    "XX": Unavailable,  # internal errors
    # exceptions from the class's rule
    "23503": Unavailable,  # a dimension row went away between look-up and write: look up again
    "42501": Unavailable,  # insufficient privilege: a right can be granted
    "42710": Unavailable,  # TimescaleDB was upgraded, and ends the sessions of the old version
    "53400": TooLarge,  # configuration limit: tuples decompressed by one statement
}
"""SQLSTATE, or its class, to the action; the longer key wins."""

PERSON = frozenset({"0A", "28", "3D", "42501"})
"""States that waiting alone does not mend."""


def by_state(state: str, text: str) -> RavenwhError:
    """The error for a SQLSTATE and what the server said."""
    if not state:
        return Unavailable(f"the database cannot be reached: {text}")
    action = BY_STATE.get(state) or BY_STATE.get(state[:2]) or Unavailable
    if action is Unavailable:
        person = state in PERSON or state[:2] in PERSON
        return Unavailable(f"the database refused: {text} ({state})", needs_person=person)
    if action is Rejected:
        return Rejected(f"the database refused the row: {text}", code=f"SQLSTATE_{state}")
    if action is SchemaMismatch:
        text += "; the tables of this version are made by `ravenwh alembic upgrade head`"
    return action(f"the database refused: {text} ({state})")


def state_of(error: Exception) -> str:
    """The SQLSTATE that the server gave; empty where it said nothing."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(original, "sqlstate", None) or "")


def row_of(error: DBAPIError, columns: Sequence[str]) -> dict[str, str]:
    """The row of a table with these columns that the server refused: values as text, by name.

    Of a row that breaks a check it tells all of them, of one that is not unique those that should
    be; empty where it tells none, as of a value that is no value.
    """
    detail = str(getattr(getattr(error.orig, "__cause__", None), "detail", None) or "")
    if whole := _WHOLE_ROW.match(detail):
        return dict(zip(columns, whole[1].split(", "), strict=False))
    if key := _KEY.match(detail):
        return dict(zip(key[1].split(", "), key[2].split(", "), strict=False))
    return {}


def translate(error: Exception) -> RavenwhError:
    """The error of ours that stands for one of SQLAlchemy, the driver, or the socket."""
    original = error.orig if isinstance(error, DBAPIError) else error
    text = str(original)
    if text.startswith("<class "):  # SQLAlchemy puts the driver's class before its words
        text = text.partition(": ")[2]
    return by_state(state_of(error), text or type(original).__name__)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise our errors for the driver's."""
    try:
        yield
    except (DBAPIError, InterfaceError, sa.exc.TimeoutError, OSError) as error:
        raise translate(error) from error
