"""What takes a database to what is declared: the operations before and after Alembic's own.

First what must go (children before parents), then what Alembic itself found, then what comes
(parents before children). The downgrade is the exact reverse.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import attrs
import sqlalchemy as sa

from ravenwh.timescale import differences, ops
from ravenwh.timescale.ddl import MARK_FALLBACK, Site
from ravenwh.timescale.distribution import distributed, undistributed
from ravenwh.timescale.level import Level
from ravenwh.timescale.order import children_first, parents_first
from ravenwh.timescale.parts import At, Ops, columnstore_leaving
from ravenwh.timescale.plain import plain_sql
from ravenwh.timescale.policies import Policies, with_policies
from ravenwh.timescale.read import (
    Found,
    FoundAggregate,
    FoundView,
    Place,
    deparsed,
    read,
    tokenised,
)
from ravenwh.timescale.spec import (
    AggregateSpec,
    Declarations,
    DistributionSpec,
    HypertableSpec,
    Key,
    RelationSpec,
)
from ravenwh.timescale.touched import Touched

__all__ = ["plan"]

log = logging.getLogger("ravenwh.timescale")


def plan(
    connection: sa.Connection,
    level: Level,
    declared: Declarations,
    *,
    schemas: Collection[str | None],
    tables: Collection[Key],
    policies: Policies,
    touched: Touched,
) -> tuple[Ops, Ops]:
    """The operations before and after Alembic's own."""
    default = connection.dialect.default_schema_name or "public"
    here = {schema or default for schema in schemas}

    def chosen(specs: Mapping[Key, Any]) -> dict[Place, Any]:
        return {
            (key[0] or default, key[1]): spec
            for key, spec in specs.items()
            if (key[0] or default) in here
        }

    wanted = with_policies(declared, policies) if policies else declared
    return Plan(
        connection=connection,
        level=level,
        found=read(connection, level, here),
        hypertables=chosen(wanted.hypertables),
        relations=chosen(wanted.relations),
        as_declared=chosen({**declared.hypertables, **declared.relations}),
        distributions=chosen(wanted.distributions),
        tables=frozenset((schema or default, name) for schema, name in tables),
        touched=touched,
        unnamed=default if None in schemas else None,
    ).made()


@attrs.frozen(kw_only=True)
class Plan:
    """One comparison; everything by its place in the database."""

    connection: sa.Connection
    level: Level
    found: Found
    hypertables: dict[Place, HypertableSpec]
    relations: dict[Place, RelationSpec]
    as_declared: dict[Place, Any]
    distributions: dict[Place, DistributionSpec]
    tables: frozenset[Place]
    touched: Touched
    unnamed: str | None

    def made(self) -> tuple[Ops, Ops]:
        """The operations before and after Alembic's own."""
        undone = self._undone_hypertables()
        going = self._going(undone)
        before = Ops()
        for place in children_first(self.found.relations, going):
            before += self._leaving(place)
        for place in sorted(undone):
            before += differences.hypertable_leaving(
                self._at(place),
                self.found.hypertables[place],
                self.found.policies_of(place),
                together=place in self.touched.dropped,
            )
        rewritten = self._rewritten(undone)
        for place in sorted(rewritten):
            before += columnstore_leaving(
                self._at(place),
                self.found.hypertables[place].columnstore,
                self.found.policies_of(place),
                together=False,
            )
        spread = self.found.distributions
        before += undistributed(spread, self.distributions, self.touched, self._at)
        return before, [
            *distributed(self.level, spread, self.distributions, self.touched),
            *self._hypertable_ops(undone, rewritten),
            *self._relation_ops(going),
        ]

    def _at(self, place: Place, *, aggregate: bool = False) -> At:
        """As migrations name it: the default schema has no name where it is compared as such."""
        spec = self.relations.get(place) or self.hypertables.get(place)
        schema = None if place[0] == self.unnamed else place[0]
        return At(place[1], spec.schema if spec else schema, aggregate)

    def _undone_hypertables(self) -> set[Place]:
        """Hypertables whose table goes, or is to be a plain table, or has another time column."""
        return {
            place
            for place, found in self.found.hypertables.items()
            if place in self.touched.dropped
            or (place in self.tables and place not in self.hypertables)
            or (
                place in self.hypertables
                and self.hypertables[place].time_column != found.time_column
            )
        }

    def _rewritten(self, undone: set[Place]) -> set[Place]:
        """Hypertables with a columnstore where the type of a column changes."""
        return {
            place
            for place in self.touched.retyped
            if place not in undone
            and (found := self.found.hypertables.get(place)) is not None
            and found.columnstore is not None
        }

    def _hypertable_ops(self, undone: set[Place], rewritten: set[Place]) -> Ops:
        made = Ops()
        for place, spec in sorted(self.hypertables.items()):
            found, policies = self.found.hypertables.get(place), self.found.policies_of(place)
            if found is None or place in undone:
                if self.level is Level.COMMUNITY or place in self.touched.new:
                    made += differences.hypertable_creation(
                        self.as_declared[place], together=place in self.touched.new
                    )
                continue
            if place in rewritten:
                found = attrs.evolve(found, columnstore=None)
                policies = attrs.evolve(policies, columnstore=None)
            made += differences.hypertable_changes(spec, found, policies)
        return made

    def _going(self, undone: set[Place]) -> set[Place]:
        """Views and aggregates that must be dropped, for good or to be made again."""
        going = {
            place
            for place, view in self.found.relations.items()
            if (place in self.relations or view.ours)
            and (
                place not in self.relations
                or self.touched.concerns(view)
                or any((schema, name) in undone for schema, name, _ in view.reads)
            )
        }
        for place in parents_first(self.relations):
            view = self.found.relations.get(place)
            if view is not None and place not in going and self._is_stale(place, view, going):
                log.info("Detected changed view or continuous aggregate %s.%s", *place)
                going.add(place)
        while True:
            more = {
                place
                for place, view in self.found.relations.items()
                if place not in going
                and (place in self.relations or view.ours)
                and any((schema, name) in going for schema, name, _ in view.reads)
            }
            if not more:
                return going
            going |= more

    def _is_stale(self, place: Place, view: FoundView, going: set[Place]) -> bool:
        spec = self.relations[place]
        if any(read[:2] in going for read in view.reads):
            return True
        aggregate = isinstance(spec, AggregateSpec) and self.level is Level.COMMUNITY
        if aggregate is not isinstance(view, FoundAggregate):
            return True
        text = spec.definition if self.level is Level.COMMUNITY else spec.fallback
        site = Site(level=self.level)
        return deparsed(self.connection, site.body(text, spec.schema)) != view.definition

    def _leaving(self, place: Place) -> Ops:
        view = self.found.relations[place]
        notes: tuple[str, ...] = ()
        if not view.ours:
            notes = (f"{place[1]} was not made by a migration: what it holds is replaced",)
        fallback = None
        if isinstance(view, FoundAggregate):
            try:
                fallback = plain_sql(view.definition)
            except ValueError as error:
                notes += (f"no form without TimescaleDB is known ({error}): add fallback=",)
        at = self._at(place, aggregate=isinstance(view, FoundAggregate))
        if self.level is not Level.COMMUNITY and view.comment == MARK_FALLBACK:
            return self._leaving_fallback(place, at, view)
        return differences.relation_leaving(
            at,
            view,
            self.found.policies_of(place),
            fallback=None if fallback is None else tokenised(fallback, place[0]),
            loss=self._loss(place),
            notes=notes,
            schema=place[0],
        )

    def _leaving_fallback(self, place: Place, at: At, view: FoundView) -> Ops:
        """An aggregate goes, seen from a server that has only its plain form."""
        return [
            ops.DropContinuousAggregate(
                name=at.name,
                schema=at.schema,
                fallback=tokenised(view.definition, place[0]),
                notes=(
                    "written without TimescaleDB: for a downgrade there, add definition= and the "
                    "policies",
                ),
            )
        ]

    def _loss(self, place: Place) -> str | None:
        """Why an aggregate could not be made again from what it reads."""
        for source in self._ancestors(place):
            policy = self.found.policies_of(source).retention
            declared = self.hypertables.get(source) or self.relations.get(source)
            kept = policy[0] if policy else getattr(declared, "retention", None)
            if kept is not None:
                return (
                    f"{source[1]} keeps only {kept}; older buckets of {place[1]} cannot be made "
                    "again"
                )
        return None

    def _ancestors(self, place: Place) -> Iterator[Place]:
        """What a view or aggregate is made of, near ones first."""
        view, spec = self.found.relations.get(place), self.relations.get(place)
        if view is not None:
            sources = sorted({read[:2] for read in view.reads})
        elif spec is not None:
            sources = [(schema or self.unnamed or "public", name) for schema, name in spec.sources]
        else:
            sources = []
        for source in sources:
            if source != place:
                yield source
                yield from self._ancestors(source)

    def _relation_ops(self, going: set[Place]) -> Ops:
        made = Ops()
        for place in parents_first(self.relations):
            spec, view = self.relations[place], self.found.relations.get(place)
            if view is None or place in going:
                made += differences.relation_creation(
                    self.as_declared[place],
                    loss=self._loss(place),
                    on_rows=self.touched.new.isdisjoint(self._ancestors(place)),
                )
            elif isinstance(spec, AggregateSpec) and isinstance(view, FoundAggregate):
                made += differences.aggregate_changes(spec, view, self.found.policies_of(place))
        return made
