"""Tables over the nodes of Citus: what is declared against what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ravenwh.timescale import ops
from ravenwh.timescale.level import Level
from ravenwh.timescale.parts import At, Ops
from ravenwh.timescale.read import Place
from ravenwh.timescale.spec import DistributionSpec
from ravenwh.timescale.touched import Touched

__all__ = ["distributed", "undistributed"]


def distributed(
    level: Level,
    found: Mapping[Place, str | None],
    wanted: Mapping[Place, DistributionSpec],
    touched: Touched,
) -> Ops:
    """What is to be distributed; reference tables first, as distributed ones point to them."""
    ordered = sorted(wanted.items(), key=lambda item: (item[1].column is not None, item[0]))
    return [
        ops.DistributeTable(
            name=spec.name,
            schema=spec.schema,
            column=spec.column,
            together=place in touched.new,
        )
        for place, spec in ordered
        if place in touched.new
        or (level is Level.CITUS and (place not in found or found[place] != spec.column))
    ]


def undistributed(
    found: Mapping[Place, str | None],
    wanted: Mapping[Place, DistributionSpec],
    touched: Touched,
    at: Callable[[Place], At],
) -> Ops:
    """What is distributed, and is to be so no more or otherwise."""
    made = Ops()
    for place, column in sorted(found.items()):
        spec = wanted.get(place)
        if spec is None or spec.column != column:
            made.append(
                ops.UndistributeTable(
                    name=at(place).name,
                    schema=at(place).schema,
                    column=column,
                    together=place in touched.dropped,
                )
            )
    return made
