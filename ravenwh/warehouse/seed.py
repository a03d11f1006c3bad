"""Seeding: the dimensions and the register are brought in line with the settings.

Adds and reactivates; soft-deletes only rows of origin ``seed`` that left the settings, only where
asked to, and never more than a stated share of a dimension. Two seedings never run at once.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import sqlalchemy as sa
from loguru import logger
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ravenwh.domain.errors import Refused, Unavailable
from ravenwh.domain.seed import Seed
from ravenwh.schema import DIMENSIONS, Dimension
from ravenwh.warehouse.errors import translated
from ravenwh.warehouse.plan import Plan, Pruning
from ravenwh.warehouse.seed_symbols import SymbolPlan

__all__ = ["Plan", "Pruning", "seed"]

LOCK = 0x7261_7665_6E00_0001
"""Key of the advisory lock that keeps two seedings apart."""

POLL_S = 0.25
"""How often one that waits for another looks whether it has ended."""


async def seed(
    engine: AsyncEngine,
    wanted: Seed,
    *,
    pruning: Pruning | None = None,
    dry_run: bool = False,
    wait_s: float = 0.0,
) -> list[Plan]:
    """Bring dimensions and register in line with ``wanted``; what was done, a dimension.

    Without ``pruning`` nothing is soft-deleted. Another seeding is waited for during ``wait_s``,
    then it is Unavailable. Raises Refused where pruning would take more than it may, and where
    stored facts would get another meaning; then nothing is written.
    """
    until = monotonic() + wait_s
    while (plans := await _seeded(engine, wanted, pruning, dry_run=dry_run)) is None:
        if monotonic() >= until:
            if wait_s:
                raise Unavailable(
                    f"another seeding is still at work after {wait_s:g} s; nothing was changed: "
                    "run this again when it has ended"
                )
            raise Unavailable("another seeding is at work; it is tried again")
        await asyncio.sleep(POLL_S)  # for another process, which cannot tell us
    for plan in plans:
        _tell(plan, dry_run=dry_run)
    return plans


async def _seeded(
    engine: AsyncEngine, wanted: Seed, pruning: Pruning | None, *, dry_run: bool
) -> list[Plan] | None:
    """The seeding in one transaction; None, and nothing done, where another one is at work."""
    with translated():
        async with engine.begin() as connection:
            if not await connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(LOCK))):
                return None
            plans = [await _plan(connection, d, wanted, pruning) for d in DIMENSIONS]
            symbols = await SymbolPlan.of(connection, wanted, prune=pruning is not None)
            told = [*plans, symbols.told]
            if pruning is not None:
                _check(told, pruning)
            await symbols.refuse_new_meanings(connection)
            if not dry_run:
                ids = {
                    d.name: await _apply(connection, d, plan, wanted)
                    for d, plan in zip(DIMENSIONS, plans, strict=True)
                }
                await symbols.apply(connection, ids)
            return told


def _check(plans: list[Plan], pruning: Pruning) -> None:
    for plan in plans:
        live = len(plan.existing) + len(plan.soft_deleted) + len(plan.changed)
        allowed = pruning.allowed(live)
        if len(plan.soft_deleted) > allowed:
            names = ", ".join(plan.soft_deleted[:10])
            raise Refused(
                f"{len(plan.soft_deleted)} of {live} rows of dim__{plan.dimension} left the "
                f"settings ({names}{', ...' if len(plan.soft_deleted) > 10 else ''}); at most "
                f"{allowed} are soft-deleted at once. If that is meant, raise --max-soft-delete; "
                "else put the names back into the settings. Nothing was changed."
            )


def _tell(plan: Plan, *, dry_run: bool) -> None:
    if not dry_run:
        for event, names in (
            ("DIMENSION_ADDED", plan.added),
            ("DIMENSION_REACTIVATED", plan.reactivated),
            ("DIMENSION_CHANGED", plan.changed),
            ("DIMENSION_SOFT_DELETED", plan.soft_deleted),
        ):
            for name in names:
                logger.bind(dimension=plan.dimension, name=name, origin="seed").info(event)
    logger.bind(
        dimension=plan.dimension,
        added=len(plan.added),
        reactivated=len(plan.reactivated),
        changed=len(plan.changed),
        soft_deleted=len(plan.soft_deleted),
        existing=len(plan.existing),
    ).info("SEED_PLANNED" if dry_run else "DIMENSION_SEEDED")


async def _plan(
    connection: AsyncConnection, dimension: Dimension, wanted: Seed, pruning: Pruning | None
) -> Plan:
    table = dimension.table
    rows = (
        await connection.execute(
            sa.select(dimension.label.label("name"), table.c.is_deleted, table.c.origin)
        )
    ).all()
    deleted = {row.name for row in rows if row.is_deleted}
    live = {row.name for row in rows if not row.is_deleted}
    ours = {row.name for row in rows if not row.is_deleted and row.origin == "seed"}
    names = wanted.names()[dimension.name]
    gone = ours - names if pruning is not None else set()
    return Plan(
        dimension=dimension.name,
        added=tuple(sorted(names - live - deleted)),
        reactivated=tuple(sorted(names & deleted)),
        soft_deleted=tuple(sorted(gone)),
        existing=tuple(sorted(live - gone)),
    )


async def _apply(
    connection: AsyncConnection, dimension: Dimension, plan: Plan, wanted: Seed
) -> dict[str, int]:
    """Write the plan of one dimension; the ids of all its names."""
    table, label = dimension.table, dimension.label
    if plan.added:
        rows: list[dict[str, Any]] = [{dimension.name: n, "origin": "seed"} for n in plan.added]
        if dimension.name == "interval":
            rows = [row | {"duration": wanted.intervals[row["interval"]]} for row in rows]
        # a feed may have added the name meanwhile: then it is there, which is all that matters
        await connection.execute(insert(table).on_conflict_do_nothing(), rows)
    if plan.reactivated:
        await connection.execute(
            sa.update(table)
            .where(label.in_(plan.reactivated))
            .values(is_deleted=False, deleted_date=None, origin="seed")
        )
    if plan.soft_deleted:
        await connection.execute(
            sa.update(table)
            .where(label.in_(plan.soft_deleted))
            .values(is_deleted=True, deleted_date=sa.func.now())
        )
    found = await connection.execute(sa.select(label.label("name"), dimension.id.label("id")))
    return {row.name: row.id for row in found}
