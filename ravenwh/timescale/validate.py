"""The rules a declaration must keep, checked when it is made: no database is asked."""

from __future__ import annotations

import sqlalchemy as sa

from ravenwh.timescale.errors import DeclarationError
from ravenwh.timescale.interval import Interval
from ravenwh.timescale.spec import (
    AggregateSpec,
    Columnstore,
    Declarations,
    HypertableSpec,
    Key,
    Refresh,
    declarations_of,
)

__all__ = ["check_aggregate", "check_all", "check_hypertable", "check_table"]


def told(spec: HypertableSpec | AggregateSpec) -> str:
    """How an error names a declaration."""
    kind = "Hypertable" if isinstance(spec, HypertableSpec) else "ContinuousAggregate"
    return f"{kind} {spec.name!r}"


def check_table(table: sa.Table, spec: HypertableSpec) -> None:
    """The rules between a hypertable and its table. Raises DeclarationError."""
    name, time = told(spec), spec.time_column
    if time not in table.c:
        raise DeclarationError(name, f"there is no column {time!r}")
    column = table.c[time]
    if not isinstance(column.type, sa.DateTime) or not column.type.timezone:
        raise DeclarationError(name, f"the time column {time!r} must be timestamp with time zone")
    if column.nullable:
        raise DeclarationError(
            name,
            f"the time column {time!r} must be NOT NULL: TimescaleDB makes it so, and every "
            "comparison would find that",
        )
    uniques = [
        list(constraint.columns.keys())
        for constraint in table.constraints
        if isinstance(constraint, sa.PrimaryKeyConstraint | sa.UniqueConstraint)
    ]
    uniques += [[str(c.name) for c in index.columns] for index in table.indexes if index.unique]
    for columns in uniques:
        if columns and time not in columns:
            raise DeclarationError(
                name, f"the time column {time!r} must be in every unique key, not so: {columns}"
            )
    check_hypertable(spec)
    store = spec.columnstore
    if store is not None and (unknown := sorted(set(store.segmentby) - set(table.c.keys()))):
        raise DeclarationError(name, f"segmentby names columns that are not there: {unknown}")


def check_hypertable(spec: HypertableSpec) -> None:
    """The rules within a hypertable. Raises DeclarationError."""
    if not Interval.parse(spec.chunk).span:
        raise DeclarationError(told(spec), "the chunk interval must be longer than nothing")
    check_columnstore(told(spec), spec.columnstore, spec.time_column, spec.key_columns)
    check_retention(told(spec), spec.retention, spec.columnstore)


def check_columnstore(
    name: str, store: Columnstore | None, time: str, key_columns: tuple[str, ...]
) -> None:
    """The rules of a columnstore. Raises DeclarationError."""
    if store is None:
        return
    if time in store.segmentby:
        raise DeclarationError(name, f"segmentby holds the time column {time!r}: a segment a row")
    ordered = {part.split()[0].strip('"') for part in store.orderby.split(",") if part.strip()}
    if missing := [c for c in key_columns if c not in store.segmentby and c not in ordered]:
        raise DeclarationError(
            name, f"segmentby must cover the key without {time!r}; missing: {', '.join(missing)}"
        )
    if time not in ordered:
        raise DeclarationError(name, f"orderby must name the time column {time!r}")
    if store.schedule is not None and store.after is None:
        raise DeclarationError(name, "a columnstore schedule without `after` is no policy")


def check_retention(name: str, retention: str | None, store: Columnstore | None) -> None:
    """Rows must live longer than it takes to store them by column. Raises DeclarationError."""
    if retention is None or store is None or store.after is None:
        return
    if Interval.parse(retention).span <= Interval.parse(store.after).span:
        raise DeclarationError(
            name,
            f"retention ({retention}) must be longer than the columnstore's after ({store.after})",
        )


def check_aggregate(spec: AggregateSpec, declared: Declarations) -> None:
    """The rules of an aggregate and of what it reads. Raises DeclarationError."""
    name = told(spec)
    sources = [
        source
        for key in spec.sources
        if (source := declared.hypertables.get(key) or declared.aggregates.get(key))
    ]
    if len(sources) != 1:
        raise DeclarationError(
            name,
            "the SELECT must read exactly one declared hypertable or aggregate, it reads "
            f"{', '.join(key[1] for key in spec.sources) or 'no table'}",
        )
    source = sources[0]
    if isinstance(source, AggregateSpec) and not spec.bucket.can_be_built_from(source.bucket):
        raise DeclarationError(
            name,
            f"its bucket ({spec.bucket}) must be a multiple of that of {source.name!r} "
            f"({source.bucket})",
        )
    if spec.refresh is not None:
        check_window(name, spec.refresh, spec.bucket)
        check_source_lives(name, spec.refresh, source)
    elif spec.materialized_only:
        raise DeclarationError(name, "materialized_only without a refresh shows nothing, ever")
    if spec.columnstore is not None and spec.columnstore.after is not None:
        if spec.refresh is None:
            raise DeclarationError(name, "a columnstore policy needs a refresh policy")
        start = spec.refresh.start
        after = spec.columnstore.after
        if start is None or Interval.parse(after).span <= Interval.parse(start).span:
            raise DeclarationError(
                name,
                f"the columnstore's after ({after}) must be longer than the refresh start "
                f"({start or 'everything'})",
            )
    check_columnstore(name, spec.columnstore, spec.time_column, spec.key_columns)
    check_retention(name, spec.retention, spec.columnstore)
    if spec.retention is not None and spec.refresh is not None:
        start = spec.refresh.start
        if start is None or Interval.parse(spec.retention).span <= Interval.parse(start).span:
            raise DeclarationError(
                name,
                f"its retention ({spec.retention}) must be longer than its own refresh start "
                f"({start or 'everything'}): what is dropped would be made again",
            )


def check_window(name: str, refresh: Refresh, bucket: Interval) -> None:
    """A refresh window spans two buckets. Raises DeclarationError."""
    end = Interval.parse(refresh.end)
    if not end.span:
        raise DeclarationError(name, "the refresh end must be longer than nothing")
    if not Interval.parse(refresh.schedule).span:
        raise DeclarationError(name, "the refresh schedule must be longer than nothing")
    if refresh.start is None:
        return
    if Interval.parse(refresh.start).span - end.span < 2 * bucket.span:
        raise DeclarationError(
            name,
            f"the refresh window, start ({refresh.start}) minus end ({refresh.end}), must span two "
            f"buckets of {bucket}",
        )


def check_source_lives(name: str, refresh: Refresh, source: HypertableSpec | AggregateSpec) -> None:
    """What is refreshed must still be in the source. Raises DeclarationError."""
    if source.retention is None:
        return
    if refresh.start is None:
        raise DeclarationError(
            name,
            f"its refresh starts at the beginning, but {source.name!r} keeps {source.retention}: "
            "a refresh would erase what was dropped there",
        )
    if Interval.parse(source.retention).span <= Interval.parse(refresh.start).span:
        raise DeclarationError(
            name,
            f"the retention of {source.name!r} ({source.retention}) must be longer than its "
            f"refresh start ({refresh.start}): a refresh would erase what was dropped there",
        )


def check_all(declared: Declarations) -> None:
    """Every rule that needs no table. Raises DeclarationError."""
    for hypertable in declared.hypertables.values():
        check_hypertable(hypertable)
    for aggregate in declared.aggregates.values():
        check_aggregate(aggregate, declared)


def check_name_is_free(metadata: sa.MetaData, key: Key, kind: str) -> None:
    """A name is declared once. Raises DeclarationError."""
    declared = declarations_of(metadata)
    if key in declared.hypertables or key in declared.relations:
        raise DeclarationError(f"{kind} {key[1]!r}", "this name is declared twice")
