"""A small star to migrate: two dimensions, a fact, three rollups, a view; and ways to change it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ravenwh.timescale import (
    Columnstore,
    ContinuousAggregate,
    Distributed,
    Hypertable,
    Reference,
    Refresh,
    View,
    time_bucket,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
IDS = ("coin_id", "quote_id")
HOME = "market"


def hypertable(**changes: Any) -> Hypertable:
    """The fact's declaration with whatever a test changes."""
    values: dict[str, Any] = {
        "chunk": "7 days",
        "columnstore": Columnstore(segmentby=IDS, orderby="open_time DESC", after="14 days"),
    }
    return Hypertable("open_time", **values | changes)


def rollup(source: sa.FromClause, width: str, *, extra: bool = False) -> sa.Select[Any]:
    """OHLC and volume of the buckets of a fact or of another rollup."""
    k = source.alias("k")
    bucket = time_bucket(width, k.c.open_time).label("open_time")
    rows = sa.func.sum(k.c.base_rows) if "base_rows" in k.c else sa.func.count()
    columns: list[Any] = [
        bucket,
        k.c.coin_id,
        k.c.quote_id,
        sa.func.first(k.c.open, k.c.open_time, type_=sa.Double()).label("open"),
        sa.func.max(k.c.high).label("high"),
        sa.func.min(k.c.low).label("low"),
        sa.func.last(k.c.close, k.c.open_time, type_=sa.Double()).label("close"),
        sa.func.sum(k.c.volume).label("volume"),
        sa.cast(rows, sa.BigInteger).label("base_rows"),
    ]
    if extra:
        columns.append(sa.func.avg(k.c.close).label("mean_close"))
    return sa.select(*columns).group_by(bucket, k.c.coin_id, k.c.quote_id)


def market(
    schema: str = HOME,
    *,
    fact: Hypertable | bool | None = True,
    with_fact: bool = True,
    without: tuple[str, ...] = (),
    extra: tuple[str, ...] = (),
    volume: Any = None,
    aggregate: dict[str, dict[str, Any]] | None = None,
) -> sa.MetaData:
    """The models; ``aggregate`` changes the arguments of a rollup by its name."""
    metadata = sa.MetaData(schema=schema, naming_convention=NAMING)
    for name in ("coin", "quote"):
        sa.Table(
            f"dim__{name}",
            metadata,
            sa.Column(f"{name}_id", sa.Integer, sa.Identity(), primary_key=True),
            sa.Column(name, sa.Text, nullable=False, unique=True),
            Reference(),
        )
    if not with_fact:
        return metadata
    declared = hypertable() if fact is True else fact
    fact_table = sa.Table(
        "fact__kline",
        metadata,
        *(
            sa.Column(
                f"{name}_id",
                sa.ForeignKey(f"{schema}.dim__{name}.{name}_id"),
                primary_key=True,
                autoincrement=False,
            )
            for name in ("coin", "quote")
        ),
        sa.Column("open_time", sa.TIMESTAMP(timezone=True), primary_key=True, index=True),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("open", "high", "low", "close")),
        sa.Column("volume", volume or sa.Double(), nullable=True),
        sa.CheckConstraint("high >= low", name="high_low"),
        Distributed("coin_id"),
        *([declared] if declared else []),
    )
    if not declared:
        return metadata
    changes = aggregate or {}

    def add(name: str, source: sa.FromClause, width: str, refresh: Refresh) -> sa.Table:
        made = ContinuousAggregate(
            name,
            rollup(source, width, extra=name in extra),
            metadata=metadata,
            **{"refresh": refresh} | changes.get(name, {}),
        )
        return made.table

    if "agg__kline_5m" not in without:
        add("agg__kline_5m", fact_table, "5 minutes", Refresh("2 hours", "5 minutes", "1 minute"))
    if "agg__kline_1h" in without:
        return metadata
    hour = add("agg__kline_1h", fact_table, "1 hour", Refresh("1 day", "1 hour", "15 minutes"))
    if "agg__kline_1d" not in without:
        add("agg__kline_1d", hour, "1 day", Refresh("7 days", "1 hour", "1 hour"))
    if "kline_1h" not in without:
        coin = metadata.tables[f"{schema}.dim__coin"]
        View(
            "kline_1h",
            sa.select(coin.c.coin, hour).join_from(hour, coin, hour.c.coin_id == coin.c.coin_id),
            metadata=metadata,
        )
    return metadata
