"""The dimensions of the star, and the instrument register.

A dimension row is never deleted: it is marked, and comes back when a feed or the settings name it
again. Reads never hide a marked row.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, declared_attr, mapped_column
from sqlalchemy.schema import SchemaItem

from ravenwh.domain.instrument import Contract
from ravenwh.schema.base import HOME_SCHEMA, Base
from ravenwh.timescale import Reference

__all__ = [
    "DIMENSIONS",
    "SYMBOLS",
    "Coin",
    "Dimension",
    "Exchange",
    "Interval",
    "Quote",
    "SoftDelete",
    "Symbol",
]


def one_of(column: str, values: tuple[str, ...]) -> str:
    """The text of a check that a column holds one of the values."""
    allowed = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({allowed})"


class SoftDelete:
    """Marks a row as no longer wanted, without taking it from the facts that point to it.

    ``origin`` tells who named the row last: the settings (``seed``) or a message (``feed``). Only
    rows of origin ``seed`` are ever marked by seeding.
    """

    is_deleted: Mapped[bool] = mapped_column(server_default=sa.false(), sort_order=90)
    deleted_date: Mapped[datetime | None] = mapped_column(sort_order=91)
    origin: Mapped[str] = mapped_column(server_default="feed", sort_order=92)

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[SchemaItem, ...]:
        return (
            sa.CheckConstraint("is_deleted = (deleted_date IS NOT NULL)", name="deleted_has_date"),
            sa.CheckConstraint(one_of("origin", ("seed", "feed")), name="origin"),
            Reference(),
        )


class Coin(SoftDelete, Base):
    """Base assets: ``BTC``, ``PEPE``."""

    __tablename__ = "dim__coin"

    coin_id: Mapped[int] = mapped_column(sa.Identity(), primary_key=True)
    coin: Mapped[str] = mapped_column(unique=True)


class Quote(SoftDelete, Base):
    """Quoting assets: ``USDT``, ``BTC``."""

    __tablename__ = "dim__quote"

    quote_id: Mapped[int] = mapped_column(sa.Identity(), primary_key=True)
    quote: Mapped[str] = mapped_column(unique=True)


class Exchange(SoftDelete, Base):
    """Venue and market in one name, so that spot and perpetual never share a row of a fact."""

    __tablename__ = "dim__exchange"

    exchange_id: Mapped[int] = mapped_column(sa.Identity(), primary_key=True)
    exchange: Mapped[str] = mapped_column(unique=True)


class Interval(SoftDelete, Base):
    """Kline intervals (``1m``, with their duration) and bar profiles (with their parameters)."""

    __tablename__ = "dim__interval"

    interval_id: Mapped[int] = mapped_column(sa.Identity(), primary_key=True)
    interval: Mapped[str] = mapped_column(unique=True)
    duration: Mapped[timedelta | None]
    parameters: Mapped[dict[str, Any] | None]
    parameters_hash: Mapped[str | None]

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[SchemaItem, ...]:
        return (
            *super().__table_args__,
            sa.CheckConstraint(
                "(parameters IS NULL) = (parameters_hash IS NULL)", name="parameters_have_hash"
            ),
        )


class Symbol(SoftDelete, Base):
    """The instrument register: what a venue's symbol stands for, and when.

    ``multiplier`` coins make one unit of the venue's price and volume; ``contract_size`` is in
    coins or quote units, as ``contract_of`` says. A symbol is live while it is neither delisted
    nor soft-deleted; at most one live symbol holds a (coin, quote, exchange).
    """

    __tablename__ = "dim__symbol"

    symbol_id: Mapped[int] = mapped_column(sa.Identity(), primary_key=True)
    exchange_id: Mapped[int] = mapped_column(sa.ForeignKey(Exchange.exchange_id))
    symbol: Mapped[str]
    coin_id: Mapped[int] = mapped_column(sa.ForeignKey(Coin.coin_id))
    quote_id: Mapped[int] = mapped_column(sa.ForeignKey(Quote.quote_id))
    contract: Mapped[str]
    multiplier: Mapped[float] = mapped_column(server_default="1")
    volume_unit: Mapped[str] = mapped_column(server_default="coin")
    contract_size: Mapped[float | None]
    contract_of: Mapped[str | None]
    listed_at: Mapped[datetime | None]
    delisted_at: Mapped[datetime | None]

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[SchemaItem, ...]:
        live = sa.text("delisted_at IS NULL AND NOT is_deleted")
        return (
            *super().__table_args__,
            sa.CheckConstraint(one_of("contract", tuple(Contract)), name="contract"),
            sa.CheckConstraint("multiplier > 0", name="multiplier"),
            sa.CheckConstraint(
                one_of("volume_unit", ("coin", "quote", "contract")), name="volume_unit"
            ),
            sa.CheckConstraint(
                "(volume_unit = 'contract')"
                " = (contract_size IS NOT NULL AND contract_of IS NOT NULL)",
                name="contract_has_size",
            ),
            sa.CheckConstraint(one_of("contract_of", ("coin", "quote")), name="contract_of"),
            sa.CheckConstraint("delisted_at > listed_at", name="listed_before_delisted"),
            sa.UniqueConstraint(
                "exchange_id", "symbol", "listed_at", postgresql_nulls_not_distinct=True
            ),
            sa.Index(
                "ux_dim__symbol_live_series",
                "coin_id",
                "quote_id",
                "exchange_id",
                unique=True,
                postgresql_where=live,
            ),
            sa.Index(
                "ux_dim__symbol_live_symbol",
                "exchange_id",
                "symbol",
                unique=True,
                postgresql_where=live,
            ),
        )


@attrs.frozen(kw_only=True)
class Dimension:
    """One dimension table with its two columns that matter: the id and the name."""

    name: str
    table: sa.Table

    @property
    def id(self) -> sa.Column[Any]:
        """The identity column."""
        return self.table.c[f"{self.name}_id"]

    @property
    def label(self) -> sa.Column[Any]:
        """The unique name column."""
        return self.table.c[self.name]


DIMENSIONS: tuple[Dimension, ...] = tuple(
    Dimension(
        name=model.__tablename__.removeprefix("dim__"),
        table=Base.metadata.tables[f"{HOME_SCHEMA}.{model.__tablename__}"],
    )
    for model in (Coin, Quote, Exchange, Interval)
)
"""The four dimensions that key every fact, in the order of the key."""

SYMBOLS: sa.Table = Base.metadata.tables[f"{HOME_SCHEMA}.{Symbol.__tablename__}"]
"""The instrument register."""
