"""Autogenerate: adds our operations to those that Alembic found itself."""

from __future__ import annotations

from collections.abc import Collection

import attrs
import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops as alembic_ops
from alembic.util import PriorityDispatchResult

from ravenwh.timescale.ddl import Site
from ravenwh.timescale.level import inspect_engine
from ravenwh.timescale.plan import plan
from ravenwh.timescale.spec import Declarations, declarations_of
from ravenwh.timescale.touched import Touched

__all__ = ["compare"]


def compare(
    context: AutogenContext, upgrade: alembic_ops.UpgradeOps, schemas: Collection[str | None]
) -> PriorityDispatchResult:
    """Alembic's hook."""
    connection = context.connection
    if connection is None:
        return PriorityDispatchResult.CONTINUE
    site: Site | None = context.opts.get("timescale_site")
    level = inspect_engine(connection).level if site is None else site.level
    metadata = context.metadata
    metadatas = [metadata] if isinstance(metadata, sa.MetaData) else list(metadata or ())
    declared = Declarations()
    for each in metadatas:
        found = declarations_of(each)
        declared.hypertables.update(found.hypertables)
        declared.relations.update(found.relations)
        declared.distributions.update(found.distributions)
    seen = {
        key
        for table in context.sorted_tables
        if context.run_object_filters(table, table.name, "table", False, None)
        for key in [(table.schema, table.name)]
    }
    before, after = plan(
        connection,
        level,
        attrs.evolve(
            declared,
            hypertables={k: v for k, v in declared.hypertables.items() if k in seen},
            distributions={k: v for k, v in declared.distributions.items() if k in seen},
        ),
        schemas=schemas,
        tables=seen,
        policies=context.opts.get("timescale_policies") or {},
        touched=Touched.by(upgrade.ops, connection.dialect.default_schema_name or "public"),
    )
    upgrade.ops[0:0] = before
    upgrade.ops.extend(after)
    return PriorityDispatchResult.CONTINUE
