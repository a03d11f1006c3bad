"""The settings: frozen values with their bounds, each declared once.

Owns the sections and keys, their defaults, units and bounds, and what they must be to each other.
Offers :class:`Settings` and the classes of its sections: each room gets its own section and no
other. Loading, the messages, ``ravenwh settings --example`` and ``docs/reference/settings.md`` are
derived from the declarations (``option.py``, ``kinds.py``). Nothing here reads a file or the
environment; that is :mod:`ravenwh.config`. Fails with SettingsError, a line for each value that is
not allowed. Tested by tables and property tests.
"""

from __future__ import annotations

from ravenwh.domain.settings.bars import Bars
from ravenwh.domain.settings.database_url import DatabaseUrl
from ravenwh.domain.settings.feed import Feed
from ravenwh.domain.settings.influx import Influx
from ravenwh.domain.settings.ingest import BinanceKlines, Ingest, Journal, Log
from ravenwh.domain.settings.policies import PolicyTimes
from ravenwh.domain.settings.root import Settings
from ravenwh.domain.settings.routing import Routing, SymbolEntry, Upstream
from ravenwh.domain.settings.secret import Secret
from ravenwh.domain.settings.server import Port, Server
from ravenwh.domain.settings.ticks import Ticks
from ravenwh.domain.settings.timescale import Embedded, Timescale

__all__ = [
    "Bars",
    "BinanceKlines",
    "DatabaseUrl",
    "Embedded",
    "Feed",
    "Influx",
    "Ingest",
    "Journal",
    "Log",
    "PolicyTimes",
    "Port",
    "Routing",
    "Secret",
    "Server",
    "Settings",
    "SymbolEntry",
    "Ticks",
    "Timescale",
    "Upstream",
]
