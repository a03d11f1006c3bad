"""Everything that must be true before a runner starts, all findings at once."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import as_file, files

from alembic.config import Config
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ravenwh.app.database import engine_of
from ravenwh.app.instruments import wanted_venues
from ravenwh.domain.errors import RavenwhError, SchemaMismatch
from ravenwh.domain.finding import Finding
from ravenwh.domain.settings import Settings
from ravenwh.telemetry.ports import port_findings
from ravenwh.timescale import level, revision
from ravenwh.warehouse.errors import translated
from ravenwh.warehouse.preflight import Check, findings_on, rights

__all__ = ["alembic_config", "findings", "require_head"]

MIGRATE = "ravenwh alembic upgrade head"


def alembic_config(settings: Settings) -> Config:
    """Alembic's configuration with our migrations, for a database of these settings."""
    with as_file(files("migrations") / "alembic.ini") as installed:
        ini = installed if installed.exists() else installed.parent.parent / "alembic.ini"
    config = revision.config_of(ini)
    config.attributes["settings"] = settings
    return config


async def findings(settings: Settings, *, also: Mapping[str, Check] | None = None) -> list[Finding]:
    """What a preflight finds: ports, feeds, database, engine level, revision, rights.

    ``also`` are further checks on the database, by the name of the finding.
    """
    found = [*port_findings(settings.ports()), _feeds(settings)]
    shown = str(settings.timescale.url)
    checks = {
        "engine": _level(settings.timescale.engine),
        "migrations": _revision(settings),
        "rights": rights(settings.timescale.schema),
        **(also or {}),
    }
    try:
        async with engine_of(settings, pooled=False, connect_s=5.0) as engine:
            return found + await findings_on(engine, shown, checks)
    except RavenwhError as error:
        return [*found, Finding(check="database", ok=False, found=f"{shown}: {error}")]


def _feeds(settings: Settings) -> Finding:
    """Whether every venue of the kline runner has a feed."""
    try:
        used = {settings.upstream_for(v, "CANDLE").feed for v in wanted_venues(settings)}
    except RavenwhError as error:
        return Finding(
            check="feeds",
            ok=False,
            found=str(error),
            remedy="add the key to [routing.upstreams] with the name of a feed",
        )
    return Finding(check="feeds", ok=True, found=f"CANDLE comes from {', '.join(sorted(used))}")


def _level(stated: str) -> Check:
    async def check(connection: AsyncConnection) -> Finding:
        engine = await level.detect(connection)
        if engine.postgresql < level.OLDEST_POSTGRESQL:
            return Finding(
                check="engine",
                ok=False,
                found=str(engine),
                remedy=f"use PostgreSQL {level.OLDEST_POSTGRESQL} or newer",
            )
        if stated in ("auto", engine.level):
            return Finding(check="engine", ok=True, found=str(engine))
        return Finding(
            check="engine",
            ok=False,
            found=f"timescale.engine says {stated}, the server has {engine}",
            remedy=_remedy(stated, engine),
        )

    return check


def _remedy(stated: str, engine: level.Engine) -> str:
    wants = {"community": "timescaledb", "citus": "citus"}.get(stated)
    if wants is None:
        return 'set timescale.engine = "auto"'
    if wants == "timescaledb" and engine.timescaledb:
        return "set timescaledb.license = 'timescale' in postgresql.conf and restart the server"
    return (
        f"install {wants} on the server, add it to shared_preload_libraries, restart, and as a "
        f'superuser: CREATE EXTENSION {wants}; or set timescale.engine = "auto"'
    )


def _revision(settings: Settings) -> Check:
    schema = settings.timescale.schema

    async def check(connection: AsyncConnection) -> Finding:
        at = await revision.revisions(connection, schema)
        heads = revision.heads(alembic_config(settings))
        if at == heads:
            return Finding(check="migrations", ok=True, found=f"{schema} is at {_told(at)}")
        return Finding(
            check="migrations",
            ok=False,
            found=f"{schema} is at {_told(at)}, this version needs {_told(heads)}",
            remedy=MIGRATE,
        )

    return check


def _told(revisions: frozenset[str]) -> str:
    return ", ".join(sorted(revisions)) or "no revision"


async def require_head(settings: Settings, engine: AsyncEngine) -> None:
    """Raise SchemaMismatch unless the mart is at the revision that this version serves."""
    with translated():
        async with engine.connect() as connection:
            finding = await _revision(settings)(connection)
    if not finding.ok:
        raise SchemaMismatch(f"{finding.found}: run `{finding.remedy}`")
