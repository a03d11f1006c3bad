"""The star schema as data: every table of the mart, declared once.

Owns the tables, their columns, keys and constraint names, what makes them hypertables, the rollups
and the views, and nothing that runs. Offers ``Base.metadata``, which holds all of it under the home
schema ``mart``: Alembic compares against it, the warehouse derives its statements from it. A
declaration that breaks a rule fails at import. Tested by migrating an empty database on each engine
level and asking ``alembic check`` for differences.
"""

from ravenwh.schema.aggregates import ROLLUPS, VIEWS
from ravenwh.schema.base import HOME_SCHEMA, Base
from ravenwh.schema.dimensions import (
    DIMENSIONS,
    SYMBOLS,
    Coin,
    Dimension,
    Exchange,
    Interval,
    Quote,
    Symbol,
)
from ravenwh.schema.facts import BARS, KLINES, SOURCES, Kline, SeriesFact
from ravenwh.schema.operations import (
    FEED_GAPS,
    REFRESH_DUE,
    TICK_EXPORTS,
    FeedGap,
    RefreshDue,
    TickExport,
)

__all__ = [
    "BARS",
    "DIMENSIONS",
    "FEED_GAPS",
    "HOME_SCHEMA",
    "KLINES",
    "REFRESH_DUE",
    "ROLLUPS",
    "SOURCES",
    "SYMBOLS",
    "TICK_EXPORTS",
    "VIEWS",
    "Base",
    "Coin",
    "Dimension",
    "Exchange",
    "FeedGap",
    "Interval",
    "Kline",
    "Quote",
    "RefreshDue",
    "SeriesFact",
    "Symbol",
    "TickExport",
]
