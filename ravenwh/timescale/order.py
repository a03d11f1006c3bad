"""In which order views and aggregates come and go."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ravenwh.timescale.read import FoundView, Place
from ravenwh.timescale.spec import RelationSpec

__all__ = ["children_first", "parents_first"]


def parents_first(relations: Mapping[Place, RelationSpec]) -> list[Place]:
    """Declared views and aggregates, sources before what reads them, else as declared."""
    by_key = {spec.key: place for place, spec in relations.items()}
    done: dict[Place, None] = {}

    def visit(place: Place) -> None:
        for source in relations[place].sources:
            if source in by_key and by_key[source] not in done:
                visit(by_key[source])
        done[place] = None

    for place in relations:
        if place not in done:
            visit(place)
    return list(done)


def children_first(found: Mapping[Place, FoundView], going: Collection[Place]) -> list[Place]:
    """What goes, each after all that reads it, else by name."""
    done: dict[Place, None] = {}

    def visit(place: Place) -> None:
        for other in sorted(going):
            reads = {read[:2] for read in found[other].reads}
            if other not in done and other != place and place in reads:
                visit(other)
        done[place] = None

    for place in sorted(going):
        if place not in done:
            visit(place)
    return list(done)
