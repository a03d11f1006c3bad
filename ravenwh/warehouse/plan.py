"""What a seeding is going to do, and how much of it may be soft-deleting."""

from __future__ import annotations

from math import ceil

import attrs

__all__ = ["Plan", "Pruning"]


@attrs.frozen(kw_only=True)
class Pruning:
    """How much of a dimension may be soft-deleted at once: the larger of share and rows."""

    share: float = 0.10
    rows: int = 3

    def allowed(self, live: int) -> int:
        """How many of ``live`` rows may go."""
        return max(self.rows, ceil(self.share * live))


@attrs.frozen(kw_only=True)
class Plan:
    """What a seeding does, or did, to one dimension: names, each in one of the lists."""

    dimension: str
    added: tuple[str, ...] = ()
    reactivated: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    soft_deleted: tuple[str, ...] = ()
    existing: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The plan in one line."""
        counts = attrs.asdict(self, filter=lambda field, _: field.name != "dimension")
        told = ", ".join(f"{len(names)} {kind.replace('_', '-')}" for kind, names in counts.items())
        return f"{self.dimension}: {told}"
