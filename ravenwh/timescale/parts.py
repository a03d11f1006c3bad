"""The parts of a hypertable or aggregate: columnstore, retention, refresh; made, gone, changed."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from ravenwh.timescale import ops
from ravenwh.timescale.interval import same_interval
from ravenwh.timescale.read import FoundPolicies
from ravenwh.timescale.spec import AggregateSpec, Columnstore, HypertableSpec

__all__ = [
    "At",
    "Ops",
    "columnstore_changes",
    "columnstore_creation",
    "columnstore_leaving",
    "columnstore_policy_leaving",
    "refresh",
    "refresh_leaving",
    "retention",
    "retention_changes",
    "retention_leaving",
]

Ops: TypeAlias = list[ops.TimescaleOp]
Stored: TypeAlias = tuple[tuple[str, ...], str]


@attrs.frozen
class At:
    """The table or aggregate that operations are about."""

    name: str
    schema: str | None
    aggregate: bool = False


def refresh(at: At, spec: AggregateSpec) -> Ops:
    """The declared refresh policy."""
    if spec.refresh is None:
        return []
    return [
        ops.AddRefreshPolicy(
            name=at.name,
            schema=at.schema,
            start=spec.refresh.start,
            end=spec.refresh.end,
            schedule=spec.refresh.schedule,
        )
    ]


def refresh_leaving(at: At, policies: FoundPolicies) -> Ops:
    """All refresh policies go."""
    return [
        ops.RemoveRefreshPolicy(
            name=at.name, schema=at.schema, start=start, end=end, schedule=schedule
        )
        for start, end, schedule in policies.refreshes
    ]


def retention(at: At, spec: HypertableSpec | AggregateSpec) -> Ops:
    """The declared retention policy."""
    if spec.retention is None:
        return []
    return [ops.AddRetentionPolicy(name=at.name, schema=at.schema, drop_after=spec.retention)]


def retention_leaving(at: At, policies: FoundPolicies) -> Ops:
    """The retention policy goes."""
    if policies.retention is None:
        return []
    after, schedule = policies.retention
    return [
        ops.RemoveRetentionPolicy(
            name=at.name, schema=at.schema, drop_after=after, schedule=schedule
        )
    ]


def retention_changes(at: At, spec: HypertableSpec | AggregateSpec, policies: FoundPolicies) -> Ops:
    """A change is a removal and an addition."""
    found = policies.retention and policies.retention[0]
    if same_interval(spec.retention, found):
        return []
    return retention_leaving(at, policies) + retention(at, spec)


def columnstore_creation(at: At, want: Columnstore | None, together: bool) -> Ops:
    """The declared columnstore and its policy."""
    if want is None:
        return []
    made: Ops = [
        ops.EnableColumnstore(
            name=at.name,
            schema=at.schema,
            segmentby=want.segmentby,
            orderby=want.orderby,
            aggregate=at.aggregate,
            together=together,
        )
    ]
    return made + columnstore_policy(at, want)


def columnstore_policy(at: At, want: Columnstore | None) -> Ops:
    """The declared columnstore policy."""
    if want is None or want.after is None:
        return []
    return [
        ops.AddColumnstorePolicy(
            name=at.name, schema=at.schema, after=want.after, schedule=want.schedule
        )
    ]


def columnstore_policy_leaving(at: At, policies: FoundPolicies) -> Ops:
    """The columnstore policy goes."""
    if policies.columnstore is None:
        return []
    after, schedule = policies.columnstore
    return [
        ops.RemoveColumnstorePolicy(name=at.name, schema=at.schema, after=after, schedule=schedule)
    ]


def columnstore_leaving(
    at: At, found: Stored | None, policies: FoundPolicies, *, together: bool
) -> Ops:
    """The columnstore and its policy go."""
    if found is None:
        return []
    return [
        *columnstore_policy_leaving(at, policies),
        ops.DisableColumnstore(
            name=at.name,
            schema=at.schema,
            segmentby=found[0],
            orderby=found[1],
            aggregate=at.aggregate,
            together=together,
            notes=()
            if together
            else ("every chunk is written back to rows: long on large tables",),
        ),
    ]


def columnstore_changes(
    at: At, want: Columnstore | None, found: Stored | None, policies: FoundPolicies
) -> Ops:
    """What brings the columnstore and its policy to what is declared."""
    if want is None:
        return columnstore_leaving(at, found, policies, together=False)
    if found is None:
        return columnstore_creation(at, want, False)
    made = Ops()
    if want.segmentby != found[0] or plain_order(want.orderby) != plain_order(found[1]):
        made.append(
            ops.SetColumnstore(
                name=at.name,
                schema=at.schema,
                segmentby=want.segmentby,
                orderby=want.orderby,
                old_segmentby=found[0],
                old_orderby=found[1],
                aggregate=at.aggregate,
            )
        )
    after, schedule = policies.columnstore or (None, None)
    if not same_interval(want.after, after) or (
        want.schedule is not None and not same_interval(want.schedule, schedule)
    ):
        made += columnstore_policy_leaving(at, policies) + columnstore_policy(at, want)
    return made


def plain_order(orderby: str) -> list[list[str]]:
    """An ORDER BY without what is there by default."""
    parts = []
    for part in orderby.replace('"', "").split(","):
        words = part.lower().split()
        descending = "desc" in words
        usual = ["nulls", "first"] if descending else ["nulls", "last"]
        if words[-2:] == usual:
            words = words[:-2]
        parts.append([word for word in words if word != "asc"])
    return parts
