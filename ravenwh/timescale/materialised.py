"""What a database has of the declared aggregates, and of what they are made of, for a refresh."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import sqlalchemy as sa

from ravenwh.timescale import catalogs
from ravenwh.timescale.ddl import quoted
from ravenwh.timescale.errors import MigrationError
from ravenwh.timescale.interval import Interval
from ravenwh.timescale.order import parents_first
from ravenwh.timescale.plain import bucket_is_plain
from ravenwh.timescale.read import Place, Rows, place
from ravenwh.timescale.spans import BEGINNING, FOREVER, Buckets, Span, duration
from ravenwh.timescale.spec import AggregateSpec, Declarations, Key
from ravenwh.timescale.windows import Aggregate

__all__ = ["Materialised", "materialised"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEFORE_ALL = (BEGINNING - EPOCH) // timedelta(microseconds=1)
AFTER_ALL = (FOREVER - EPOCH) // timedelta(microseconds=1)

INTERNAL = "_timescaledb_internal"
RANGES = "_timescaledb_catalog.continuous_aggs_materialization_ranges"
"""Where TimescaleDB 2.22 and later keep what a refresh is at work on."""

SOON = timedelta(days=1)
"""How long a refresh may take: chunks that retention will drop so soon are taken as gone."""


@attrs.frozen(kw_only=True)
class Materialised:
    """A declared aggregate that is there, with names that are qualified.

    ``table`` is where it is materialised, ``made_from`` the view of its source that a refresh
    reads.
    """

    spec: AggregateSpec
    schema: str
    table: str
    made_from: str
    found: Aggregate


def materialised(
    connection: sa.Connection, declared: Declarations, now: datetime
) -> dict[str, Materialised]:
    """The declared aggregates that are there, by name, sources first.

    Only where there is TimescaleDB. Raises MigrationError for one that cannot be handled.
    """
    default = connection.dialect.default_schema_name or "public"
    reading = Reading.of(connection, declared, default, now)
    specs = {reading.place(key): spec for key, spec in declared.aggregates.items()}
    made: dict[str, Materialised] = {}
    for where in parents_first(specs):
        if where in reading.rows:
            made[where[1]] = reading.materialised(where, specs[where], made)
    return made


@attrs.frozen(kw_only=True)
class Reading:
    """What the catalogs say, by place; ``noted`` and ``interrupted`` by id of the aggregate."""

    connection: sa.Connection
    declared: Declarations
    default: str
    now: datetime
    rows: Mapping[Place, Any]
    chunks: Mapping[Place, list[Span]]
    intervals: Mapping[Place, timedelta]
    drop_before: Mapping[Place, datetime]
    noted: Mapping[int, list[Span]]
    interrupted: Mapping[int, list[Span]]

    @classmethod
    def of(
        cls, connection: sa.Connection, declared: Declarations, default: str, now: datetime
    ) -> Reading:
        """Read them."""
        schemas = {key[0] or default for key in (*declared.hypertables, *declared.aggregates)}
        rows = Rows(connection=connection, schemas=tuple(schemas))
        everywhere = Rows(connection=connection, schemas=(*schemas, INTERNAL))
        keeps_ranges = connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": RANGES})
        chunks: dict[Place, list[Span]] = {}
        for row in everywhere(catalogs.CHUNKS):
            chunks.setdefault(place(row), []).append(Span(row.range_start, row.range_end))
        return cls(
            connection=connection,
            declared=declared,
            default=default,
            now=now,
            rows={place(row): row for row in rows(catalogs.MATERIALISED)},
            chunks=chunks,
            intervals={place(row): row.chunk for row in everywhere(catalogs.CHUNK_INTERVALS)},
            drop_before={place(row): row.drop_before for row in rows(catalogs.DROPPED)},
            noted=by_id(rows(catalogs.NOTED)),
            interrupted=by_id(rows(catalogs.INTERRUPTED) if keeps_ranges else ()),
        )

    def place(self, key: Key) -> Place:
        """Where a table or view of the models is."""
        return key[0] or self.default, key[1]

    def materialised(
        self, where: Place, spec: AggregateSpec, made: Mapping[str, Materialised]
    ) -> Materialised:
        """One aggregate; ``made`` has its source, if that is one too."""
        if not bucket_is_plain(spec.definition):
            raise MigrationError(
                f"{spec.name} has a time_bucket with more than a width and a time: where its "
                "buckets begin is not known here, refresh it with refresh_continuous_aggregate"
            )
        row, refresh = self.rows[where], spec.refresh
        key = next(
            key
            for key in spec.sources
            if key in self.declared.hypertables or key in self.declared.aggregates
        )
        source = self.place(key)
        below = made.get(source[1])
        chunks, stored = self._chunks(source, below)
        start = None if refresh is None else refresh.start
        drop_before = self.drop_before.get(source)
        found = Aggregate(
            name=spec.name,
            source=source[1],
            root=source[1] if below is None else below.found.root,
            buckets=Buckets(spec.bucket),
            reach=timedelta() if refresh is None else None if start is None else length(start),
            rest=timedelta() if refresh is None else length(refresh.end),
            chunks=chunks,
            chunk=self.intervals[stored],
            dropped_before=None if drop_before is None else drop_before + SOON,
            fades=drop_before is not None or (below is not None and below.found.fades),
            watermark=at(row.watermark) if row.watermark > BEFORE_ALL else None,
            oldest=self._oldest(row.materialised, spec.time_column),
        )
        relation = f"{quoted(source[0])}.{quoted(source[1])}"
        time = below.spec.time_column if below else self.declared.hypertables[key].time_column
        unmade = self._passed_over(row, spec, found, (relation, time))
        return Materialised(
            spec=spec,
            schema=where[0],
            table=row.materialised,
            made_from=row.made_from,
            found=attrs.evolve(found, unmade=tuple(unmade)),
        )

    def _chunks(self, source: Place, below: Materialised | None) -> tuple[tuple[Span, ...], Place]:
        """The chunks of a source, and where they are."""
        if below is None:
            return tuple(sorted(self.chunks.get(source, ()))), source
        row = self.rows[source]
        stored = row.table_schema, row.table_name
        if below.found.oldest is None:
            return (), stored
        shown = Span(below.found.oldest)  # its chunks are long, and what it has begins within one
        chunks = sorted(self.chunks.get(stored, ()))
        return tuple(part for chunk in chunks for part in chunk.within(shown)), stored

    def _passed_over(
        self, row: Any, spec: AggregateSpec, found: Aggregate, source: tuple[str, str]
    ) -> Iterator[Span]:
        """The times below the watermark of which the source has rows, and nothing is materialised.

        And those that an interrupted refresh left behind.
        """
        noted = self.noted.get(row.id, ()) if found.watermark else ()
        hidden = Span(end=found.watermark or FOREVER)
        below = [part for span in noted for part in span.within(hidden)]
        for span in found.passed_over(below, self.now):
            leading = [*span.within(Span(end=found.oldest))] if found.oldest else []
            for part in leading or [span]:
                made = not leading and self._has_rows((row.materialised, spec.time_column), part)
                if not made and self._has_rows(source, part):
                    yield part
        yield from found.passed_over(self.interrupted.get(row.id, ()), self.now)

    def _has_rows(self, relation: tuple[str, str], span: Span) -> bool:
        """Whether a relation, given with its time column, has rows of these times."""
        name, time = relation[0], quoted(relation[1])
        query = sa.text(
            f"SELECT EXISTS (SELECT FROM {name} "  # noqa: S608 - quoted names
            f"WHERE {time} >= :start AND {time} < :end)"
        )
        return bool(self.connection.scalar(query, {"start": span.start, "end": span.end}))

    def _oldest(self, table: str, time_column: str) -> datetime | None:
        time = quoted(time_column)
        query = f"SELECT {time} FROM {table} ORDER BY {time} LIMIT 1"  # noqa: S608 - quoted names
        first: datetime | None = self.connection.scalar(sa.text(query))
        return first


def by_id(rows: Iterable[Any]) -> dict[int, list[Span]]:
    """The times of each aggregate."""
    found: dict[int, list[Span]] = {}
    for row in rows:
        found.setdefault(row.id, []).append(Span(at(row.lowest), at(row.greatest + 1)))
    return found


def length(interval: str) -> timedelta:
    """The length of a written interval."""
    return duration(Interval.parse(interval))


def at(microseconds: int) -> datetime:
    """A time as TimescaleDB counts it: microseconds since 1970, with its own infinities."""
    return EPOCH + timedelta(microseconds=min(max(microseconds, BEFORE_ALL), AFTER_ALL))
