"""The star schema as data: every table of the mart, declared once.

Owns the tables, their columns, keys and constraint names, and nothing that runs. Offers
``metadata`` (home schema ``mart``) and :func:`metadata_for` for another schema name. Alembic
compares against it, the warehouse derives its statements from it. Tested by migrating an empty
database and asking ``alembic check`` for differences.
"""

from ravenwh.schema.base import HOME_SCHEMA, Base, metadata_for
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
from ravenwh.schema.facts import KLINES, SOURCES, Kline, SeriesFact

__all__ = [
    "DIMENSIONS",
    "HOME_SCHEMA",
    "KLINES",
    "SOURCES",
    "SYMBOLS",
    "Base",
    "Coin",
    "Dimension",
    "Exchange",
    "Interval",
    "Kline",
    "Quote",
    "SeriesFact",
    "Symbol",
    "metadata_for",
]
