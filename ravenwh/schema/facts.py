"""The facts of the star: one row a series and period.

A fact is declared by naming its value columns on :class:`SeriesFact`; key, foreign keys and
provenance come from there, and the warehouse derives its upsert from the finished table.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, declared_attr, mapped_column
from sqlalchemy.schema import SchemaItem

from ravenwh.schema.base import HOME_SCHEMA, Base
from ravenwh.schema.dimensions import Coin, Exchange, Interval, Quote, one_of

__all__ = ["KLINES", "SOURCES", "Kline", "SeriesFact"]

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
        return (sa.CheckConstraint(one_of("source", SOURCES), name="source"),)


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


KLINES: sa.Table = Base.metadata.tables[f"{HOME_SCHEMA}.{Kline.__tablename__}"]
