"""Names to ids: dimension rows and register rows are found, added and brought back here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from loguru import logger
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ravenwh.domain.errors import Unavailable
from ravenwh.domain.instrument import Instrument
from ravenwh.schema import DIMENSIONS, SYMBOLS, Dimension

__all__ = [
    "Names",
    "live_symbols",
    "name_instruments",
    "register",
    "resolve",
    "symbol_attributes",
    "symbol_row",
]


Names = dict[str, dict[str, int]]
"""Dimension name to (name to id)."""


def _found(dimension: Dimension) -> sa.Select[Any]:
    """Ids of the names given; adds the unknown ones and brings back the soft-deleted ones.

    ``was`` is the state before: null for an added row, else whether it was soft-deleted.
    """
    table, label = dimension.table, dimension.label
    given = (
        sa.func.unnest(sa.bindparam(f"{dimension.name}s", type_=ARRAY(sa.Text())))
        .table_valued(sa.column("name", sa.Text()), name=f"given_{dimension.name}")
        .render_derived()
    )
    columns: dict[str, sa.ColumnElement[Any]] = {
        dimension.name: given.c.name,
        "origin": sa.literal("feed", sa.Text()),
    }
    if dimension.name == "interval":
        durations = sa.bindparam("durations", type_=ARRAY(sa.Interval()))
        given = (
            sa.func.unnest(sa.bindparam("intervals", type_=ARRAY(sa.Text())), durations)
            .table_valued(
                sa.column("name", sa.Text()),
                sa.column("duration", sa.Interval()),
                name="given_interval",
            )
            .render_derived()
        )
        columns[dimension.name] = given.c.name
        columns["duration"] = given.c.duration
    before = table.alias(f"before_{dimension.name}")
    wanted = (
        sa.select(*columns.values())
        .select_from(given.outerjoin(before, before.c[dimension.name] == given.c.name))
        .where(sa.func.coalesce(before.c.is_deleted, sa.true()))
        .order_by(given.c.name)
    )
    rows = insert(table).from_select(list(columns), wanted)
    written = (
        rows.on_conflict_do_update(
            index_elements=[label],
            set_={"is_deleted": sa.false(), "deleted_date": sa.null(), "origin": "feed"},
            where=table.c.is_deleted,
        )
        .returning(dimension.id.label("id"), label.label("name"))
        .cte(f"written_{dimension.name}")
    )
    return sa.select(
        sa.literal(dimension.name, sa.Text()).label("dimension"),
        given.c.name.label("name"),
        sa.func.coalesce(written.c.id, before.c[dimension.id.name]).label("id"),
        before.c.is_deleted.label("was"),
    ).select_from(
        given.outerjoin(written, written.c.name == given.c.name).outerjoin(
            before, before.c[dimension.name] == given.c.name
        )
    )


RESOLVE = sa.union_all(*map(_found, DIMENSIONS))


async def resolve(
    connection: AsyncConnection,
    names: Mapping[str, Collection[str]],
    durations: Mapping[str, timedelta],
) -> Names:
    """Ids of all names, in one round trip; what is unknown is added, what was deleted comes back.

    ``names`` maps a dimension (coin, quote, exchange, interval) to names, ``durations`` gives the
    length of intervals. Call it in a transaction of its own: rows it touches stay locked until the
    end.
    """
    given = {d.name: sorted(names.get(d.name, ())) for d in DIMENSIONS}
    parameters: dict[str, object] = {f"{name}s": values for name, values in given.items()}
    parameters["durations"] = [durations.get(name) for name in given["interval"]]
    for _ in range(3):
        found = (await connection.execute(RESOLVE, parameters)).all()
        if all(row.id is not None for row in found):
            break
        # another writer added a name after our snapshot: it is there for the next statement
    else:
        raise Unavailable("dimension rows keep changing under the look-up; it is tried again")
    ids: Names = {d.name: {} for d in DIMENSIONS}
    for row in found:
        ids[row.dimension][row.name] = row.id
        if row.was is None or row.was:
            event = "DIMENSION_ADDED" if row.was is None else "DIMENSION_REACTIVATED"
            logger.bind(dimension=row.dimension, name=row.name, origin="feed").info(event)
    return ids


def name_instruments(instruments: Iterable[Instrument]) -> dict[str, set[str]]:
    """The dimension names that instruments need."""
    names: dict[str, set[str]] = {"coin": set(), "quote": set(), "exchange": set()}
    for instrument in instruments:
        names["coin"].add(instrument.coin)
        names["quote"].add(instrument.quote)
        names["exchange"].add(instrument.exchange)
    return names


def symbol_attributes(instrument: Instrument) -> dict[str, Any]:
    """What a register row says of an instrument, beside what identifies it and its ids."""
    unit = instrument.volume_unit
    return {
        "contract": str(instrument.contract),
        "multiplier": instrument.multiplier,
        "volume_unit": unit.kind,
        "contract_size": unit.size,
        "contract_of": unit.of,
        "delisted_at": instrument.delisted_at,
    }


def symbol_row(instrument: Instrument, ids: Names) -> dict[str, Any]:
    """The row of ``dim__symbol`` for an instrument."""
    return {
        "exchange_id": ids["exchange"][instrument.exchange],
        "symbol": instrument.symbol,
        "listed_at": instrument.listed_at,
        "coin_id": ids["coin"][instrument.coin],
        "quote_id": ids["quote"][instrument.quote],
        **symbol_attributes(instrument),
    }


async def register(
    connection: AsyncConnection, instruments: Collection[Instrument], ids: Names
) -> dict[Instrument, str]:
    """Put instruments into the register where their place is free; who holds the taken ones.

    A soft-deleted row comes back where nobody took its place. Returns, for each instrument that
    may not be written, the symbol that holds its (coin, quote, exchange).
    """
    table = SYMBOLS
    ordered = sorted(instruments, key=lambda i: (i.exchange, i.symbol))
    rows = [symbol_row(instrument, ids) for instrument in ordered]
    deleted = await connection.execute(
        sa.select(table.c.symbol_id, table.c.exchange_id, table.c.symbol).where(
            table.c.is_deleted,
            table.c.delisted_at.is_(None),
            table.c.exchange_id.in_({row["exchange_id"] for row in rows}),
            table.c.symbol.in_({row["symbol"] for row in rows}),
        )
    )
    wanted = {(row["exchange_id"], row["symbol"]) for row in rows}
    for found in deleted.all():
        if (found.exchange_id, found.symbol) in wanted:
            await _bring_back(connection, found.symbol_id)
    await connection.execute(insert(table).on_conflict_do_nothing(), rows)
    held = await live_symbols(connection, {row["exchange_id"] for row in rows})
    holders = {
        instrument: held.get((row["coin_id"], row["quote_id"], row["exchange_id"]))
        for instrument, row in zip(ordered, rows, strict=True)
        if instrument.delisted_at is None
    }
    return {i: held_by for i, held_by in holders.items() if held_by not in (None, i.symbol)}


async def _bring_back(connection: AsyncConnection, symbol_id: int) -> None:
    """Undo the soft delete of a register row, unless another live row took its place."""
    table = SYMBOLS
    other = table.alias("other")
    taken = sa.exists().where(
        ~other.c.is_deleted,
        other.c.delisted_at.is_(None),
        other.c.coin_id == table.c.coin_id,
        other.c.quote_id == table.c.quote_id,
        other.c.exchange_id == table.c.exchange_id,
    )
    brought_back = await connection.execute(
        sa.update(table)
        .where(table.c.symbol_id == symbol_id, ~taken)
        .values(is_deleted=False, deleted_date=None, origin="feed")
        .returning(table.c.symbol)
    )
    for symbol in brought_back.scalars():
        logger.bind(dimension="symbol", name=symbol, origin="feed").info("DIMENSION_REACTIVATED")


async def live_symbols(
    connection: AsyncConnection, exchange_ids: Collection[int]
) -> dict[tuple[int, int, int], str]:
    """The live symbol of each (coin_id, quote_id, exchange_id) of some exchanges."""
    table = SYMBOLS
    rows = await connection.execute(
        sa.select(table.c.coin_id, table.c.quote_id, table.c.exchange_id, table.c.symbol).where(
            table.c.delisted_at.is_(None),
            ~table.c.is_deleted,
            table.c.exchange_id.in_(exchange_ids),
        )
    )
    return {(row.coin_id, row.quote_id, row.exchange_id): row.symbol for row in rows}
