"""What the warehouse notes about itself: rollups to refresh, what never came, ticks exported.

These tables are small, and rows are written by the runners in the transactions they speak of, so
that a note is there if and only if what it tells of happened.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, declared_attr, mapped_column
from sqlalchemy.schema import SchemaItem

from ravenwh.schema.base import HOME_SCHEMA, Base

__all__ = ["FEED_GAPS", "REFRESH_DUE", "TICK_EXPORTS", "FeedGap", "RefreshDue", "TickExport"]


class RefreshDue(Base):
    """Days of a fact whose rows changed behind the refresh windows of its rollups.

    ``changes`` counts the batches that changed rows of the day: a refresh takes away only what it
    saw, so that a change during a refresh stays due.
    """

    __tablename__ = "ops__refresh_due"

    fact: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[datetime] = mapped_column(primary_key=True)
    changes: Mapped[int] = mapped_column(sa.BigInteger)
    recorded_at: Mapped[datetime]


class FeedGap(Base):
    """Messages of a topic that were published, or expected, and never came.

    A gap in the numbers has ``epoch``, ``first_seq`` and ``last_seq``, both included; one in the
    cadence of klines has ``start_time`` and ``end_time``, half-open. ``missing`` is how many
    messages, null where nobody can tell. ``repaired_at`` is when all of them were there after all.
    """

    __tablename__ = "ops__feed_gap"

    feed_gap_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    feed: Mapped[str]
    topic: Mapped[str]
    epoch: Mapped[int | None] = mapped_column(sa.BigInteger)
    first_seq: Mapped[int | None] = mapped_column(sa.BigInteger)
    last_seq: Mapped[int | None] = mapped_column(sa.BigInteger)
    start_time: Mapped[datetime | None]
    end_time: Mapped[datetime | None]
    missing: Mapped[int | None] = mapped_column(sa.BigInteger)
    reason: Mapped[str]
    detected_at: Mapped[datetime]
    repaired_at: Mapped[datetime | None]

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[SchemaItem, ...]:
        return (
            sa.UniqueConstraint(
                "feed",
                "topic",
                "epoch",
                "first_seq",
                "start_time",
                postgresql_nulls_not_distinct=True,
            ),
            sa.CheckConstraint(
                "num_nonnulls(epoch, first_seq, last_seq) = 3 OR "
                "num_nonnulls(start_time, end_time) = 2",
                name="has_bounds",
            ),
        )


class TickExport(Base):
    """Days of a measurement in InfluxDB that were exported to files.

    ``points`` is how many were written, zero for a day that held none: the bucket lets its days go,
    and this is what shows that one is kept elsewhere.
    """

    __tablename__ = "ops__tick_export"

    measurement: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[datetime] = mapped_column(primary_key=True)
    points: Mapped[int] = mapped_column(sa.BigInteger)
    exported_at: Mapped[datetime]


REFRESH_DUE: sa.Table = Base.metadata.tables[f"{HOME_SCHEMA}.{RefreshDue.__tablename__}"]
FEED_GAPS: sa.Table = Base.metadata.tables[f"{HOME_SCHEMA}.{FeedGap.__tablename__}"]
TICK_EXPORTS: sa.Table = Base.metadata.tables[f"{HOME_SCHEMA}.{TickExport.__tablename__}"]
