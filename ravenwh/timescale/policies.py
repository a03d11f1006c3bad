"""Other times of policies than those declared: what a deployment may say without a migration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, TypeVar

import attrs

from ravenwh.timescale.errors import DeclarationError
from ravenwh.timescale.interval import interval_text
from ravenwh.timescale.spec import (
    AggregateSpec,
    Declarations,
    HypertableSpec,
    Refresh,
)
from ravenwh.timescale.validate import broken_times

__all__ = ["POLICY_TIMES", "Policies", "policy_errors", "with_policies"]

Policies: TypeAlias = Mapping[str, Mapping[str, str | None]]
"""Times by the name of the table or aggregate, then by the name of the time."""

OF_REFRESH = ("refresh_start", "refresh_end", "refresh_schedule")
POLICY_TIMES = ("retention", "columnstore_after", *OF_REFRESH)
NEVER_NULL = ("refresh_end", "refresh_schedule")

Spec = TypeVar("Spec", HypertableSpec, AggregateSpec)


def with_policies(declared: Declarations, policies: Policies) -> Declarations:
    """The declarations with other times of policies, by the name of the table or aggregate.

    Known times: retention, columnstore_after, and for aggregates refresh_start, refresh_end,
    refresh_schedule. None takes a policy away, as refresh_start it means the beginning; a retention
    or columnstore_after that was not declared is added. Raises DeclarationError for unknown names
    and for times that break a rule.
    """
    changed, errors = _changed(declared, policies)
    for error in errors:
        raise error
    return changed


def policy_errors(declared: Declarations, policies: Policies) -> list[DeclarationError]:
    """Everything that is wrong with such times, where :func:`with_policies` tells the first."""
    return _changed(declared, policies)[1]


def _changed(
    declared: Declarations, policies: Policies
) -> tuple[Declarations, list[DeclarationError]]:
    """The declarations with what is good of the times, and what is wrong."""
    names = {key[1] for key in (*declared.hypertables, *declared.aggregates)}
    errors = [
        DeclarationError(
            f"policies of {name!r}",
            f"there is no such hypertable or aggregate; known: {', '.join(sorted(names))}",
        )
        for name in policies
        if name not in names
    ]

    def good(spec: HypertableSpec | AggregateSpec) -> dict[str, str | None]:
        times = policies.get(spec.name, {})
        wrong = {name: why for name in times if (why := _wrong(spec, name, times[name]))}
        errors.extend(
            DeclarationError(f"{name} of {spec.name!r}", why, times=((spec.name, name),))
            for name, why in wrong.items()
        )
        return {name: time for name, time in times.items() if name not in wrong}

    made = Declarations(
        hypertables={k: _kept(spec, good(spec)) for k, spec in declared.hypertables.items()},
        relations={
            k: _refreshed(spec, good(spec)) if isinstance(spec, AggregateSpec) else spec
            for k, spec in declared.relations.items()
        },
        distributions=declared.distributions,
    )
    return made, [*errors, *broken_times(made)]


def _wrong(spec: HypertableSpec | AggregateSpec, name: str, given: str | None) -> str | None:
    """Why a hypertable or aggregate cannot have that time."""
    if name not in POLICY_TIMES:
        return f"there is no such time; known: {', '.join(POLICY_TIMES)}"
    if name in OF_REFRESH:
        if isinstance(spec, HypertableSpec):
            return "a hypertable is not refreshed"
        if spec.refresh is None:
            return "it declares no refresh whose times could be changed"
    if name == "columnstore_after" and spec.columnstore is None:
        return "it declares no columnstore"
    if given is None:
        return "it is never null" if name in NEVER_NULL else None
    try:
        interval_text(given)
    except ValueError as error:
        return str(error)
    return None


def _kept(spec: Spec, times: Mapping[str, str | None]) -> Spec:
    """The declaration with other times of retention and columnstore."""
    if "retention" in times:
        spec = attrs.evolve(spec, retention=times["retention"])
    store = spec.columnstore
    if store is not None and "columnstore_after" in times:
        after = times["columnstore_after"]
        # without a time there is no policy, which then has no schedule either
        store = attrs.evolve(store, after=after, schedule=store.schedule if after else None)
        spec = attrs.evolve(spec, columnstore=store)
    return spec


def _refreshed(spec: AggregateSpec, times: Mapping[str, str | None]) -> AggregateSpec:
    """The declaration with other times."""
    spec = _kept(spec, times)
    if spec.refresh is None:
        return spec
    return attrs.evolve(
        spec,
        refresh=Refresh(
            start=times.get("refresh_start", spec.refresh.start),
            end=times.get("refresh_end") or spec.refresh.end,
            schedule=times.get("refresh_schedule") or spec.refresh.schedule,
        ),
    )
