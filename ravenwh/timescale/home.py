"""Revisions say the schema name of the models, whatever it is called in a database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import sqlalchemy as sa
from alembic.ddl.base import AlterTable
from alembic.ddl.impl import DefaultImpl
from alembic.operations import ops as alembic_ops

from ravenwh.timescale.ops import TimescaleOp

__all__ = ["alter_elsewhere", "written_for"]


def written_for(
    home: str | None, schema: str | None, given: Callable[..., None] | None
) -> Callable[..., None]:
    """A ``process_revision_directives`` that names the schema as the models do, then the user's."""

    def process(context: Any, revision: Any, directives: list[Any]) -> None:
        for script in directives:
            for container in (*script.upgrade_ops_list, *script.downgrade_ops_list):
                container.ops = [renamed(op, schema, home) for op in container.ops]
        if given is not None:
            given(context, revision, directives)

    return process


def renamed(op: Any, old: str | None, new: str | None) -> Any:
    """The operation with the schema called otherwise, also where foreign keys name it."""
    if isinstance(op, TimescaleOp):
        return attrs.evolve(op, schema=new) if op.schema == old else op
    if isinstance(op, alembic_ops.OpContainer):
        op.ops = [renamed(inner, old, new) for inner in op.ops]
    if isinstance(op, alembic_ops.CreateTableOp | alembic_ops.DropTableOp):
        if op.schema != old:
            return op
        table = op.to_table().to_metadata(sa.MetaData(), schema=new)  # type: ignore[arg-type]  # None is meant
        return type(op).from_table(table)
    if isinstance(op, alembic_ops.CreateForeignKeyOp):
        for name in ("source_schema", "referent_schema"):
            if op.kw.get(name) == old:
                op.kw[name] = new
    if getattr(op, "schema", None) == old:
        op.schema = new
    return op


def alter_elsewhere(impl: DefaultImpl, schemas: Mapping[str | None, str | None]) -> None:
    """Let Alembic's ALTER TABLE reach the schema by its name in the database.

    SQLAlchemy translates what it compiles itself; Alembic writes the schema of an ALTER TABLE as a
    plain word, which ``schema_translate_map`` does not see.
    """
    execute = impl._exec

    def elsewhere(construct: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(construct, AlterTable) and construct.schema in schemas:
            construct.schema = schemas[construct.schema]
        return execute(construct, *args, **kwargs)

    impl._exec = elsewhere  # type: ignore[method-assign]  # the one place all statements pass
