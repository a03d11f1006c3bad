"""The policies of a database beside those that are wanted: times, runs, and what differs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal, TypeAlias, assert_never

import attrs
import sqlalchemy as sa

from ravenwh.timescale import ops
from ravenwh.timescale.apply import policy_differences
from ravenwh.timescale.catalogs import JOB_RUNS
from ravenwh.timescale.interval import Interval
from ravenwh.timescale.level import Level, inspect_engine
from ravenwh.timescale.policies import Policies, with_policies
from ravenwh.timescale.read import FoundPolicies, Rows, read
from ravenwh.timescale.record import recorded_level
from ravenwh.timescale.spec import AggregateSpec, Declarations, HypertableSpec, declarations_of

__all__ = ["PolicyKind", "PolicyState", "policy_states", "without_policies"]

PolicyKind: TypeAlias = Literal["refresh", "columnstore", "retention"]
Spec: TypeAlias = HypertableSpec | AggregateSpec

KINDS: dict[PolicyKind, tuple[type[ops.TimescaleOp], ...]] = {
    "refresh": (ops.AddRefreshPolicy, ops.RemoveRefreshPolicy),
    "columnstore": (ops.AddColumnstorePolicy, ops.RemoveColumnstorePolicy),
    "retention": (ops.AddRetentionPolicy, ops.RemoveRetentionPolicy),
}
BY_PROCEDURE: dict[str, PolicyKind] = {
    "policy_refresh_continuous_aggregate": "refresh",
    "policy_compression": "columnstore",
    "policy_retention": "retention",
}


@attrs.frozen(kw_only=True)
class PolicyState:
    """One policy of one table or aggregate; its times in words, None where there is no policy.

    ``declared`` on the model, ``wanted`` with the times given instead, ``found`` in the database.
    ``differs``: writing the policies would change it. The runs are those of its job.
    """

    relation: str
    policy: PolicyKind
    declared: str | None
    wanted: str | None
    found: str | None
    differs: bool
    last_run: datetime | None = None
    next_run: datetime | None = None
    runs: int = 0
    failures: int = 0

    @property
    def change(self) -> str:
        """What writing the policies does to it, in a line."""
        return f"{self.relation}: {self.policy} {self.found or 'none'} -> {self.wanted or 'none'}"


def without_policies(
    connection: sa.Connection, *, schema: str | None, version_table: str = "alembic_version"
) -> str | None:
    """Why this database can have no policies; None where it can."""
    engine = inspect_engine(connection)
    if engine.level is not Level.COMMUNITY:
        return engine.missing()
    if recorded_level(connection, schema, version_table) is Level.NONE:
        return (
            f"TimescaleDB {engine.timescaledb} is here, but this database was migrated at level "
            "none: bring it over with `ravenwh timescale adopt`"
        )
    return None


def policy_states(
    connection: sa.Connection,
    *,
    metadata: sa.MetaData,
    schema: str | None = None,
    policies: Policies | None = None,
    version_table: str = "alembic_version",
) -> list[PolicyState]:
    """Every policy that is declared, wanted or there, in the order of declaration.

    ``metadata``, ``schema`` and ``policies`` as for :func:`~ravenwh.timescale.env.run`. Where the
    database can have no policies, none is there and none differs.
    """
    schema = metadata.schema if schema is None else schema
    declared = declarations_of(metadata)
    wanted = with_policies(declared, policies or {})
    place = schema or connection.dialect.default_schema_name or "public"
    reason = without_policies(connection, schema=schema, version_table=version_table)
    if reason is not None:
        return [
            PolicyState(**words, found=None, differs=False)
            for words in _in_words(declared, wanted)
            if words["wanted"] or words["declared"]
        ]
    changes = {
        (op.name, kind)
        for op in policy_differences(
            connection,
            metadata=metadata,
            schema=schema,
            policies=policies,
            version_table=version_table,
        )
        for kind, classes in KINDS.items()
        if isinstance(op, classes)
    }
    found = read(connection, Level.COMMUNITY, {place})
    runs = {
        (row.name, BY_PROCEDURE[row.kind]): {
            "last_run": row.last_run,
            "next_run": row.next_run,
            "runs": row.runs,
            "failures": row.failures,
        }
        for row in Rows(connection=connection, schemas=(place,))(JOB_RUNS)
    }
    states = []
    for words in _in_words(declared, wanted):
        name, kind = words["relation"], words["policy"]
        state = PolicyState(
            **words,
            found=_found(found.policies_of((place, name)), kind),
            differs=(name, kind) in changes,
            **runs.get((name, kind), {}),
        )
        if state.declared or state.wanted or state.found:
            states.append(state)
    return states


def _in_words(declared: Declarations, wanted: Declarations) -> Iterator[dict[str, Any]]:
    """Each policy that a table or aggregate may have, as declared and as wanted."""
    pairs: list[tuple[Spec, Spec]] = [
        *((spec, wanted.hypertables[key]) for key, spec in declared.hypertables.items()),
        *((spec, wanted.aggregates[key]) for key, spec in declared.aggregates.items()),
    ]
    for one, other in pairs:
        for kind in KINDS:
            yield {
                "relation": one.name,
                "policy": kind,
                "declared": _wanted(one, kind),
                "wanted": _wanted(other, kind),
            }


def _wanted(spec: Spec, kind: PolicyKind) -> str | None:
    """The times that a declaration gives a policy."""
    match kind:
        case "retention":
            return _words(spec.retention)
        case "columnstore":
            store = spec.columnstore
            return None if store is None else _words(store.after, schedule=store.schedule)
        case "refresh":
            refresh = spec.refresh if isinstance(spec, AggregateSpec) else None
            if refresh is None:
                return None
            return _window(refresh.start, refresh.end, refresh.schedule)
    assert_never(kind)


def _found(policies: FoundPolicies, kind: PolicyKind) -> str | None:
    """The times that the jobs of a database give a policy."""
    match kind:
        case "retention":
            return _words(policies.retention and policies.retention[0])
        case "columnstore":
            return _words(policies.columnstore and policies.columnstore[0])
        case "refresh":
            return " and ".join(_window(*one) for one in policies.refreshes) or None
    assert_never(kind)


def _words(time: str | None, *, schedule: str | None = None) -> str | None:
    """A time as people write it."""
    if time is None:
        return None
    return str(Interval.parse(time)) + (f", every {_words(schedule)}" if schedule else "")


def _window(start: str | None, end: str | None, schedule: str) -> str:
    return f"{_words(start) or 'everything'} to {_words(end) or 'now'}, every {_words(schedule)}"
