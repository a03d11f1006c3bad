"""The one statement that writes a batch of a fact, derived from its table.

Which value wins (the rule): a row of an existing key replaces it only if it is newer in (rank of
its source, event_time). Two versions that are equal in both are told apart by their values, from
the last value column to the first, so that volumes and counts, which only grow within a period,
decide first. The winner is thus the same whatever the order of arrival, and a replay changes
nothing. ``revised_at`` moves when a value changes, ``ingested_at`` never.

The writer's time is a value, one a batch: ``now()`` in DO UPDATE is refused by Citus.
"""

from __future__ import annotations

from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from ravenwh.schema import SOURCES

__all__ = ["Upsert", "counted"]

PROVENANCE = ("event_time", "source", "ingested_at", "revised_at")
BELOW_ALL = float("-inf")
"""Stands for null where versions are compared: any said value is more than none."""


@attrs.frozen(kw_only=True)
class Upsert:
    """The upsert of one fact.

    ``columns`` are what a row gives, in order: key, values, event_time. Parameters are one array a
    column, ``source``, and ``now``; the result is one row: how many were inserted, how many
    revised.
    """

    table: sa.Table
    keys: tuple[str, ...]
    values: tuple[str, ...]
    statement: sa.Select[int, int]
    overrides: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what a row gives, in order."""
        return (*self.keys, *self.values, "event_time")

    @classmethod
    def into(cls, table: sa.Table, *, overrides: bool = False) -> Upsert:
        """Derive the statement from the table.

        With ``overrides`` a row of an existing key is replaced whatever it says: for who has looked
        at all rows before, and knows that they are wrong.
        """
        keys = tuple(column.name for column in table.primary_key)
        values = tuple(
            column.name
            for column in table.columns
            if column.name not in keys and column.name not in PROVENANCE
        )
        written = _written(table, keys, values, (), overrides=overrides)
        return cls(
            table=table,
            keys=keys,
            values=values,
            statement=counted(written),
            overrides=overrides,
        )

    def written(self, *also: str) -> sa.CTE:
        """The upsert as part of a larger statement, which holds :func:`counted` of it.

        Its rows are those that were written: ``inserted``, ``revised``, and other columns.
        """
        return _written(self.table, self.keys, self.values, also, overrides=self.overrides)


def counted(written: sa.CTE) -> sa.Select[int, int]:
    """How many were inserted, how many revised."""
    return sa.select(
        sa.func.count().filter(written.c.inserted).label("inserted"),
        sa.func.count().filter(written.c.revised & ~written.c.inserted).label("revised"),
    )


def _written(
    table: sa.Table,
    keys: tuple[str, ...],
    values: tuple[str, ...],
    also: tuple[str, ...],
    *,
    overrides: bool = False,
) -> sa.CTE:
    given = (*keys, *values, "event_time")
    batch = (
        sa.func.unnest(*(sa.bindparam(n, type_=ARRAY(table.c[n].type)) for n in given))
        .table_valued(*(sa.column(n, table.c[n].type) for n in given), name="batch")
        .render_derived()
    )
    now = sa.bindparam("now", type_=table.c.ingested_at.type)
    rows = insert(table).from_select(
        [*given, "source", "ingested_at"],
        sa.select(*(batch.c[n] for n in given), sa.bindparam("source", type_=sa.Text()), now),
    )

    def version(row: ReadOnlyColumnCollection[str, Any]) -> sa.Tuple:
        ranks = sa.literal(list(SOURCES), ARRAY(sa.Text()))
        return sa.tuple_(
            sa.func.array_position(ranks, row.source),
            row.event_time,
            *(
                sa.func.coalesce(row[n], sa.literal(BELOW_ALL, sa.Double()))
                if table.c[n].nullable
                else row[n]
                for n in reversed(values)
            ),
        )

    def content(row: ReadOnlyColumnCollection[str, Any]) -> sa.Function[Any]:
        return sa.func.row(*(row[n] for n in values))

    new, old = rows.excluded, table.c
    changed = content(new).is_distinct_from(content(old))
    return (
        rows.on_conflict_do_update(
            index_elements=list(keys),
            set_={n: new[n] for n in (*values, "event_time", "source")}
            | {"revised_at": sa.case((changed, new.ingested_at), else_=old.revised_at)},
            where=None if overrides else version(new) > version(old),
        )
        .returning(
            (old.ingested_at == now).label("inserted"),
            sa.func.coalesce(old.revised_at == now, sa.false()).label("revised"),
            *(old[n] for n in also),
        )
        .cte("written")
    )
