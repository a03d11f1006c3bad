"""The bars of one series as rows: read, removed, written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from ravenwh.schema import DIMENSIONS
from ravenwh.warehouse.seam import Row
from ravenwh.warehouse.upsert import Upsert

__all__ = ["SeriesRows"]

STATEMENT_ROWS = 20_000

ValueT = TypeVar("ValueT")


@attrs.frozen(kw_only=True)
class SeriesRows:
    """The rows of one series, read and replaced in a transaction of the caller's."""

    table: sa.Table
    upsert: Upsert
    ids: Mapping[str, int]

    @classmethod
    def of(cls, table: sa.Table, ids: Mapping[str, int]) -> Self:
        """Those of the fact with these ids, by the names of their columns."""
        return cls(table=table, upsert=Upsert.into(table, overrides=True), ids=ids)

    @property
    def where(self) -> sa.ColumnElement[bool]:
        """Which rows they are."""
        return sa.and_(*(self.table.c[name] == number for name, number in self.ids.items()))

    @property
    def columns(self) -> tuple[sa.Column[Any], ...]:
        """The values of a Row, which two chains are compared by."""
        c = self.table.c
        return (c.open_time, c.bar_seq, *(c[name] for name in self.upsert.values))

    async def rows(
        self, connection: AsyncConnection, *conditions: sa.ColumnElement[bool]
    ) -> list[Row]:
        """Those that meet the conditions, in the order of their keys."""
        c = self.table.c
        query = sa.select(*self.columns).where(self.where, *conditions)
        found = await connection.execute(query.order_by(c.open_time, c.bar_seq))
        return [tuple(row) for row in found]

    async def first(
        self, connection: AsyncConnection, *conditions: sa.ColumnElement[bool], last: bool = False
    ) -> sa.Row[Any] | None:
        """The first, or the last, that meets the conditions."""
        c = self.table.c
        order = [column.desc() if last else column for column in (c.open_time, c.bar_seq)]
        query = sa.select(self.table).where(self.where, *conditions).order_by(*order).limit(1)
        return (await connection.execute(query)).one_or_none()

    async def count(self, connection: AsyncConnection, *conditions: sa.ColumnElement[bool]) -> int:
        """How many meet the conditions."""
        query = sa.select(sa.func.count()).select_from(self.table).where(self.where, *conditions)
        return int(await connection.scalar(query) or 0)

    async def remove(
        self, connection: AsyncConnection, keys: Sequence[tuple[datetime, int]]
    ) -> None:
        """Delete the rows of these keys, which are in their order."""
        c = self.table.c
        gone = (
            sa.func.unnest(
                sa.bindparam("times", type_=ARRAY(c.open_time.type)),
                sa.bindparam("numbers", type_=ARRAY(c.bar_seq.type)),
            )
            .table_valued(
                sa.column("open_time", c.open_time.type), sa.column("bar_seq", c.bar_seq.type)
            )
            .render_derived(name="gone")
        )
        for part in _parts(keys):
            times, numbers = zip(*part, strict=True)
            # the bounds let TimescaleDB decompress no more than it must
            statement = sa.delete(self.table).where(
                self.where,
                c.open_time.between(times[0], times[-1]),
                c.open_time == gone.c.open_time,
                c.bar_seq == gone.c.bar_seq,
            )
            await connection.execute(statement, {"times": times, "numbers": numbers})

    async def write(self, connection: AsyncConnection, rows: Sequence[Row]) -> int:
        """Insert the rows, or replace those of their keys; how many have changed."""
        changed, now = 0, datetime.now(UTC)
        ids = [self.ids[dimension.id.name] for dimension in DIMENSIONS]
        for part in _parts(rows):
            columns = [*([number] * len(part) for number in ids), *zip(*part, strict=True)]
            given = dict(zip(self.upsert.columns, columns, strict=True))
            done = await connection.execute(
                self.upsert.statement, {**given, "source": "built", "now": now}
            )
            changed += sum(done.one())
        return changed


def _parts(values: Sequence[ValueT]) -> Iterator[Sequence[ValueT]]:
    for at in range(0, len(values), STATEMENT_ROWS):
        yield values[at : at + STATEMENT_ROWS]
