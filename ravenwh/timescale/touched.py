"""What Alembic's own operations do to tables that views and aggregates may read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import attrs
from alembic.operations import ops as alembic_ops

from ravenwh.timescale.read import FoundView, Place

__all__ = ["Touched", "flattened"]


@attrs.frozen(kw_only=True)
class Touched:
    """What Alembic's own operations do to tables that views may read."""

    new: frozenset[Place] = frozenset()
    dropped: frozenset[Place] = frozenset()
    columns: frozenset[tuple[str, str, str]] = frozenset()
    retyped: frozenset[Place] = frozenset()

    @classmethod
    def by(cls, found: Collection[Any], default: str) -> Touched:
        """From the operations; ``default`` is the schema of those without one."""
        flat = list(flattened(found))

        def table(op: Any) -> Place:
            return op.schema or default, op.table_name

        changed = [
            op
            for op in flat
            if isinstance(op, alembic_ops.DropColumnOp)
            or (
                isinstance(op, alembic_ops.AlterColumnOp)
                and (op.modify_type is not None or op.modify_name is not None)
            )
        ]
        return cls(
            new=frozenset(table(op) for op in flat if isinstance(op, alembic_ops.CreateTableOp)),
            dropped=frozenset(table(op) for op in flat if isinstance(op, alembic_ops.DropTableOp)),
            columns=frozenset((*table(op), op.column_name) for op in changed),
            retyped=frozenset(
                table(op)
                for op in changed
                if isinstance(op, alembic_ops.AlterColumnOp) and op.modify_type is not None
            ),
        )

    def concerns(self, view: FoundView) -> bool:
        """Whether a view reads any of it."""
        return any(
            (schema, name) in self.dropped
            or (schema, name, column) in self.columns
            or (column is None and any(c[:2] == (schema, name) for c in self.columns))
            for schema, name, column in view.reads
        )


def flattened(found: Collection[Any]) -> Iterator[Any]:
    """The operations, also those inside of others."""
    for op in found:
        if isinstance(op, alembic_ops.OpContainer):
            yield from flattened(op.ops)
        else:
            yield op
