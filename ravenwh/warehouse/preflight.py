"""The findings about the database: reachable, the right version, rights, level, revision."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ravenwh.domain.errors import RavenwhError
from ravenwh.domain.finding import Finding
from ravenwh.schema import DIMENSIONS, KLINES, SYMBOLS
from ravenwh.warehouse.errors import translated

__all__ = ["Check", "findings_on", "rights"]

Check = Callable[[AsyncConnection], Awaitable[Finding]]

NEEDED = (*(d.table for d in DIMENSIONS), SYMBOLS, KLINES)
RIGHTS = ["SELECT", "INSERT", "UPDATE"]
"""What a runner does to the tables; it needs no right to create or delete."""


async def findings_on(engine: AsyncEngine, shown_url: str, checks: list[Check]) -> list[Finding]:
    """Whether the database answers, and then what each check finds; later ones need the first."""
    try:
        with translated():
            async with engine.connect() as connection:
                findings = [Finding(check="database", ok=True, found=f"{shown_url} answers")]
                for check in checks:
                    findings.append(await check(connection))
                    await connection.rollback()
                return findings
    except RavenwhError as error:
        return [_unreachable(shown_url, error)]


def _unreachable(shown_url: str, error: RavenwhError) -> Finding:
    text = str(error)
    if "28P01" in text or "28000" in text:
        remedy = "set the right password in timescale.url (RAVENWH_TIMESCALE_URL), or password_file"
    elif "3D000" in text:
        remedy = "create the database (createdb NAME), or name another in timescale.url"
    else:
        remedy = (
            "start the server, or set timescale.url (RAVENWH_TIMESCALE_URL) to where it listens"
        )
    return Finding(check="database", ok=False, found=f"{shown_url}: {text}", remedy=remedy)


def rights(schema: str) -> Check:
    """The rights of a runner on the tables that are there."""

    async def check(connection: AsyncConnection) -> Finding:
        user = await connection.scalar(sa.select(sa.func.current_user()))
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
        return Finding(
            check="rights",
            ok=False,
            found=f"{user} lacks {', '.join(missing)}",
            remedy=f'as the owner: GRANT USAGE ON SCHEMA "{schema}" TO "{user}"; '
            f'GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA "{schema}" TO "{user}"',
        )

    return check


def _listed(values: list[str], name: str) -> sa.TableValuedAlias:
    """The values as a table of one column, for a query."""
    return sa.func.unnest(sa.literal(values, ARRAY(sa.Text()))).table_valued(name).render_derived()
