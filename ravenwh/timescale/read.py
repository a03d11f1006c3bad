"""What a database has of all this, read from its catalogs as values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import attrs
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from ravenwh.timescale.catalogs import (
    AGGREGATES,
    CITUS,
    HYPERTABLES,
    JOBS,
    READS,
    READS_AGGREGATES,
    VIEWS,
)
from ravenwh.timescale.ddl import MARK, MARK_FALLBACK, quoted
from ravenwh.timescale.level import Level
from ravenwh.timescale.plain import collapse

__all__ = [
    "Found",
    "FoundAggregate",
    "FoundHypertable",
    "FoundPolicies",
    "FoundView",
    "Place",
    "deparsed",
    "read",
    "tokenised",
]

Place: TypeAlias = tuple[str, str]
"""Schema and name, the schema never None."""


@attrs.frozen(kw_only=True)
class FoundHypertable:
    """A hypertable; ``columnstore`` is (segmentby, orderby) where it is enabled."""

    time_column: str
    chunk: str
    columnstore: tuple[tuple[str, ...], str] | None


@attrs.frozen(kw_only=True)
class FoundView:
    """A plain view; ``reads`` are (schema, name, column) of what it depends on."""

    definition: str
    comment: str | None
    reads: frozenset[tuple[str, str, str | None]]

    @property
    def ours(self) -> bool:
        """Whether it carries our mark."""
        return self.comment in (MARK, MARK_FALLBACK)


@attrs.frozen(kw_only=True)
class FoundAggregate(FoundView):
    """A continuous aggregate."""

    materialized_only: bool
    columnstore: tuple[tuple[str, ...], str] | None


@attrs.frozen(kw_only=True)
class FoundPolicies:
    """The jobs of one table or aggregate, with their times."""

    retention: tuple[str, str] | None = None
    columnstore: tuple[str, str] | None = None
    refreshes: tuple[tuple[str | None, str | None, str], ...] = ()


@attrs.frozen(kw_only=True)
class Found:
    """All of it, in some schemas."""

    hypertables: dict[Place, FoundHypertable]
    relations: dict[Place, FoundView]
    policies: dict[Place, FoundPolicies]
    distributions: dict[Place, str | None]

    def policies_of(self, place: Place) -> FoundPolicies:
        """Its policies, which may be none."""
        return self.policies.get(place, FoundPolicies())


@contextmanager
def steady(connection: sa.Connection) -> Iterator[None]:
    """Session settings that decide how the server writes names and intervals; undone at the end."""
    savepoint = connection.begin_nested()
    try:
        connection.exec_driver_sql("SET LOCAL search_path = public")
        connection.exec_driver_sql("SET LOCAL intervalstyle = postgres")
        connection.exec_driver_sql("SET LOCAL timezone = 'UTC'")
        yield
    finally:
        savepoint.rollback()


def read(connection: sa.Connection, level: Level, schemas: Collection[str]) -> Found:
    """Everything in these schemas; TimescaleDB's own tables are asked only where they are."""
    community = level is Level.COMMUNITY
    with steady(connection):
        rows = Rows(connection=connection, schemas=tuple(schemas))
        views = {place(row): row for row in rows(VIEWS)}
        aggregates = {place(row): row for row in rows(AGGREGATES)} if community else {}
        reads: dict[Place, set[tuple[str, str, str | None]]] = {}
        for row in rows(READS_AGGREGATES if community else READS):
            reads.setdefault(place(row), set()).add(
                (row.read_schema, row.read_name, row.read_column)
            )
        relations: dict[Place, FoundView] = {}
        for where, row in views.items():
            common: dict[str, Any] = {
                "comment": row.comment,
                "reads": frozenset(reads.get(where, ())),
            }
            if aggregate := aggregates.get(where):
                relations[where] = FoundAggregate(
                    definition=collapse(aggregate.definition),
                    materialized_only=aggregate.materialized_only,
                    columnstore=columnstore(aggregate),
                    **common,
                )
            else:
                relations[where] = FoundView(definition=collapse(row.definition), **common)
        return Found(
            hypertables={
                place(row): FoundHypertable(
                    time_column=row.time_column, chunk=row.chunk, columnstore=columnstore(row)
                )
                for row in (rows(HYPERTABLES) if community else ())
            },
            relations=relations,
            policies=policies(rows(JOBS) if community else ()),
            distributions={
                place(row): row.distribution_column if row.kind == "distributed" else None
                for row in (rows(CITUS) if level is Level.CITUS else ())
            },
        )


@attrs.frozen(kw_only=True)
class Rows:
    """Runs a query of this module for some schemas."""

    connection: sa.Connection
    schemas: tuple[str, ...]

    def __call__(self, query: str) -> list[Any]:
        """The rows; the query names the schemas as ``:schemas``."""
        statement = sa.text(query).bindparams(sa.bindparam("schemas", expanding=True))
        return list(self.connection.execute(statement, {"schemas": self.schemas}))


def place(row: Any) -> Place:
    """Where a row is about."""
    return row.schema, row.name


def columnstore(row: Any) -> tuple[tuple[str, ...], str] | None:
    """The settings of a columnstore that is enabled."""
    if not row.columnstore:
        return None
    names = tuple(name.strip().strip('"') for name in (row.segmentby or "").split(",") if name)
    return names, row.orderby or ""


def policies(jobs: Iterable[Any]) -> dict[Place, FoundPolicies]:
    """The jobs by what they work on."""
    found: dict[Place, FoundPolicies] = {}
    for job in jobs:
        old = found.get(place(job), FoundPolicies())
        if job.kind == "policy_retention":
            new = attrs.evolve(old, retention=(job.drop_after, job.schedule))
        elif job.kind == "policy_compression":
            new = attrs.evolve(old, columnstore=(job.compress_after, job.schedule))
        else:
            one = (job.start_offset, job.end_offset, job.schedule)
            new = attrs.evolve(old, refreshes=(*old.refreshes, one))
        found[place(job)] = new
    return found


def deparsed(connection: sa.Connection, select: str) -> str | None:
    """The SELECT in the server's own spelling, or None where it cannot be made at present.

    A temporary view is made and undone: no lock on what exists is taken but that of reading.
    """
    try:
        with steady(connection):
            connection.exec_driver_sql(
                f"CREATE TEMPORARY VIEW ravenwh_timescale_probe AS {doubled(connection, select)}"
            )
            text = connection.scalar(
                sa.text("SELECT pg_get_viewdef(CAST(:name AS regclass))"),
                {"name": "pg_temp.ravenwh_timescale_probe"},
            )
    except DBAPIError as error:
        if sqlstate(error).startswith("42") and sqlstate(error) != "42501":
            return None  # a table or column that the same revision is to make
        raise
    return collapse(str(text))


def doubled(connection: sa.Connection, sql: str) -> str:
    """The text as the driver wants it, who may take % for a parameter."""
    return sql.replace("%", "%%") if "format" in connection.dialect.paramstyle else sql


def sqlstate(error: DBAPIError) -> str:
    """The five signs of the SQL standard, of whatever driver."""
    return str(
        getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or "?????"
    )


def tokenised(sql: str, schema: str) -> str:
    """A definition from the database with ``{schema}`` where it names the schema."""
    name = re.escape(schema)
    pattern = rf"'(?:[^']|'')*'|(?<![\w.\"$])(?:{name}|{re.escape(quoted(schema))}|\"{name}\")\."
    return re.sub(pattern, lambda m: m[0] if m[0].startswith("'") else "{schema}.", sql)
