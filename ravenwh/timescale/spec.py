"""What a model declares, as values: no database, no SQLAlchemy objects, only names and texts."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

import attrs
import sqlalchemy as sa

from ravenwh.timescale.interval import Interval, interval_text

__all__ = [
    "AggregateSpec",
    "Columnstore",
    "Declarations",
    "DistributionSpec",
    "HypertableSpec",
    "Key",
    "Refresh",
    "RelationSpec",
    "ViewSpec",
    "declarations_of",
]

INFO = "ravenwh.timescale"
"""Where a MetaData keeps its declarations; never Table.info, which Alembic writes into files."""

Key: TypeAlias = tuple[str | None, str]
"""Schema and name of a table or view."""


def _interval(value: str | timedelta) -> str:
    return interval_text(value)


def _interval_or_none(value: str | timedelta | None) -> str | None:
    return None if value is None else interval_text(value)


def _names(value: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@attrs.frozen(kw_only=True)
class Columnstore:
    """How old chunks are stored by column.

    ``orderby`` is SQL: ``open_time DESC``. Chunks are converted ``after`` that age by a policy;
    None is no policy. ``schedule`` is how often the policy runs; None leaves it to TimescaleDB and
    is not compared.
    """

    segmentby: tuple[str, ...] = attrs.field(converter=_names)
    orderby: str
    after: str | None = attrs.field(default=None, converter=_interval_or_none)
    schedule: str | None = attrs.field(default=None, converter=_interval_or_none)


@attrs.frozen
class Refresh:
    """The policy that keeps an aggregate fresh: from now - start to now - end, every schedule.

    ``start`` None is everything there is. ``end`` is never None: it would freeze the open bucket.
    """

    start: str | None = attrs.field(converter=_interval_or_none)
    end: str = attrs.field(converter=_interval)
    schedule: str = attrs.field(converter=_interval)


@attrs.frozen(kw_only=True)
class HypertableSpec:
    """A declared hypertable."""

    schema: str | None
    name: str
    time_column: str
    chunk: str
    columnstore: Columnstore | None
    retention: str | None
    key_columns: tuple[str, ...]

    @property
    def key(self) -> Key:
        """Schema and name."""
        return self.schema, self.name


@attrs.frozen(kw_only=True)
class AggregateSpec:
    """A declared continuous aggregate; the texts hold ``{schema}`` for the schema's name."""

    schema: str | None
    name: str
    definition: str
    fallback: str
    bucket: Interval
    time_column: str
    key_columns: tuple[str, ...]
    sources: tuple[Key, ...]
    materialized_only: bool
    refresh: Refresh | None
    columnstore: Columnstore | None
    retention: str | None

    @property
    def key(self) -> Key:
        """Schema and name."""
        return self.schema, self.name


@attrs.frozen(kw_only=True)
class ViewSpec:
    """A declared plain view; ``fallback`` is its text where there is no TimescaleDB."""

    schema: str | None
    name: str
    definition: str
    fallback: str
    sources: tuple[Key, ...]

    @property
    def key(self) -> Key:
        """Schema and name."""
        return self.schema, self.name


@attrs.frozen(kw_only=True)
class DistributionSpec:
    """Where Citus keeps a table: in shards by a column, or (None) whole on every node."""

    schema: str | None
    name: str
    column: str | None

    @property
    def key(self) -> Key:
        """Schema and name."""
        return self.schema, self.name


RelationSpec: TypeAlias = AggregateSpec | ViewSpec


@attrs.frozen(kw_only=True)
class Declarations:
    """Everything that one MetaData declares, in the order of declaration."""

    hypertables: dict[Key, HypertableSpec] = attrs.Factory(dict)
    relations: dict[Key, RelationSpec] = attrs.Factory(dict)
    distributions: dict[Key, DistributionSpec] = attrs.Factory(dict)

    @property
    def aggregates(self) -> dict[Key, AggregateSpec]:
        """The continuous aggregates among the relations."""
        return {k: r for k, r in self.relations.items() if isinstance(r, AggregateSpec)}

    def in_schema(self, old: str | None, new: str | None) -> Declarations:
        """The same declarations where ``old`` is called ``new``."""

        def renamed(key: Key) -> Key:
            return (new, key[1]) if key[0] == old else key

        def moved(spec: RelationSpec) -> RelationSpec:
            return attrs.evolve(
                spec,
                schema=renamed(spec.key)[0],
                sources=tuple(renamed(source) for source in spec.sources),
            )

        return Declarations(
            hypertables={
                renamed(k): attrs.evolve(v, schema=renamed(k)[0])
                for k, v in self.hypertables.items()
            },
            relations={renamed(k): moved(v) for k, v in self.relations.items()},
            distributions={
                renamed(k): attrs.evolve(v, schema=renamed(k)[0])
                for k, v in self.distributions.items()
            },
        )


def declarations_of(metadata: sa.MetaData) -> Declarations:
    """What was declared on the tables of this MetaData; it grows with them."""
    found: Declarations = metadata.info.setdefault(INFO, Declarations())
    return found
