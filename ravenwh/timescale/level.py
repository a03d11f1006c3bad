"""The engine level of a server: what of TimescaleDB or Citus it has."""

from __future__ import annotations

from enum import StrEnum

import attrs
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ravenwh.timescale.errors import LevelError

__all__ = ["OLDEST_POSTGRESQL", "Engine", "Level", "detect", "inspect_engine", "required_level"]

OLDEST_POSTGRESQL = 15
OLDEST_TIMESCALEDB = (2, 18)
"""The first with the columnstore's functions under their present names."""


class Level(StrEnum):
    """What the mart is built on; the same answers on all of them."""

    COMMUNITY = "community"
    NONE = "none"
    CITUS = "citus"


@attrs.frozen(kw_only=True)
class Engine:
    """What one query told about a server.

    ``timescaledb_creatable``: the library is loaded and this role may create the extension.
    """

    level: Level
    postgresql: int
    timescaledb: str | None
    timescaledb_license: str | None
    timescaledb_available: str | None
    citus: str | None
    timescaledb_loaded: bool = False
    timescaledb_creatable: bool = False

    def __str__(self) -> str:
        parts = [f"PostgreSQL {self.postgresql}"]
        if self.timescaledb:
            parts.append(f"TimescaleDB {self.timescaledb} ({self.timescaledb_license} licence)")
        elif self.timescaledb_available:
            parts.append(f"TimescaleDB {self.timescaledb_available} available, not created")
        if self.citus:
            parts.append(f"Citus {self.citus}")
        return f"level {self.level}: {', '.join(parts)}"

    def missing(self) -> str | None:
        """Why this is not level community, and who must do what; None where it is."""
        if self.level is Level.COMMUNITY:
            return None
        if self.level is Level.CITUS:
            return "the database has Citus, and TimescaleDB cannot share a database with it"
        if self.timescaledb and self.timescaledb_license != "timescale":
            return (
                f"TimescaleDB {self.timescaledb} runs under the {self.timescaledb_license} licence,"
                " which has neither continuous aggregates nor a columnstore and counts as level "
                "none: set timescaledb.license = 'timescale' in postgresql.conf and restart"
            )
        if self.timescaledb:
            return f"TimescaleDB {self.timescaledb} is too old: at least 2.18 is needed"
        if not self.timescaledb_available:
            return "TimescaleDB is not installed on the server"
        if not self.timescaledb_loaded:
            return (
                f"TimescaleDB {self.timescaledb_available} is installed but not loaded: add it to "
                "shared_preload_libraries, restart, and as a superuser run CREATE EXTENSION "
                "timescaledb"
            )
        if not self.timescaledb_creatable:
            return (
                "TimescaleDB is loaded but this role may not create it: as a superuser or the "
                "owner of the database run CREATE EXTENSION timescaledb"
            )
        return "TimescaleDB is loaded but not created: run CREATE EXTENSION timescaledb"


# The loader of TimescaleDB defines its own settings, which everybody may read; who may not read
# shared_preload_libraries does not see that row of pg_settings.
DETECT = sa.text("""
SELECT current_setting('server_version_num')::int / 10000 AS postgresql,
       (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb,
       (SELECT extversion FROM pg_extension WHERE extname = 'citus') AS citus,
       (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb')
           AS timescaledb_available,
       current_setting('timescaledb.license', true) AS timescaledb_license,
       (current_setting('timescaledb.disable_load', true) IS NOT NULL
           OR EXISTS (SELECT FROM pg_settings WHERE name = 'shared_preload_libraries'
                                               AND setting LIKE '%timescaledb%')) AS loaded,
       ((SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
           OR (has_database_privilege(current_database(), 'CREATE')
               AND EXISTS (SELECT FROM pg_available_extension_versions
                           WHERE name = 'timescaledb' AND trusted))) AS may_create
""")


def inspect_engine(connection: sa.Connection) -> Engine:
    """The level and what it was told from. TimescaleDB under the apache licence counts as none."""
    row = connection.execute(DETECT).one()
    level = Level.NONE
    if row.citus:
        level = Level.CITUS
    elif row.timescaledb and row.timescaledb_license == "timescale":
        version = tuple(int(part) for part in row.timescaledb.split("-")[0].split(".")[:2])
        level = Level.COMMUNITY if version >= OLDEST_TIMESCALEDB else Level.NONE
    return Engine(
        level=level,
        postgresql=row.postgresql,
        timescaledb=row.timescaledb,
        timescaledb_license=row.timescaledb_license or None,
        timescaledb_available=row.timescaledb_available,
        citus=row.citus,
        timescaledb_loaded=row.loaded,
        timescaledb_creatable=bool(row.timescaledb_available and row.loaded and row.may_create),
    )


async def detect(connection: AsyncConnection) -> Engine:
    """The same on an async connection."""
    return await connection.run_sync(inspect_engine)


def required_level(stated: str, engine: Engine, made_at: Level | None = None) -> Level:
    """The level to work at: the stated one, or with ``auto`` the best that is there.

    ``made_at`` is the level that the database was migrated at so far, and wins: a database does
    not change its level by itself. Raises LevelError where the stated level, or the one the
    database was made at, is not there.
    """
    if stated not in ("auto", *Level):
        raise LevelError(f"engine {stated!r} is none of auto, {', '.join(Level)}")
    if engine.postgresql < OLDEST_POSTGRESQL:
        raise LevelError(
            f"the server is PostgreSQL {engine.postgresql}; at least {OLDEST_POSTGRESQL} is needed"
        )
    if stated == Level.NONE and engine.level is Level.COMMUNITY and made_at is not Level.COMMUNITY:
        return Level.NONE
    if stated not in ("auto", engine.level):
        why = engine.missing() if stated == Level.COMMUNITY else None
        raise LevelError(f"engine = {stated} is stated, but {why or f'the server has {engine}'}")
    if made_at is None or made_at is engine.level:
        return engine.level
    if made_at is Level.NONE and engine.level is Level.COMMUNITY:
        if stated == Level.COMMUNITY:
            raise LevelError(
                "engine = community is stated and there, but this database was migrated at level "
                "none: bring it over once with `ravenwh timescale adopt`"
            )
        return Level.NONE
    raise LevelError(
        f"this database was migrated at level {made_at}, and the server now has {engine}"
        + (f": {engine.missing()}" if made_at is Level.COMMUNITY else "")
    )
