"""The rollups of klines, and the views for people: declared once, kept by TimescaleDB where it is.

Two levels and no more: 5m, 15m, 30m and 1h from the fact; 4h, 1d and 1w from 1h. Deeper real-time
hierarchies re-scan their whole tail at each refresh (timescaledb #10071).

A rollup is grouped by the four ids, of which ``interval_id`` is that of the base klines: a reader
takes only bases that are shorter than the bucket and divide it. ``base_rows`` is how many base
klines a bucket holds; a sum is null if any of its inputs is.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ravenwh.schema.base import Base
from ravenwh.schema.dimensions import DIMENSIONS, Dimension
from ravenwh.schema.facts import IDS, KLINES, Funding, OpenInterest
from ravenwh.timescale import Columnstore, ContinuousAggregate, Refresh, View, time_bucket

__all__ = ["ROLLUPS", "VIEWS"]

SUMS = ("volume", "quote_volume", "trade_count", "taker_buy_volume", "taker_buy_quote_volume")


def total(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The sum of a column, null if any input is; of whole numbers a whole number."""
    summed: sa.ColumnElement[Any] = sa.func.sum(column)
    if isinstance(column.type, sa.Integer):
        summed = sa.cast(summed, sa.BigInteger)
    return sa.case((sa.func.count(column) == sa.func.count(), summed))


def rollup(source: sa.FromClause, width: str) -> sa.Select[*tuple[Any, ...]]:
    """OHLCV of the buckets of the fact, or of another rollup."""
    k = source.alias("k")
    bucket = time_bucket(width, k.c.open_time).label("open_time")
    ids = [k.c[name] for name in IDS]
    rows = sa.func.sum(k.c.base_rows) if "base_rows" in k.c else sa.func.count()
    return sa.select(
        bucket,
        *ids,
        sa.func.first(k.c.open, k.c.open_time, type_=sa.Double()).label("open"),
        sa.func.max(k.c.high).label("high"),
        sa.func.min(k.c.low).label("low"),
        sa.func.last(k.c.close, k.c.open_time, type_=sa.Double()).label("close"),
        *(total(k.c[name]).label(name) for name in SUMS),
        sa.cast(rows, sa.BigInteger).label("base_rows"),
    ).group_by(bucket, *ids)


def kept(code: str, source: sa.FromClause, width: str, refresh: Refresh, after: str) -> sa.Table:
    """The rollup of a code, refreshed and stored by column by policies."""
    return ContinuousAggregate(
        f"agg__kline_{code}",
        rollup(source, width),
        metadata=Base.metadata,
        refresh=refresh,
        columnstore=Columnstore(segmentby=IDS, orderby="open_time DESC", after=after),
    ).table


ROLLUPS: dict[str, sa.Table] = {
    code: kept(code, KLINES, width, Refresh("2 days", end, schedule), "30 days")
    for code, width, end, schedule in (
        ("5m", "5 minutes", "5 minutes", "5 minutes"),
        ("15m", "15 minutes", "15 minutes", "15 minutes"),
        ("30m", "30 minutes", "30 minutes", "15 minutes"),
        ("1h", "1 hour", "1 hour", "15 minutes"),
    )
}
ROLLUPS |= {
    code: kept(code, ROLLUPS["1h"], width, Refresh(start, end, "1 hour"), after)
    for code, width, start, end, after in (
        ("4h", "4 hours", "3 days", "4 hours", "90 days"),
        ("1d", "1 day", "7 days", "1 day", "180 days"),
        ("1w", "7 days", "28 days", "7 days", "1 year"),
    )
}
"""The rollups by the code of their bucket."""


def named(rows: sa.Table, *, base: str | None = None) -> sa.Select[*tuple[Any, ...]]:
    """The rows with names in place of ids; of one base interval only, where it is given."""
    tables = {dimension.name: dimension.table.alias(dimension.name) for dimension in DIMENSIONS}
    joined: sa.FromClause = rows
    for name, table in tables.items():
        joined = joined.join(table, rows.c[f"{name}_id"] == table.c[f"{name}_id"])
    shown = [d for d in DIMENSIONS if base is None or d.name != "interval"]
    selected = sa.select(
        *(_name(tables, dimension) for dimension in shown),
        *(column for column in rows.columns if column.name not in IDS),
    ).select_from(joined)
    return selected if base is None else selected.where(tables["interval"].c.interval == base)


def _name(tables: dict[str, Any], dimension: Dimension) -> sa.ColumnElement[str]:
    name: sa.ColumnElement[str] = tables[dimension.name].c[dimension.name]
    return name


VIEWS: dict[str, View] = {
    f"kline_{code}": View(f"kline_{code}", named(rows, base="1m"), metadata=Base.metadata)
    for code, rows in {"1m": KLINES, **ROLLUPS}.items()
} | {
    "funding": View(
        "funding",
        named(Base.metadata.tables[f"mart.{Funding.__tablename__}"]),
        metadata=Base.metadata,
    ),
    "open_interest": View(
        "open_interest",
        named(Base.metadata.tables[f"mart.{OpenInterest.__tablename__}"]),
        metadata=Base.metadata,
    ),
}
"""The plain views for people and Grafana: names for ids, klines of base 1m only."""
