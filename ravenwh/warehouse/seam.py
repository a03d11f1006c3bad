"""Where the bars of a new chain meet those of an old one. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs

__all__ = ["Seam", "key_of", "seam_of"]

Row = tuple[Any, ...]
"""open_time, bar_seq, close_time, then the other values of a bar."""


def key_of(row: Row) -> tuple[datetime, int]:
    """What tells the bars of a series apart, and orders them."""
    return row[0], row[1]


@attrs.frozen(kw_only=True)
class Seam:
    """The rows that two chains have in common, up to the end of the shorter one.

    ``old`` and ``new`` are the places of the first one in each, the lengths where there is none,
    and ``equal`` is how many there are.
    """

    old: int
    new: int
    equal: int


def seam_of(old: Sequence[Row], new: Sequence[Row]) -> Seam:
    """Where two chains agree, each in the order of its keys: equal rows from there to an end."""
    none = Seam(old=len(old), new=len(new), equal=0)
    if not (old and new):
        return none
    a, b = len(old), len(new)
    if key_of(old[-1]) <= key_of(new[-1]):
        b = _behind(new, old[-1])
    else:
        a = _behind(old, new[-1])
    equal = 0
    while equal < min(a, b) and old[a - 1 - equal] == new[b - 1 - equal]:
        equal += 1
    return Seam(old=a - equal, new=b - equal, equal=equal) if equal else none


def _behind(rows: Sequence[Row], row: Row) -> int:
    """The place behind the row of this key, or behind those before it."""
    at = bisect_left(rows, key_of(row), key=key_of)
    return at + 1 if at < len(rows) and key_of(rows[at]) == key_of(row) else at
