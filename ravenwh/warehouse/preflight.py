"""The findings about the database: reachable, the right version, rights, level, revision."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ravenwh.domain.errors import RavenwhError
from ravenwh.domain.finding import Finding
from ravenwh.schema import Base
from ravenwh.warehouse.errors import state_of, translate

__all__ = ["Check", "findings_on", "rights"]

Check = Callable[[AsyncConnection], Awaitable[Finding]]

NO_RIGHT = "42501"

NEEDED = tuple(table for table in Base.metadata.sorted_tables if not table.is_view)
RIGHTS = ["SELECT", "INSERT", "UPDATE"]
"""What a runner does to the tables; it needs no right to create or delete."""


async def findings_on(
    engine: AsyncEngine, shown_url: str, checks: Mapping[str, Check]
) -> list[Finding]:
    """Whether the database answers, and if so what each check finds, by its name."""
    findings: list[Finding] = []
    try:
        async with engine.connect() as connection:
            findings.append(Finding(check="database", ok=True, found=f"{shown_url} answers"))
            for name, check in checks.items():
                findings.append(await _asked(connection, name, check))
                await connection.rollback()
    except (DBAPIError, RavenwhError, OSError) as error:
        findings.append(_unreachable(shown_url, error))
    return findings


async def _asked(connection: AsyncConnection, name: str, check: Check) -> Finding:
    """What the check finds, or that the role may not even look."""
    try:
        return await check(connection)
    except DBAPIError as error:
        if state_of(error) != NO_RIGHT:
            raise
        user = await _user(connection)
        return Finding(
            check=name,
            ok=False,
            found=f"{user} may not look: {translate(error)}",
            remedy=f'as the owner: GRANT USAGE ON SCHEMA ... TO "{user}", and the rights below',
        )


async def _user(connection: AsyncConnection) -> str:
    await connection.rollback()
    return str(await connection.scalar(sa.select(sa.func.current_user())))


def _unreachable(shown_url: str, error: Exception) -> Finding:
    state = state_of(error)
    if state[:2] == "28":
        remedy = "set the right password in timescale.url (RAVENWH_TIMESCALE_URL), or password_file"
    elif state == "3D000":
        remedy = "create the database (createdb NAME), or name another in timescale.url"
    else:
        remedy = (
            "start the server, or set timescale.url (RAVENWH_TIMESCALE_URL) to where it listens"
        )
    told = error if isinstance(error, RavenwhError) else translate(error)
    return Finding(check="database", ok=False, found=f"{shown_url}: {told}", remedy=remedy)


def rights(schema: str) -> Check:
    """The rights of a runner on the tables that are there."""

    async def check(connection: AsyncConnection) -> Finding:
        user = await _user(connection)
        there = sa.func.to_regnamespace(f'"{schema}"').is_not(None)
        if not await connection.scalar(sa.select(there)):
            return Finding(check="rights", ok=True, found=f"{schema} is not there yet: none needed")
        may_enter = sa.func.has_schema_privilege(schema, "USAGE")
        if not await connection.scalar(sa.select(may_enter)):
            return _lacks(user, schema, [f'USAGE ON SCHEMA "{schema}"'])
        names = [f'"{schema}"."{table.name}"' for table in NEEDED]
        tables, needed = _listed(names, "name"), _listed(RIGHTS, "right")
        lacking = await connection.execute(
            sa.select(tables.c.name, needed.c.right)
            .select_from(tables.join(needed, sa.true()))
            .where(
                sa.func.to_regclass(tables.c.name).is_not(None),
                ~sa.func.has_table_privilege(tables.c.name, needed.c.right),
            )
        )
        missing = [f"{row.right} ON {row.name}" for row in lacking]
        if not missing:
            return Finding(check="rights", ok=True, found=f"{user} may read and write {schema}")
        return _lacks(user, schema, missing)

    return check


def _lacks(user: str, schema: str, missing: list[str]) -> Finding:
    return Finding(
        check="rights",
        ok=False,
        found=f"{user} lacks {', '.join(missing)}",
        remedy=f'as the owner: GRANT USAGE ON SCHEMA "{schema}" TO "{user}"; '
        f'GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA "{schema}" TO "{user}"',
    )


def _listed(values: list[str], name: str) -> sa.TableValuedAlias:
    """The values as a table of one column, for a query."""
    return sa.func.unnest(sa.literal(values, ARRAY(sa.Text()))).table_valued(name).render_derived()
