"""What a model declares, as values: no database, no SQLAlchemy objects, only names and texts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TypeAlias

import attrs
import sqlalchemy as sa

from ravenwh.timescale.errors import DeclarationError
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
    "with_policies",
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


POLICY_TIMES = ("retention", "columnstore_after", "start", "end", "schedule")


def with_policies(
    declared: Declarations, policies: Mapping[str, Mapping[str, str | None]]
) -> Declarations:
    """The declarations with other times of policies, by the name of the table or aggregate.

    Known times: retention, columnstore_after, and for aggregates start, end, schedule (of the
    refresh). None takes a policy away; a retention or columnstore_after that was not declared is
    added. Raises DeclarationError for unknown names and for times that break a rule.
    """
    from ravenwh.timescale.validate import check_all

    names = {key[1] for key in (*declared.hypertables, *declared.aggregates)}
    for name, times in policies.items():
        if name not in names:
            raise DeclarationError(
                f"policies of {name!r}",
                f"there is no such hypertable or aggregate; known: {', '.join(sorted(names))}",
            )
        if unknown := sorted(set(times) - set(POLICY_TIMES)):
            raise DeclarationError(
                f"policies of {name!r}",
                f"unknown: {', '.join(unknown)}; known: {', '.join(POLICY_TIMES)}",
            )
    changed = Declarations(
        hypertables={
            key: _changed_hypertable(spec, policies.get(key[1], {}))
            for key, spec in declared.hypertables.items()
        },
        relations={
            key: _changed_aggregate(spec, policies.get(key[1], {}))
            if isinstance(spec, AggregateSpec)
            else spec
            for key, spec in declared.relations.items()
        },
        distributions=declared.distributions,
    )
    check_all(changed)
    return changed


def _changed_hypertable(spec: HypertableSpec, times: Mapping[str, str | None]) -> HypertableSpec:
    if wrong := sorted({"start", "end", "schedule"} & set(times)):
        raise DeclarationError(
            f"policies of {spec.name!r}", f"{', '.join(wrong)}: a hypertable is not refreshed"
        )
    return attrs.evolve(
        spec,
        retention=_time(spec.name, times, "retention", spec.retention),
        columnstore=_changed_columnstore(spec.name, spec.columnstore, times),
    )


def _changed_aggregate(spec: AggregateSpec, times: Mapping[str, str | None]) -> AggregateSpec:
    refresh = spec.refresh
    if given := {k: times[k] for k in ("start", "end", "schedule") if k in times}:
        if refresh is None:
            raise DeclarationError(
                f"policies of {spec.name!r}", "it declares no refresh whose times could be changed"
            )
        for part in ("end", "schedule"):
            if part in given and given[part] is None:
                raise DeclarationError(f"policies of {spec.name!r}", f"{part} is never null")
        refresh = Refresh(
            start=_time(spec.name, times, "start", refresh.start),
            end=_time(spec.name, times, "end", refresh.end) or refresh.end,
            schedule=_time(spec.name, times, "schedule", refresh.schedule) or refresh.schedule,
        )
    return attrs.evolve(
        spec,
        refresh=refresh,
        retention=_time(spec.name, times, "retention", spec.retention),
        columnstore=_changed_columnstore(spec.name, spec.columnstore, times),
    )


def _changed_columnstore(
    name: str, declared: Columnstore | None, times: Mapping[str, str | None]
) -> Columnstore | None:
    if "columnstore_after" not in times:
        return declared
    if declared is None:
        raise DeclarationError(
            f"policies of {name!r}", "columnstore_after: it declares no columnstore"
        )
    after = _time(name, times, "columnstore_after", declared.after)
    return attrs.evolve(declared, after=after)


def _time(
    name: str, times: Mapping[str, str | None], part: str, declared: str | None
) -> str | None:
    if part not in times:
        return declared
    try:
        return _interval_or_none(times[part])
    except ValueError as error:
        raise DeclarationError(f"policies of {name!r}", f"{part}: {error}") from None
