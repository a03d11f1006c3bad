"""The level a database was migrated at, kept as the comment of its version table.

A database keeps its level: one without TimescaleDB that later gets it still has plain tables and
views, until it is brought over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from ravenwh.timescale.ddl import literal, quoted
from ravenwh.timescale.level import Level

__all__ = ["comment_for", "recorded_level", "recording"]

COMMENT = "migrated by ravenwh.timescale at level "


def comment_for(schema: str | None, version_table: str, level: Level | None) -> str:
    """The statement that keeps the level; None forgets it."""
    name = ".".join(quoted(part) for part in (schema, version_table) if part is not None)
    comment = None if level is None else f"{COMMENT}{level}"
    return f"COMMENT ON TABLE {name} IS {literal(comment)}"


def recorded_level(
    connection: sa.Connection, schema: str | None, version_table: str
) -> Level | None:
    """The level that was kept; None for a database without revisions or without a record."""
    name = ".".join(quoted(part) for part in (schema, version_table) if part is not None)
    comment = connection.scalar(
        sa.text("SELECT obj_description(to_regclass(:name), 'pg_class')"), {"name": name}
    )
    if comment is None or not comment.startswith(COMMENT):
        return None
    return Level(comment.removeprefix(COMMENT))


def recording(given: Any, level: Level) -> list[Callable[..., None]]:
    """Alembic's callbacks after each revision: the user's own, then ours, in its transaction."""
    users = [] if given is None else [given] if callable(given) else list(given)

    def keep(*, ctx: Any, heads: set[str], **_: Any) -> None:
        statement = comment_for(ctx.version_table_schema, ctx.version_table, level)
        if not heads:
            statement = comment_for(ctx.version_table_schema, ctx.version_table, None)
        ctx.impl.execute(sa.DDL(statement.replace("%", "%%")))  # type: ignore[no-untyped-call]  # SQLAlchemy's

    return [*users, keep]
