"""Seeding: the dimensions and the register are brought in line with the settings.

Adds and reactivates; soft-deletes only rows of origin ``seed`` that left the settings, only where
asked to, and never more than a stated share of a dimension. Two seedings at once wait for each
other.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import attrs
import sqlalchemy as sa
from loguru import logger
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ravenwh.domain.errors import Refused
from ravenwh.domain.instrument import Instrument
from ravenwh.domain.seed import Seed
from ravenwh.schema import DIMENSIONS, SYMBOLS, Dimension
from ravenwh.warehouse.dimensions import Names, symbol_attributes, symbol_row
from ravenwh.warehouse.errors import translated

__all__ = ["Plan", "Pruning", "seed"]

LOCK = 0x7261_7665_6E00_0001
"""Key of the advisory lock that keeps two seedings apart."""


@attrs.frozen(kw_only=True)
class Pruning:
    """How much of a dimension may be soft-deleted at once: the larger of share and rows."""

    share: float = 0.10
    rows: int = 3

    def allowed(self, live: int) -> int:
        """How many of ``live`` rows may go."""
        return max(self.rows, ceil(self.share * live))


@attrs.frozen(kw_only=True)
class Plan:
    """What a seeding does, or did, to one dimension: names, each in one of the lists."""

    dimension: str
    added: tuple[str, ...] = ()
    reactivated: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    soft_deleted: tuple[str, ...] = ()
    existing: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The plan in one line."""
        counts = attrs.asdict(self, filter=lambda field, _: field.name != "dimension")
        told = ", ".join(f"{len(names)} {kind.replace('_', '-')}" for kind, names in counts.items())
        return f"{self.dimension}: {told}"


async def seed(
    engine: AsyncEngine, wanted: Seed, *, pruning: Pruning | None = None, dry_run: bool = False
) -> list[Plan]:
    """Bring dimensions and register in line with ``wanted``; what was done, a dimension.

    Without ``pruning`` nothing is soft-deleted. Raises Refused where pruning would take more than
    it may, and then nothing is written.
    """
    with translated():
        async with engine.begin() as connection:
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            plans = [await _plan(connection, d, wanted, pruning) for d in DIMENSIONS]
            known = await _known_symbols(connection)
            register = _plan_symbols(known, wanted, pruning)
            if pruning is not None:
                _check(plans, register, pruning)
            if not dry_run:
                ids = {
                    d.name: await _apply(connection, d, plan, wanted)
                    for d, plan in zip(DIMENSIONS, plans, strict=True)
                }
                await _apply_symbols(connection, known, register, wanted, ids)
    plans.append(register)
    for plan in plans:
        _tell(plan, dry_run=dry_run)
    return plans


def _check(plans: list[Plan], register: Plan, pruning: Pruning) -> None:
    for plan in (*plans, register):
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


SymbolKey = tuple[str, str, object]
"""What identifies a register row: exchange, symbol, listed_at."""


async def _known_symbols(connection: AsyncConnection) -> dict[SymbolKey, dict[str, Any]]:
    """The register as it is, with names in place of ids."""
    coin, quote, exchange, _ = DIMENSIONS
    rows = await connection.execute(
        sa.select(SYMBOLS, coin.label, quote.label, exchange.label).select_from(
            SYMBOLS.join(coin.table).join(quote.table).join(exchange.table)
        )
    )
    return {
        (row["exchange"], row["symbol"], row["listed_at"]): dict(row) for row in rows.mappings()
    }


def _plan_symbols(
    known: dict[SymbolKey, dict[str, Any]], wanted: Seed, pruning: Pruning | None
) -> Plan:
    added, reactivated, changed, seen = [], [], [], set()
    for instrument in wanted.instruments:
        key = (instrument.exchange, instrument.symbol, instrument.listed_at)
        seen.add(key)
        name = f"{instrument.exchange}:{instrument.symbol}"
        row = known.get(key)
        if row is None:
            added.append(name)
        elif row["is_deleted"]:
            reactivated.append(name)
        elif _differs(instrument, row):
            changed.append(name)
    gone = [
        f"{key[0]}:{key[1]}"
        for key, row in known.items()
        if pruning is not None
        and key not in seen
        and row["origin"] == "seed"
        and not row["is_deleted"]
    ]
    moved = {*reactivated, *changed, *gone}
    existing = [f"{key[0]}:{key[1]}" for key, row in known.items() if not row["is_deleted"]]
    return Plan(
        dimension="symbol",
        added=tuple(sorted(added)),
        reactivated=tuple(sorted(reactivated)),
        changed=tuple(sorted(changed)),
        soft_deleted=tuple(sorted(gone)),
        existing=tuple(sorted(name for name in existing if name not in moved)),
    )


def _differs(instrument: Instrument, row: dict[str, Any]) -> bool:
    said = symbol_attributes(instrument) | {"coin": instrument.coin, "quote": instrument.quote}
    return any(row[column] != value for column, value in said.items())


async def _apply_symbols(
    connection: AsyncConnection,
    known: dict[SymbolKey, dict[str, Any]],
    plan: Plan,
    wanted: Seed,
    ids: Names,
) -> None:
    """Write the plan of the register: first what frees a place, then what takes one."""
    gone = [
        row["symbol_id"]
        for (exchange, symbol, _), row in known.items()
        if f"{exchange}:{symbol}" in plan.soft_deleted and row["origin"] == "seed"
    ]
    if gone:
        await connection.execute(
            sa.update(SYMBOLS)
            .where(SYMBOLS.c.symbol_id.in_(gone))
            .values(is_deleted=True, deleted_date=sa.func.now())
        )
    for instrument in sorted(wanted.instruments, key=lambda i: i.delisted_at is None):
        key = (instrument.exchange, instrument.symbol, instrument.listed_at)
        row = symbol_row(instrument, ids) | {"origin": "seed"}
        there = known.get(key)
        if there is None:
            statement: sa.Executable = insert(SYMBOLS).values(row)
        elif there["is_deleted"] or _differs(instrument, there):
            statement = (
                sa.update(SYMBOLS)
                .where(SYMBOLS.c.symbol_id == there["symbol_id"])
                .values(**row, is_deleted=False, deleted_date=None)
            )
        else:
            continue
        try:
            async with connection.begin_nested():
                await connection.execute(statement)
        except IntegrityError as error:
            raise Refused(
                f"{instrument.exchange}:{instrument.symbol} cannot stand for "
                f"{instrument.coin}/{instrument.quote}: another live symbol of dim__symbol holds "
                "that place, or the symbol stands for something else. Give the older one a "
                "delisted_at, or one of them a coin name of its own, in routing.symbol_map. "
                "Nothing was changed."
            ) from error
