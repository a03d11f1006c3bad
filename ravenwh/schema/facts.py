"""The facts of the star: one row a series and period.

A fact is declared by naming its value columns on :class:`SeriesFact`; key, foreign keys,
provenance and the hypertable come from there, and the warehouse derives its upsert from the
finished table.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, declared_attr, mapped_column
from sqlalchemy.schema import SchemaItem

from ravenwh.schema.base import HOME_SCHEMA, Base
from ravenwh.schema.dimensions import Coin, Exchange, Interval, Quote, one_of
from ravenwh.timescale import Columnstore, Distributed, Hypertable

__all__ = ["BARS", "KLINES", "SOURCES", "BarFact", "Kline", "SeriesFact"]

IDS = ("coin_id", "quote_id", "exchange_id", "interval_id")
"""The series of a row."""

SOURCES = ("stream", "rest", "archive", "built")
"""Where a row may come from, lowest rank first.

An existing row is replaced only by one that is not lower in (rank, event_time).
"""


class SeriesFact:
    """Key and provenance of every fact.

    ``open_time`` is the start of the period, UTC. ``event_time`` is the venue's, ``ingested_at``
    the writer's at the first write and never moved, ``revised_at`` the writer's when a value last
    changed.
    """

    ORDER_BY: ClassVar[str] = "open_time DESC"

    coin_id: Mapped[int] = mapped_column(
        sa.ForeignKey(Coin.coin_id), primary_key=True, sort_order=-50
    )
    quote_id: Mapped[int] = mapped_column(
        sa.ForeignKey(Quote.quote_id), primary_key=True, sort_order=-49
    )
    exchange_id: Mapped[int] = mapped_column(
        sa.ForeignKey(Exchange.exchange_id), primary_key=True, sort_order=-48
    )
    interval_id: Mapped[int] = mapped_column(
        sa.ForeignKey(Interval.interval_id), primary_key=True, sort_order=-47
    )
    open_time: Mapped[datetime] = mapped_column(primary_key=True, index=True, sort_order=-46)

    event_time: Mapped[datetime] = mapped_column(sort_order=90)
    source: Mapped[str] = mapped_column(sort_order=91)
    ingested_at: Mapped[datetime] = mapped_column(sort_order=92)
    revised_at: Mapped[datetime | None] = mapped_column(sort_order=93)

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[SchemaItem, ...]:
        return (
            sa.CheckConstraint(one_of("source", SOURCES), name="source"),
            Hypertable(
                "open_time",
                chunk="7 days",
                columnstore=Columnstore(segmentby=IDS, orderby=cls.ORDER_BY, after="14 days"),
            ),
            Distributed("coin_id"),
        )


class Kline(SeriesFact, Base):
    """OHLCV over a fixed interval.

    Prices and volumes are per one unit of the symbol's multiplier, as the venue gives them; volume
    and taker_buy_volume are in coins, the quote columns in quote units. What a venue does not say,
    or says in a unit that cannot be converted, is null.
    """

    __tablename__ = "fact__kline"

    open: Mapped[float]
    high: Mapped[float]
    low: Mapped[float]
    close: Mapped[float]
    volume: Mapped[float | None]
    quote_volume: Mapped[float | None]
    trade_count: Mapped[int | None] = mapped_column(sa.BigInteger)
    taker_buy_volume: Mapped[float | None]
    taker_buy_quote_volume: Mapped[float | None]


class BarFact(SeriesFact):
    """A bar: OHLCV of trades by activity, not by the clock.

    ``bar_seq`` numbers, from 0, the bars of a series with the same ``open_time``; ``close_time``
    is that of the last trade. Volumes are in coins, ticks are trades. ``after_gap`` says that
    trades may be missing before or in it.
    """

    ORDER_BY: ClassVar[str] = "open_time DESC, bar_seq DESC"

    bar_seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, sort_order=-45)
    close_time: Mapped[datetime]
    open: Mapped[float]
    high: Mapped[float]
    low: Mapped[float]
    close: Mapped[float]
    volume: Mapped[float | None]
    buy_ticks: Mapped[int | None] = mapped_column(sa.BigInteger)
    sell_ticks: Mapped[int | None] = mapped_column(sa.BigInteger)
    total_ticks: Mapped[int | None] = mapped_column(sa.BigInteger)
    after_gap: Mapped[bool] = mapped_column(server_default=sa.false())


class TickImbalance(BarFact, Base):
    """Tick imbalance bars; ``theta`` is the signed count of trades at the bar's end."""

    __tablename__ = "fact__tick_imbalance"

    theta: Mapped[float] = mapped_column(sort_order=50)


class TickRun(BarFact, Base):
    """Tick run bars; ``theta`` is the larger count of buys or sells at the bar's end."""

    __tablename__ = "fact__tick_run"

    theta: Mapped[float] = mapped_column(sort_order=50)


class VolumeImbalance(BarFact, Base):
    """Volume imbalance bars; ``theta`` is the signed volume, in coins, at the bar's end."""

    __tablename__ = "fact__volume_imbalance"

    theta: Mapped[float] = mapped_column(sort_order=50)


class Vpin(BarFact, Base):
    """Volume buckets with VPIN (a fraction, 0 to 1) and the volume bought and sold, in coins."""

    __tablename__ = "fact__vpin"

    vpin: Mapped[float] = mapped_column(sort_order=50)
    buy_volume: Mapped[float] = mapped_column(sort_order=51)
    sell_volume: Mapped[float] = mapped_column(sort_order=52)


class Funding(SeriesFact, Base):
    """Funding: ``rate`` is the fraction paid at ``next_funding_time``, prices in quote units."""

    __tablename__ = "fact__funding"

    rate: Mapped[float]
    mark_price: Mapped[float | None]
    index_price: Mapped[float | None]
    next_funding_time: Mapped[datetime | None]


class OpenInterest(SeriesFact, Base):
    """Open interest in coins, and its value in quote units."""

    __tablename__ = "fact__open_interest"

    open_interest: Mapped[float | None]
    open_interest_value: Mapped[float | None]


KLINES: sa.Table = Base.metadata.tables[f"{HOME_SCHEMA}.{Kline.__tablename__}"]

BARS: Mapping[str, sa.Table] = {
    model.__tablename__.removeprefix("fact__"): Base.metadata.tables[
        f"{HOME_SCHEMA}.{model.__tablename__}"
    ]
    for model in (TickImbalance, TickRun, VolumeImbalance, Vpin)
}
"""The facts of bars: ``tick_imbalance``, ``tick_run``, ``volume_imbalance``, ``vpin``."""
