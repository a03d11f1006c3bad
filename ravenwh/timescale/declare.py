"""Declarations on SQLAlchemy models: what a developer writes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.schema import SchemaItem
from sqlalchemy.sql import visitors
from sqlalchemy.sql.ddl import CreateView

from ravenwh.timescale import plain
from ravenwh.timescale.errors import DeclarationError
from ravenwh.timescale.interval import interval_text
from ravenwh.timescale.spec import (
    AggregateSpec,
    Columnstore,
    DistributionSpec,
    HypertableSpec,
    Key,
    Refresh,
    ViewSpec,
    declarations_of,
)
from ravenwh.timescale.validate import check_aggregate, check_name_is_free, check_table

__all__ = [
    "ContinuousAggregate",
    "Distributed",
    "Hypertable",
    "Reference",
    "View",
    "copy_metadata",
    "time_bucket",
]

SCHEMA_TOKEN = "{schema}"  # noqa: S105 - no password, a place in a text
"""Stands in SQL texts for the quoted name of the schema, so that one migration fits any name."""

TEXT_DIALECT = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]  # SQLAlchemy's

Select: TypeAlias = sa.Select[Any] | sa.CompoundSelect[Any]


class Hypertable(SchemaItem):
    """Makes a table a hypertable; an item of ``Table(...)`` or of ``__table_args__``.

    ``time_column`` is timestamptz, NOT NULL and in every unique key; ``chunk`` is the chunk
    interval, for new chunks; ``retention`` drops whole chunks that are older. Intervals are texts
    (``7 days``) or timedeltas. The rules are checked when the table is complete. TimescaleDB's own
    time index is not made: declare the index you want on the model.
    """

    __visit_name__ = "ravenwh_timescale_hypertable"

    def __init__(
        self,
        time_column: str,
        *,
        chunk: str | timedelta = "7 days",
        columnstore: Columnstore | None = None,
        retention: str | timedelta | None = None,
    ) -> None:
        self.time_column = time_column
        self.chunk = interval_text(chunk)
        self.columnstore = columnstore
        self.retention = None if retention is None else interval_text(retention)

    def _set_parent(self, parent: Any, **_: Any) -> None:
        event.listen(parent, "after_parent_attach", self._declare)

    def _declare(self, table: sa.Table, _metadata: object) -> None:
        spec = HypertableSpec(
            schema=table.schema,
            name=table.name,
            time_column=self.time_column,
            chunk=self.chunk,
            columnstore=self.columnstore,
            retention=self.retention,
            key_columns=tuple(
                c.name for c in table.primary_key.columns if c.name != self.time_column
            ),
        )
        check_table(table, spec)
        declarations_of(table.metadata).hypertables[spec.key] = spec


class Distributed(SchemaItem):
    """On Citus: the rows are spread over the nodes by this column. Elsewhere: nothing."""

    __visit_name__ = "ravenwh_timescale_distributed"

    def __init__(self, column: str) -> None:
        self.column: str | None = column

    def _set_parent(self, parent: Any, **_: Any) -> None:
        event.listen(parent, "after_parent_attach", self._declare)

    def _declare(self, table: sa.Table, _metadata: object) -> None:
        name = f"Distributed {table.name!r}"
        if self.column is not None:
            if self.column not in table.c:
                raise DeclarationError(name, f"there is no column {self.column!r}")
            keys = [
                constraint.columns.keys()
                for constraint in table.constraints
                if isinstance(constraint, sa.PrimaryKeyConstraint | sa.UniqueConstraint)
            ]
            if any(key and self.column not in key for key in keys):
                raise DeclarationError(name, f"{self.column!r} must be in every unique key")
        spec = DistributionSpec(schema=table.schema, name=table.name, column=self.column)
        declarations_of(table.metadata).distributions[spec.key] = spec


class Reference(Distributed):
    """On Citus: the whole table is on every node. Elsewhere: nothing."""

    __visit_name__ = "ravenwh_timescale_reference"

    def __init__(self) -> None:
        self.column = None


class View:
    """A plain view: ``table`` can be selected from, and is never created by ``create_all``.

    The SELECT may use ``time_bucket``, ``first`` and ``last``: where there is no TimescaleDB they
    are written in stock SQL, or ``fallback`` is taken.
    """

    def __init__(
        self,
        name: str,
        select: Select,
        *,
        metadata: sa.MetaData,
        schema: str | None = None,
        fallback: Select | None = None,
    ) -> None:
        schema = metadata.schema if schema is None else schema
        check_name_is_free(metadata, (schema, name), "View")
        definition = sql_of(select, schema)
        spec = ViewSpec(
            schema=schema,
            name=name,
            definition=definition,
            fallback=fallback_of(f"View {name!r}", definition, fallback, schema),
            sources=sources_of(select),
        )
        self.table = view_table(name, select, metadata, schema)
        declarations_of(metadata).relations[spec.key] = spec

    @property
    def c(self) -> Any:
        """The columns of ``table``."""
        return self.table.c


class ContinuousAggregate:
    """A rollup that TimescaleDB keeps, read through ``table``; elsewhere a view, same rows.

    ``select`` reads one hypertable or aggregate, groups by one :func:`time_bucket` and by plain
    columns. It shows rows that are not yet materialised unless ``materialized_only``. ``fallback``
    is only needed where the SELECT has no stock form of itself (more than two arguments in
    time_bucket). Raises DeclarationError for every rule that it breaks.
    """

    def __init__(
        self,
        name: str,
        select: sa.Select[Any],
        *,
        metadata: sa.MetaData,
        schema: str | None = None,
        refresh: Refresh | None = None,
        columnstore: Columnstore | None = None,
        retention: str | timedelta | None = None,
        materialized_only: bool = False,
        fallback: Select | None = None,
    ) -> None:
        schema = metadata.schema if schema is None else schema
        told = f"ContinuousAggregate {name!r}"
        check_name_is_free(metadata, (schema, name), "ContinuousAggregate")
        definition = sql_of(select, schema)
        try:
            bucket = plain.bucket_width(definition)
        except ValueError as error:
            raise DeclarationError(told, str(error)) from None
        if not bucket.span:
            raise DeclarationError(told, "the bucket must be longer than nothing")
        time_column, key_columns = grouped_by(told, select)
        spec = AggregateSpec(
            schema=schema,
            name=name,
            definition=definition,
            fallback=fallback_of(told, definition, fallback, schema),
            bucket=bucket,
            time_column=time_column,
            key_columns=key_columns,
            sources=sources_of(select),
            materialized_only=materialized_only,
            refresh=refresh,
            columnstore=columnstore,
            retention=None if retention is None else interval_text(retention),
        )
        check_aggregate(spec, declarations_of(metadata))
        self.table = view_table(name, select, metadata, schema)
        declarations_of(metadata).relations[spec.key] = spec

    @property
    def c(self) -> Any:
        """The columns of ``table``."""
        return self.table.c


def time_bucket(width: str | timedelta, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The start of the bucket that a time falls in, in UTC; weeks start on Monday."""
    interval = sa.literal_column(f"INTERVAL '{interval_text(width)}'", sa.Interval())
    return sa.func.time_bucket(interval, column, type_=sa.TIMESTAMP(timezone=True))


def sql_of(select: Select, schema: str | None) -> str:
    """The SELECT as one line of SQL, with the token where the schema is named."""
    options: dict[str, Any] = {"compile_kwargs": {"literal_binds": True}}
    if schema is not None:
        options |= {"schema_translate_map": {schema: SCHEMA_TOKEN}, "render_schema_translate": True}
    text = str(select.compile(dialect=TEXT_DIALECT, **options))
    return plain.collapse(text.replace(f'"{SCHEMA_TOKEN}"', SCHEMA_TOKEN))


def fallback_of(told: str, definition: str, given: Select | None, schema: str | None) -> str:
    """The text for a server without TimescaleDB. Raises DeclarationError."""
    if given is not None:
        return sql_of(given, schema)
    try:
        return plain.plain_sql(definition)
    except ValueError as error:
        raise DeclarationError(told, f"{error}: give fallback=") from None


def sources_of(select: Select) -> tuple[Key, ...]:
    """The tables and views that a SELECT reads, in the order they are met."""
    found = {
        (element.schema, element.name): None
        for element in visitors.iterate(select)
        if isinstance(element, sa.Table)
    }
    return tuple(found)


def grouped_by(told: str, select: sa.Select[Any]) -> tuple[str, tuple[str, ...]]:
    """The names of the bucket's column and of the plain columns of a rollup."""
    buckets, keys = [], []
    for column in select.selected_columns:
        inner = column.element if isinstance(column, sa.Label) else column
        if isinstance(inner, sa.Column):
            keys.append(str(column.key))
        elif getattr(inner, "name", None) == "time_bucket":
            buckets.append(str(column.key))
    if len(buckets) != 1:
        raise DeclarationError(told, "one column of the SELECT must be the time_bucket, labelled")
    return buckets[0], tuple(keys)


def view_table(name: str, select: Select, metadata: sa.MetaData, schema: str | None) -> sa.Table:
    """A Table that stands for a view: ``is_view``, so that Alembic is told to pass it by."""
    return CreateView(select, name, metadata=metadata, schema=schema).table


def copy_metadata(metadata: sa.MetaData, schema: str | None) -> sa.MetaData:
    """The same tables and declarations, with the schema of the MetaData called ``schema``."""
    home = metadata.schema
    copy = sa.MetaData(schema=schema, naming_convention=metadata.naming_convention)
    for table in metadata.sorted_tables:
        moved_to = schema if table.schema == home else table.schema
        table.to_metadata(copy, schema=moved_to)  # type: ignore[arg-type]  # None is meant
    moved, target = declarations_of(metadata).in_schema(home, schema), declarations_of(copy)
    target.hypertables.update(moved.hypertables)
    target.relations.update(moved.relations)
    target.distributions.update(moved.distributions)
    return copy
