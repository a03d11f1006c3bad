"""Rows of a fact on their way, and what becomes of their messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from ravenwh.domain.errors import RavenwhError
from ravenwh.ports import WriteResult
from ravenwh.schema import DIMENSIONS
from ravenwh.warehouse.upsert import BELOW_ALL

__all__ = ["FactBatch", "key_of", "version_of"]


@attrs.define
class FactBatch:
    """Rows on their way, without the ids: by the ids, and what else is of the key.

    ``messages`` are their places in what was given, and their intervals, where rows are judged by
    those around them.
    """

    rows: dict[tuple[Any, ...], tuple[Any, ...]] = attrs.field(factory=dict)
    messages: dict[tuple[Any, ...], tuple[int, str]] = attrs.field(factory=dict)
    rejected: list[tuple[int, RavenwhError]] = attrs.field(factory=list)
    folded: int = 0
    written: int = 0

    def columns(self, names: tuple[str, ...]) -> dict[str, Sequence[Any]]:
        """The rows turned into columns."""
        ids = zip(*(key[0] for key in self.rows), strict=True)
        values = zip(*self.rows.values(), strict=True)
        return dict(zip(names, (*ids, *values), strict=True))

    def result(self, rejected: Sequence[tuple[int, RavenwhError]]) -> WriteResult:
        """What became of the messages; ``rejected`` are those that could be no row at all."""
        return WriteResult(
            written=self.written,
            unchanged=len(self.rows) - self.written,
            folded=self.folded,
            rejected=(*rejected, *self.rejected),
        )


def key_of(named: Mapping[str, str], keys: Sequence[str]) -> tuple[Any, ...] | None:
    """The key of a row that the database names; None where it names none."""
    ids, (opened, *others) = keys[: len(DIMENSIONS)], keys[len(DIMENSIONS) :]
    try:
        return (
            tuple(int(named[name]) for name in ids),
            datetime.fromisoformat(named[opened]),
            *(int(named[name]) for name in others),
        )
    except (KeyError, ValueError):
        return None


def version_of(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """What decides which of two rows of a key and a source wins; as in the statement."""
    event_time = values[-1]
    return (event_time, *(BELOW_ALL if v is None else v for v in values[-2:0:-1]))
