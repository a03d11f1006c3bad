"""Locks on tables of the mart, until the end of a transaction."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ravenwh.schema import HOME_SCHEMA

__all__ = ["NO_OTHER_WRITER", "WRITE", "lock"]

WRITE = "ROW EXCLUSIVE"
"""What every write takes by itself: to have it before one looks."""

NO_OTHER_WRITER = "SHARE ROW EXCLUSIVE"
"""Waits for those who write, and has others wait; readers go on."""


async def lock(connection: AsyncConnection, table: sa.Table, mode: str) -> None:
    """Take the lock on a table, in the schema that the connection's engine has it in."""
    options = await connection.run_sync(sa.Connection.get_execution_options)
    schemas = options.get("schema_translate_map") or {}
    quoted = connection.dialect.identifier_preparer
    schema = quoted.quote(schemas.get(table.schema) or HOME_SCHEMA)
    await connection.execute(
        sa.text(f"LOCK TABLE ONLY {schema}.{quoted.quote(table.name)} IN {mode} MODE")
    )
