"""The query for the rows of a series in a range of time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs
import sqlalchemy as sa

from ravenwh.domain.ohlc import PRICES
from ravenwh.schema import DIMENSIONS

__all__ = ["Selection"]

PROVENANCE = ("event_time", "source", "ingested_at", "revised_at")


@attrs.frozen(kw_only=True)
class Selection:
    """Rows of a fact: those of the series of the ``ids``, with ``begin <= open_time < before``.

    None leaves a side open. ``in_coins`` are the columns whose numbers grow with the multiplier.
    """

    table: sa.Table
    ids: Mapping[str, int]
    begin: datetime | None
    before: datetime | None
    in_coins: tuple[str, ...]

    @property
    def rows(self) -> sa.ColumnElement[bool]:
        """Which rows are asked for."""
        columns = self.table.c
        wanted = [columns[f"{name}_id"] == number for name, number in self.ids.items()]
        if self.begin is not None:
            wanted.append(columns.open_time >= self.begin)
        if self.before is not None:
            wanted.append(columns.open_time < self.before)
        return sa.and_(*wanted)

    def query(
        self, by: sa.ColumnElement[float] | None, *, provenance: bool
    ) -> sa.Select[*tuple[Any, ...]]:
        """The query, in the order of the key; ``by`` is the multiplier, if it is not 1."""
        ids = {d.id.name for d in DIMENSIONS}
        columns: list[sa.ColumnElement[Any]] = []
        for column in self.table.columns:
            name = column.name
            if name in ids or (name in PROVENANCE and not provenance):
                continue
            if by is not None and name in PRICES:
                columns.append((column / by).label(name))
            elif by is not None and name in self.in_coins:
                columns.append((column * by).label(name))
            else:
                columns.append(column)
        order = [column for column in self.table.primary_key if column.name not in ids]
        return sa.select(*columns).where(self.rows).order_by(*order)
