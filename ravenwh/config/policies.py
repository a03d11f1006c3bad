"""The policies of the settings against the models, which are loaded only where there are any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from ravenwh.domain.settings import PolicyTimes
from ravenwh.domain.settings.option import Rule
from ravenwh.domain.settings.problem import Problem

__all__ = ["FITS_THE_MODELS", "POLICIES", "relations"]

POLICIES = ("timescale", "policies")
_VARIABLE = "_".join(("RAVENWH", *POLICIES, "")).upper()


def relations(variables: Iterable[str]) -> tuple[str, ...]:
    """The tables and rollups with policies, if any of these variables is about one."""
    if not any(name.startswith(_VARIABLE) for name in variables):
        return ()
    from ravenwh.schema.policies import policy_relations

    return policy_relations()


def _fit_the_models(policies: Mapping[str, Any]) -> Iterator[Problem]:
    if not policies:
        return
    from ravenwh.schema.policies import policy_problems

    times = {
        name: (given if isinstance(given, PolicyTimes) else PolicyTimes(**given)).given
        for name, given in policies.items()
    }
    for problem in policy_problems(times):
        yield attrs.evolve(problem, path=(*POLICIES, *problem.path))


FITS_THE_MODELS = Rule(keys=(".".join(POLICIES),), check=_fit_the_models, partly=True)
"""What Settings cannot ask by themselves: values know nothing of tables."""
