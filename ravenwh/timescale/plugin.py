"""The plugin of Alembic, entry point group ``alembic.plugins``.

Alembic loads its plugins while it is itself being imported, perhaps by one of our modules: so
nothing of ours is imported before it is needed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps
    from alembic.runtime.plugins import Plugin
    from alembic.util import PriorityDispatchResult

__all__ = ["NAME", "setup"]

NAME = "ravenwh.timescale"


def setup(plugin: Plugin) -> None:
    """Adds the comparison to autogenerate, after all others, and the operations to ``op``."""
    from alembic.util import DispatchPriority

    plugin.add_autogenerate_comparator(
        _compare,
        "schema",
        "ravenwh_timescale",
        qualifier="postgresql",
        priority=DispatchPriority.LAST,
    )


def _compare(
    context: AutogenContext, upgrade: UpgradeOps, schemas: Collection[str | None]
) -> PriorityDispatchResult:
    from ravenwh.timescale.compare import compare

    return compare(context, upgrade, schemas)
