"""The rules a declaration must keep, checked when it is made: no database is asked."""

from __future__ import annotations

from collections.abc import Iterator

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

__all__ = [
    "broken_times",
    "check_aggregate",
    "check_hypertable",
    "check_name_is_free",
    "check_table",
]


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
    for error in retention_times(spec):
        raise error


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


def check_aggregate(spec: AggregateSpec, declared: Declarations) -> None:
    """The rules of an aggregate and of what it reads. Raises DeclarationError."""
    name = told(spec)
    sources = sources_of(spec, declared)
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
    if spec.refresh is None and spec.materialized_only:
        raise DeclarationError(name, "materialized_only without a refresh shows nothing, ever")
    check_columnstore(name, spec.columnstore, spec.time_column, spec.key_columns)
    for error in aggregate_times(spec, source):
        raise error


def sources_of(spec: AggregateSpec, declared: Declarations) -> list[HypertableSpec | AggregateSpec]:
    """The hypertables and aggregates that an aggregate reads."""
    return [
        source
        for key in spec.sources
        if (source := declared.hypertables.get(key) or declared.aggregates.get(key))
    ]


def broken_times(declared: Declarations) -> Iterator[DeclarationError]:
    """Every rule about times that these declarations, complete in all else, do not keep."""
    for hypertable in declared.hypertables.values():
        yield from retention_times(hypertable)
    for aggregate in declared.aggregates.values():
        for source in sources_of(aggregate, declared):
            yield from aggregate_times(aggregate, source)


def retention_times(spec: HypertableSpec | AggregateSpec) -> Iterator[DeclarationError]:
    """Rows must live, and longer than it takes to store them by column."""
    if spec.retention is None:
        return
    kept = Interval.parse(spec.retention).span
    if not kept:
        yield DeclarationError(
            told(spec),
            "the retention must be longer than nothing",
            times=((spec.name, "retention"),),
        )
    after = None if spec.columnstore is None else spec.columnstore.after
    if after is not None and kept <= Interval.parse(after).span:
        yield DeclarationError(
            told(spec),
            f"retention ({spec.retention}) must be longer than the columnstore's after ({after})",
            times=((spec.name, "retention"), (spec.name, "columnstore_after")),
        )


def aggregate_times(
    spec: AggregateSpec, source: HypertableSpec | AggregateSpec
) -> Iterator[DeclarationError]:
    """The rules between the times of an aggregate, and of its source, that it does not keep."""
    yield from retention_times(spec)
    after = None if spec.columnstore is None else spec.columnstore.after
    if spec.refresh is None:
        if after is not None:
            yield DeclarationError(
                told(spec),
                "a columnstore policy needs a refresh policy",
                times=((spec.name, "columnstore_after"),),
            )
        return
    yield from window_times(spec, spec.refresh)
    yield from source_times(spec, spec.refresh, source)
    start = spec.refresh.start
    reach = None if start is None else Interval.parse(start).span
    if after is not None and (reach is None or Interval.parse(after).span <= reach):
        yield DeclarationError(
            told(spec),
            f"the columnstore's after ({after}) must be longer than the refresh start "
            f"({start or 'everything'})",
            times=((spec.name, "columnstore_after"), (spec.name, "refresh_start")),
        )
    kept = spec.retention
    if kept is not None and (reach is None or Interval.parse(kept).span <= reach):
        yield DeclarationError(
            told(spec),
            f"its retention ({kept}) must be longer than its own refresh start "
            f"({start or 'everything'}): what is dropped would be made again",
            times=((spec.name, "retention"), (spec.name, "refresh_start")),
        )


def window_times(spec: AggregateSpec, refresh: Refresh) -> Iterator[DeclarationError]:
    """A refresh window spans two buckets."""
    end = Interval.parse(refresh.end).span
    if not end:
        yield DeclarationError(
            told(spec),
            "the refresh end must be longer than nothing",
            times=((spec.name, "refresh_end"),),
        )
    if not Interval.parse(refresh.schedule).span:
        yield DeclarationError(
            told(spec),
            "the refresh schedule must be longer than nothing",
            times=((spec.name, "refresh_schedule"),),
        )
    if refresh.start is None:
        return
    if Interval.parse(refresh.start).span - end < 2 * spec.bucket.span:
        yield DeclarationError(
            told(spec),
            f"the refresh window, start ({refresh.start}) minus end ({refresh.end}), must span two "
            f"buckets of {spec.bucket}",
            times=((spec.name, "refresh_start"), (spec.name, "refresh_end")),
        )


def source_times(
    spec: AggregateSpec, refresh: Refresh, source: HypertableSpec | AggregateSpec
) -> Iterator[DeclarationError]:
    """What is refreshed must still be in the source."""
    if source.retention is None:
        return
    times = ((source.name, "retention"), (spec.name, "refresh_start"))
    if refresh.start is None:
        yield DeclarationError(
            told(spec),
            f"its refresh starts at the beginning, but {source.name!r} keeps {source.retention}: "
            "a refresh would erase what was dropped there",
            times=times,
        )
    elif Interval.parse(source.retention).span <= Interval.parse(refresh.start).span:
        yield DeclarationError(
            told(spec),
            f"the retention of {source.name!r} ({source.retention}) must be longer than its "
            f"refresh start ({refresh.start}): a refresh would erase what was dropped there",
            times=times,
        )


def check_name_is_free(metadata: sa.MetaData, key: Key, kind: str) -> None:
    """A name is declared once. Raises DeclarationError."""
    declared = declarations_of(metadata)
    if key in declared.hypertables or key in declared.relations:
        raise DeclarationError(f"{kind} {key[1]!r}", "this name is declared twice")
