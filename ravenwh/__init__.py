"""A crypto market-data warehouse: klines and bars in PostgreSQL, ticks in InfluxDB, named reads.

>>> import ravenwh
>>> with ravenwh.connect() as wh:
...     frame = wh.klines("BTC", "USDT", "BINANCE_FUTURES", "1m", "2024-01-01").pandas()

What reads and connects is loaded when it is first used, so that importing costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ravenwh.domain.errors import (
    RavenwhError,
    Refused,
    SettingsError,
    Unavailable,
    UnknownName,
)
from ravenwh.domain.series import Series

if TYPE_CHECKING:
    from ravenwh.app.reading import connect
    from ravenwh.domain.frames import Frames
    from ravenwh.plot.chart import chart
    from ravenwh.warehouse.read import Warehouse

    __version__: str

__all__ = [
    "Frames",
    "RavenwhError",
    "Refused",
    "Series",
    "SettingsError",
    "Unavailable",
    "UnknownName",
    "Warehouse",
    "__version__",
    "chart",
    "connect",
]

_HOMES = {
    "Frames": "ravenwh.domain.frames",
    "Warehouse": "ravenwh.warehouse.read",
    "chart": "ravenwh.plot.chart",
    "connect": "ravenwh.app.reading",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("ravenwh")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    msg = f"module 'ravenwh' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
