"""The engine level of a server: what of TimescaleDB or Citus it has."""

from __future__ import annotations

from enum import StrEnum

import attrs
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["Engine", "Level", "detect"]

OLDEST_POSTGRESQL = 15


class Level(StrEnum):
    """What the mart is built on; the same answers on all of them."""

    COMMUNITY = "community"
    NONE = "none"
    CITUS = "citus"


@attrs.frozen(kw_only=True)
class Engine:
    """What one query told about a server."""

    level: Level
    postgresql: int
    timescaledb: str | None
    timescaledb_license: str | None
    timescaledb_available: str | None
    citus: str | None

    def __str__(self) -> str:
        parts = [f"PostgreSQL {self.postgresql}"]
        if self.timescaledb:
            parts.append(f"TimescaleDB {self.timescaledb} ({self.timescaledb_license} licence)")
        elif self.timescaledb_available:
            parts.append(f"TimescaleDB {self.timescaledb_available} available, not created")
        if self.citus:
            parts.append(f"Citus {self.citus}")
        return f"level {self.level}: {', '.join(parts)}"


DETECT = sa.text("""
SELECT current_setting('server_version_num')::int / 10000 AS postgresql,
       (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb,
       (SELECT extversion FROM pg_extension WHERE extname = 'citus') AS citus,
       (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb')
           AS timescaledb_available,
       current_setting('timescaledb.license', true) AS timescaledb_license
""")


async def detect(connection: AsyncConnection) -> Engine:
    """The level and what it was told from. TimescaleDB under the apache licence counts as none."""
    row = (await connection.execute(DETECT)).one()
    level = Level.NONE
    if row.citus:
        level = Level.CITUS
    elif row.timescaledb and row.timescaledb_license == "timescale":
        level = Level.COMMUNITY
    return Engine(
        level=level,
        postgresql=row.postgresql,
        timescaledb=row.timescaledb,
        timescaledb_license=row.timescaledb_license or None,
        timescaledb_available=row.timescaledb_available,
        citus=row.citus,
    )
