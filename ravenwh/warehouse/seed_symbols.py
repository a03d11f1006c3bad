"""The register's part of a seeding: which row of ``dim__symbol`` each instrument has.

What a stored fact means is told by the register row of its time. So a row keeps its meaning, the
coin, quote, multiplier and unit, as soon as there are facts that may be read by it; when it held
may be changed at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ravenwh.domain.errors import Refused
from ravenwh.domain.instrument import Instrument
from ravenwh.domain.seed import Seed
from ravenwh.schema import DIMENSIONS, KLINES, SYMBOLS
from ravenwh.warehouse.dimensions import Names, symbol_attributes, symbol_row
from ravenwh.warehouse.plan import Plan

__all__ = ["SymbolPlan"]

Row = dict[str, Any]
"""A row of the register, with the names beside the ids."""

MEANING = ("coin", "quote", "multiplier", "volume_unit", "contract_size", "contract_of")
"""The columns that say how facts are to be read."""


@attrs.frozen(kw_only=True)
class SymbolPlan:
    """What happens to the register: each instrument with its row, if it has one, and who goes."""

    wanted: tuple[tuple[Instrument, Row | None], ...]
    gone: tuple[Row, ...]
    others: tuple[Row, ...]

    @classmethod
    async def of(cls, connection: AsyncConnection, wanted: Seed, *, prune: bool) -> SymbolPlan:
        """The plan for the register as it is; without ``prune`` nobody goes."""
        known = await _known(connection)
        matched = _matched(known, wanted.instruments)
        claimed = {row["symbol_id"] for _, row in matched if row is not None}
        live = [r for r in known if r["symbol_id"] not in claimed and not r["is_deleted"]]
        gone = [row for row in live if prune and row["origin"] == "seed"]
        return cls(
            wanted=tuple(matched),
            gone=tuple(gone),
            others=tuple(row for row in live if row not in gone),
        )

    @property
    def told(self) -> Plan:
        """The plan in names, for people; a symbol that was used twice stands there twice."""
        names: dict[str, list[str]] = {"added": [], "reactivated": [], "changed": []}
        existing = [_name(row) for row in self.others]
        for instrument, row in self.wanted:
            if row is None:
                kind = names["added"]
            elif row["is_deleted"]:
                kind = names["reactivated"]
            else:
                kind = names["changed"] if _differs(instrument, row) else existing
            kind.append(f"{instrument.exchange}:{instrument.symbol}")
        return Plan(
            dimension="symbol",
            soft_deleted=tuple(sorted(map(_name, self.gone))),
            existing=tuple(sorted(existing)),
            **{kind: tuple(sorted(given)) for kind, given in names.items()},
        )

    async def refuse_new_meanings(self, connection: AsyncConnection) -> None:
        """Raise Refused where a row with facts would get another meaning in place."""
        problems = [
            _new_meaning(instrument, row)
            for instrument, row in self.wanted
            if row is not None
            and any(row[name] != said for name, said in _meaning(instrument).items())
            and await _has_facts(connection, row)
        ]
        if problems:
            raise Refused("\n".join([*problems, "Nothing was changed."]))

    async def apply(self, connection: AsyncConnection, ids: Names) -> None:
        """Write the plan: first what frees a place, then what takes one."""
        if self.gone:
            await connection.execute(
                sa.update(SYMBOLS)
                .where(SYMBOLS.c.symbol_id.in_([row["symbol_id"] for row in self.gone]))
                .values(is_deleted=True, deleted_date=sa.func.now())
            )
        for instrument, there in sorted(self.wanted, key=lambda w: w[0].delisted_at is None):
            row = symbol_row(instrument, ids) | {"origin": "seed"}
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
            await _write(connection, statement, instrument)


async def _known(connection: AsyncConnection) -> list[Row]:
    coin, quote, exchange, _ = DIMENSIONS
    rows = await connection.execute(
        sa.select(SYMBOLS, coin.label, quote.label, exchange.label)
        .select_from(SYMBOLS.join(coin.table).join(quote.table).join(exchange.table))
        .order_by(SYMBOLS.c.is_deleted, SYMBOLS.c.symbol_id)
    )
    return [dict(row) for row in rows.mappings()]


def _matched(
    known: Sequence[Row], instruments: Iterable[Instrument]
) -> list[tuple[Instrument, Row | None]]:
    """The row of each instrument.

    It is the one of its exchange, symbol and listed_at; else one that nobody wants and that means
    the same, and that gets another listed_at.
    """
    free = {(row["exchange"], row["symbol"], row["listed_at"]): row for row in known}
    exact = [(i, free.pop((i.exchange, i.symbol, i.listed_at), None)) for i in instruments]
    matched: list[tuple[Instrument, Row | None]] = []
    for instrument, row in exact:
        if row is None:
            said = {
                "exchange": instrument.exchange,
                "symbol": instrument.symbol,
                **_meaning(instrument),
            }
            same = (key for key, r in free.items() if all(r[n] == said[n] for n in said))
            key = next(same, None)
            row = None if key is None else free.pop(key)
        matched.append((instrument, row))
    return matched


def _said(instrument: Instrument) -> Row:
    return symbol_attributes(instrument) | {
        "coin": instrument.coin,
        "quote": instrument.quote,
        "listed_at": instrument.listed_at,
    }


def _meaning(instrument: Instrument) -> Row:
    said = _said(instrument)
    return {name: said[name] for name in MEANING}


def _differs(instrument: Instrument, row: Row) -> bool:
    return any(row[column] != value for column, value in _said(instrument).items())


def _name(row: Row) -> str:
    return f"{row['exchange']}:{row['symbol']}"


async def _has_facts(connection: AsyncConnection, row: Row) -> bool:
    """Whether there is any fact of the row's coin, quote and exchange."""
    keys = ("coin_id", "quote_id", "exchange_id")
    facts = sa.exists().where(*(KLINES.c[key] == row[key] for key in keys))
    return bool(await connection.scalar(sa.select(facts)))


def _new_meaning(instrument: Instrument, row: Row) -> str:
    old, new = ({n: r[n] for n in MEANING} for r in (row, _meaning(instrument)))
    return (
        f"{_name(row)} is {_described(old)} in dim__symbol, and there are klines of it; the "
        f"settings say {_described(new)}, and what is stored would be read as that. Say in "
        "routing.symbol_map when each of the two held, as two entries: "
        f"{_entry(row['exchange'], row['symbol'], old, 'delisted_at')} and "
        f"{_entry(row['exchange'], row['symbol'], new, 'listed_at')}."
    )


def _described(meaning: Row) -> str:
    unit = meaning["volume_unit"]
    if unit == "contract":
        unit = f"contracts of {meaning['contract_size']:.12g} {meaning['contract_of']}"
    name = f"{meaning['coin']}/{meaning['quote']}"
    return f"{name} with multiplier {meaning['multiplier']:.12g} and volumes in {unit}"


def _entry(exchange: str, symbol: str, meaning: Row, bound: str) -> str:
    """An entry of ``routing.symbol_map`` for people; its key may be any, as it names the coin."""
    values = [
        f'coin = "{meaning["coin"]}"',
        f'symbol = "{symbol}"',
        f"multiplier = {meaning['multiplier']:.12g}",
        f'volume_unit = "{meaning["volume_unit"]}"',
    ]
    if meaning["contract_size"] is not None:
        values.append(f"contract_size = {meaning['contract_size']:.12g}")
        values.append(f'contract_of = "{meaning["contract_of"]}"')
    values.append(f"{bound} = <when it changed>")
    label = f"{meaning['coin']}{'-OLD' if bound == 'delisted_at' else ''}/{meaning['quote']}"
    return f'"{label}" = {{ {exchange} = {{ {", ".join(values)} }} }}'


async def _write(
    connection: AsyncConnection, statement: sa.Executable, instrument: Instrument
) -> None:
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
