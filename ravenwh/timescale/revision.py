"""Where a database stands against a folder of migrations."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["config_of", "heads", "revisions"]


def config_of(ini: Path) -> Config:
    """Alembic's configuration of an ``alembic.ini``, wherever it was installed to."""
    return Config(ini)


def heads(config: Config) -> frozenset[str]:
    """The newest revisions of the folder."""
    return frozenset(ScriptDirectory.from_config(config).get_heads())


async def revisions(connection: AsyncConnection, schema: str) -> frozenset[str]:
    """The revisions the database is at; empty where it was never migrated."""
    table = sa.table("alembic_version", sa.column("version_num", sa.Text()), schema=schema)
    there = await connection.scalar(
        sa.select(sa.func.to_regclass(f'"{schema}".alembic_version').is_not(None))
    )
    if not there:
        return frozenset()
    return frozenset((await connection.scalars(sa.select(table.c.version_num))).all())
