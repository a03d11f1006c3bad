"""Refreshing continuous aggregates: what is there, what to do in which steps, one step.

It runs outside transactions, so the connection must be in AUTOCOMMIT, as the owner of the
aggregates; one refresh at a time, on one connection::

    plan_safely(connection)
    found = look(connection, metadata=metadata)
    for step in found.steps(found.plan({"fact__kline": [Span(start, end)]})):
        step.run(connection)
    plan_as_before(connection)

Each step commits, so one can stop between two, and begin again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import attrs
import sqlalchemy as sa

from ravenwh.timescale import ddl, windows
from ravenwh.timescale.declare import copy_metadata
from ravenwh.timescale.interval import Interval
from ravenwh.timescale.level import Level, inspect_engine
from ravenwh.timescale.materialised import Materialised, materialised
from ravenwh.timescale.policies import Policies, with_policies
from ravenwh.timescale.spans import Span, duration
from ravenwh.timescale.spec import AggregateSpec, Declarations, Key, declarations_of
from ravenwh.timescale.windows import Windows

__all__ = ["Look", "Step", "look", "plan_as_before", "plan_safely", "reach"]


@attrs.frozen(kw_only=True)
class Step:
    """One refresh of one aggregate, in its own transactions; ``span`` is whole buckets.

    ``shared`` is the part of it that the aggregate's policy may be refreshing at the same time.
    """

    name: str
    schema: str
    materialised: str
    made_from: str
    columns: tuple[str, ...]
    span: Span
    shared: Span | None

    def run(self, connection: sa.Connection, *, force: bool = False) -> None:
        """Refresh it; with ``force`` also what is said to be up to date."""
        connection.exec_driver_sql(
            ddl.refresh(self._relation, self.span.start, self.span.end, force=force)
        )

    def would_erase(self, connection: sa.Connection) -> bool:
        """Whether there are buckets that the source has no rows of any more.

        Ask before a refresh for rows that were written, where a chunk was dropped and made again
        for them: the other rows of the chunk are gone, and their buckets would go. Where rows were
        deleted on purpose the answer is the same.
        """
        query = sa.text(
            f"SELECT EXISTS ({self._keys(self.materialised)} EXCEPT {self._keys(self.made_from)})"
        )
        times = {"start": self.span.start, "end": self.span.end}
        there = sa.text(f"SELECT EXISTS ({self._keys(self.materialised)})")
        return bool(connection.scalar(there, times) and connection.scalar(query, times))

    def _keys(self, relation: str) -> str:
        columns = [ddl.quoted(column) for column in self.columns]
        return (
            f"SELECT {', '.join(columns)} FROM {relation} "  # noqa: S608 - quoted names
            f"WHERE {columns[0]} >= :start AND {columns[0]} < :end"
        )

    def is_busy(self, connection: sa.Connection) -> bool:
        """Whether somebody else is refreshing the aggregate.

        Wait for that before a step: TimescaleDB would say that all is up to date as soon as the
        other has begun, and not when it has ended. And two that refresh the same buckets at the
        same time, with a change in between, leave rows twice (seen on 2.24.0).
        """
        return bool(connection.scalar(OTHERS, {"name": self.materialised}))

    def is_doubled(self, connection: sa.Connection) -> bool:
        """Whether that has happened after all: ask, where ``shared``, once nobody is busy."""
        if self.shared is None:
            return False
        columns = ", ".join(ddl.quoted(column) for column in self.columns)
        doubled = f"{self._keys(self.materialised)} GROUP BY {columns} HAVING count(*) > 1"
        times = {"start": self.shared.start, "end": self.shared.end}
        return bool(connection.scalar(sa.text(f"SELECT EXISTS ({doubled})"), times))

    @property
    def _relation(self) -> str:
        return f"{ddl.quoted(self.schema)}.{ddl.quoted(self.name)}"


OTHERS = sa.text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'relation' AND granted"
    " AND relation = CAST(:name AS regclass) AND mode = 'RowExclusiveLock'"
    " AND pid <> pg_backend_pid() AND database ="
    " (SELECT oid FROM pg_database WHERE datname = current_database()))"
)


@attrs.frozen(kw_only=True)
class Look:
    """The declared aggregates that are there, at the server's time ``now``, by name, sources first.

    There are none where rollups are plain views, which need no refresh.
    """

    now: datetime
    aggregates: Mapping[str, Materialised]

    def plan(self, asked: Mapping[str, Sequence[Span]]) -> list[Windows]:
        """What a refresh takes of each aggregate, for times of hypertables by their names."""
        return windows.plan([each.found for each in self.aggregates.values()], self.now, asked)

    def steps(self, planned: Sequence[Windows], *, by_chunk: bool = False) -> list[Step]:
        """The steps of a plan, in order; ``by_chunk``: each of one chunk of the source."""
        return [
            self._step(self.aggregates[each.aggregate.name], span)
            for each in planned
            for span in each.steps(by_chunk=by_chunk)
        ]

    def behind(self) -> dict[str, list[Span]]:
        """What to ask for, for all that was passed over and no policy will refresh.

        Rows below the watermark that were never materialised are shown by nobody. They come about
        where an aggregate is made on a table with rows, and its policy runs before all of it was
        refreshed; where policies did not run for longer than they look back; and where a refresh
        was interrupted. What only changed cannot be told apart from what lies between two changes.
        """
        return windows.behind(each.found for each in self.aggregates.values())

    def everything(self, span: Span) -> dict[str, list[Span]]:
        """What to ask for, for a time of all hypertables."""
        return {each.found.root: [span] for each in self.aggregates.values()}

    def _step(self, aggregate: Materialised, span: Span) -> Step:
        spec = aggregate.spec
        by_policy = Span(aggregate.found.policy_from(self.now))
        shared = [part for part in span.within(by_policy) if spec.refresh is not None]
        return Step(
            name=spec.name,
            schema=aggregate.schema,
            materialised=aggregate.table,
            made_from=aggregate.made_from,
            columns=(spec.time_column, *spec.key_columns),
            span=span,
            shared=shared[0] if shared else None,
        )


def plan_safely(connection: sa.Connection) -> None:
    """Before the first step: no bitmap heap scans in this session.

    Under such a plan a DELETE misses rows of chunks that are partly compressed (TimescaleDB before
    2.25 on PostgreSQL 16 and older), and a refresh, which deletes and inserts, leaves them twice.
    """
    connection.exec_driver_sql("SET enable_bitmapscan = off")


def plan_as_before(connection: sa.Connection) -> None:
    """After the last step, where the session goes on."""
    connection.exec_driver_sql("RESET enable_bitmapscan")


def look(
    connection: sa.Connection,
    *,
    metadata: sa.MetaData,
    schema: str | None = None,
    policies: Policies | None = None,
) -> Look:
    """What there is of the declared aggregates. Raises MigrationError for what cannot be handled.

    ``schema`` and ``policies`` as for :func:`ravenwh.timescale.env.run`. Aggregates that are not in
    the database are left out.
    """
    schema = metadata.schema if schema is None else schema
    models = metadata if schema == metadata.schema else copy_metadata(metadata, schema)
    declared = with_policies(declarations_of(models), policies or {})
    now: datetime = connection.execute(sa.text("SELECT now()")).scalar_one()
    there = inspect_engine(connection).level is Level.COMMUNITY
    return Look(now=now, aggregates=materialised(connection, declared, now) if there else {})


def reach(
    metadata: sa.MetaData, table: sa.Table, policies: Policies | None = None
) -> timedelta | None:
    """How old rows of a hypertable may be for the policies to see that they changed.

    None where the policies see all: there is no aggregate of it, or they look back without end. A
    policy takes whole buckets, and runs only now and then: by then its window has moved.
    """
    declared = with_policies(declarations_of(metadata), policies or {})
    reaches = [
        _looks_back(spec)
        for spec in declared.aggregates.values()
        if _root(spec, declared) == (table.schema, table.name)
    ]
    return min((each for each in reaches if each is not None), default=None)


def _looks_back(spec: AggregateSpec) -> timedelta | None:
    """How far a policy is sure to look back from the writing of a row; None for without end."""
    if spec.refresh is None:
        return timedelta()
    if spec.refresh.start is None:
        return None
    start, schedule = (Interval.parse(each) for each in (spec.refresh.start, spec.refresh.schedule))
    months = timedelta(days=2 * start.months)  # 30 days were counted, and some months have 28
    return duration(start) - months - duration(spec.bucket) - 2 * duration(schedule)


def _root(spec: AggregateSpec, declared: Declarations) -> Key:
    """The hypertable at the bottom."""
    key = next(k for k in spec.sources if k in declared.hypertables or k in declared.aggregates)
    below = declared.aggregates.get(key)
    return key if below is None else _root(below, declared)
