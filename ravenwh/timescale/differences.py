"""From what is declared and what was found to operations: pure functions, no database."""

from __future__ import annotations

import attrs

from ravenwh.timescale import ops
from ravenwh.timescale.interval import same_interval
from ravenwh.timescale.parts import (
    At,
    Ops,
    columnstore_changes,
    columnstore_creation,
    columnstore_leaving,
    columnstore_policy_leaving,
    refresh,
    refresh_leaving,
    retention,
    retention_changes,
    retention_leaving,
)
from ravenwh.timescale.read import (
    FoundAggregate,
    FoundHypertable,
    FoundPolicies,
    FoundView,
    tokenised,
)
from ravenwh.timescale.spec import AggregateSpec, HypertableSpec, RelationSpec

__all__ = [
    "aggregate_changes",
    "aggregate_creation",
    "hypertable_changes",
    "hypertable_creation",
    "hypertable_leaving",
    "relation_creation",
    "relation_leaving",
]


def hypertable_creation(spec: HypertableSpec, *, together: bool) -> Ops:
    """A hypertable with all that it declares."""
    at = At(spec.name, spec.schema)
    made: Ops = [
        ops.CreateHypertable(
            name=at.name,
            schema=at.schema,
            time_column=spec.time_column,
            chunk_interval=spec.chunk,
            together=together,
        )
    ]
    return made + columnstore_creation(at, spec.columnstore, together) + retention(at, spec)


def hypertable_leaving(
    at: At, found: FoundHypertable, policies: FoundPolicies, *, together: bool
) -> Ops:
    """What goes before the table goes, so that the downgrade brings all of it back."""
    return [
        *retention_leaving(at, policies),
        *columnstore_leaving(at, found.columnstore, policies, together=together),
        ops.DropHypertable(
            name=at.name,
            schema=at.schema,
            time_column=found.time_column,
            chunk_interval=found.chunk,
            together=together,
        ),
    ]


def hypertable_changes(
    spec: HypertableSpec, found: FoundHypertable, policies: FoundPolicies
) -> Ops:
    """What brings a hypertable to what is declared. Its time column is compared elsewhere."""
    at, made = At(spec.name, spec.schema), Ops()
    if not same_interval(spec.chunk, found.chunk):
        made.append(
            ops.SetChunkInterval(
                name=at.name, schema=at.schema, interval=spec.chunk, old=found.chunk
            )
        )
    made += columnstore_changes(at, spec.columnstore, found.columnstore, policies)
    return made + retention_changes(at, spec, policies)


def relation_creation(spec: RelationSpec, *, loss: str | None, on_rows: bool) -> Ops:
    """A view, or an aggregate with all that it declares."""
    if isinstance(spec, AggregateSpec):
        return aggregate_creation(spec, loss=loss, on_rows=on_rows)
    return [
        ops.CreatePlainView(
            name=spec.name,
            schema=spec.schema,
            definition=spec.definition,
            fallback=None if spec.fallback == spec.definition else spec.fallback,
        )
    ]


def aggregate_creation(spec: AggregateSpec, *, loss: str | None, on_rows: bool) -> Ops:
    """An aggregate with all that it declares; ``on_rows``: what it reads was there before."""
    at = At(spec.name, spec.schema, aggregate=True)
    if spec.materialized_only:
        meanwhile = "it shows nothing before"
    elif spec.refresh is None:
        meanwhile = "right but slower before"
    else:
        # a policy moves the watermark, below which nothing is shown that is not materialised
        meanwhile = "once its policy has run, which is soon, older buckets are hidden"
    note = f"refresh all of it: {meanwhile}"
    made: Ops = [
        ops.CreateContinuousAggregate(
            name=at.name,
            schema=at.schema,
            definition=spec.definition,
            fallback=spec.fallback,
            materialized_only=spec.materialized_only,
            loss=loss,
            notes=(note,) if on_rows else (),
        )
    ]
    made += refresh(at, spec)
    return made + columnstore_creation(at, spec.columnstore, True) + retention(at, spec)


def relation_leaving(
    at: At,
    found: FoundView,
    policies: FoundPolicies,
    *,
    fallback: str | None,
    loss: str | None,
    notes: tuple[str, ...] = (),
    schema: str,
) -> Ops:
    """A view or an aggregate goes, with what the downgrade needs to bring it back."""
    definition = tokenised(found.definition, schema)
    if not isinstance(found, FoundAggregate):
        return [
            ops.DropPlainView(name=at.name, schema=at.schema, definition=definition, notes=notes)
        ]
    return [
        *retention_leaving(at, policies),
        *columnstore_leaving(at, found.columnstore, policies, together=True),
        *refresh_leaving(at, policies),
        ops.DropContinuousAggregate(
            name=at.name,
            schema=at.schema,
            definition=definition,
            fallback=fallback,
            materialized_only=found.materialized_only,
            loss=loss,
            notes=notes,
        ),
    ]


def aggregate_changes(spec: AggregateSpec, found: FoundAggregate, policies: FoundPolicies) -> Ops:
    """What brings an aggregate of the right SELECT to what is declared beside it."""
    at, made = At(spec.name, spec.schema, aggregate=True), Ops()
    if spec.materialized_only != found.materialized_only:
        made.append(
            ops.SetMaterializedOnly(name=at.name, schema=at.schema, value=spec.materialized_only)
        )
    if not same_refresh(spec, policies):
        stored = found.columnstore is not None and policies.columnstore is not None
        if stored and spec.refresh is None:
            made += columnstore_policy_leaving(at, policies)
            policies = attrs.evolve(policies, columnstore=None)
        made += refresh_leaving(at, policies) + refresh(at, spec)
    made += columnstore_changes(at, spec.columnstore, found.columnstore, policies)
    return made + retention_changes(at, spec, policies)


def same_refresh(spec: AggregateSpec, policies: FoundPolicies) -> bool:
    """Whether there is just the declared policy."""
    if spec.refresh is None:
        return not policies.refreshes
    want = (spec.refresh.start, spec.refresh.end, spec.refresh.schedule)
    return len(policies.refreshes) == 1 and all(
        same_interval(one, other) for one, other in zip(want, policies.refreshes[0], strict=True)
    )
