"""The policies that tables and rollups may be given other times for, and the rules they keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ravenwh.domain.settings.option import nearest
from ravenwh.domain.settings.policies import NEVER
from ravenwh.domain.settings.problem import Problem, shown
from ravenwh.schema.base import Base
from ravenwh.timescale import declarations_of, policy_errors

__all__ = ["policy_problems", "policy_relations"]


def policy_relations() -> tuple[str, ...]:
    """The names of the tables and rollups that have policies."""
    declared = declarations_of(Base.metadata)
    return tuple(key[1] for key in (*declared.hypertables, *declared.aggregates))


def policy_problems(policies: Mapping[str, Mapping[str, str | None]]) -> Iterator[Problem]:
    """Everything that is wrong with other times of policies, by relation and time.

    A rule between two times is told of the first of them that is given.
    """
    known = policy_relations()
    for name in policies:
        if name not in known:
            like = nearest(name, known)
            hint = f" (did you mean {like}?)" if like else ""
            text = f"found an unknown table or rollup{hint}; allowed: {', '.join(known)}"
            yield Problem(path=(name,), text=text)
    there = {name: times for name, times in policies.items() if name in known}
    for error in policy_errors(declarations_of(Base.metadata), there):
        name, time = next(
            (relation, time) for relation, time in error.times if time in there.get(relation, {})
        )
        given = there[name][time]
        found = shown(NEVER if given is None else given)
        text = f"found {found}; allowed: what keeps this rule: {error}"
        yield Problem(path=(name, time), text=text)
