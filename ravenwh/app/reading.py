"""The way in for people: one call from nothing to a warehouse that can be read."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ravenwh.app.database import database_of
from ravenwh.config import load
from ravenwh.warehouse.read import Warehouse

__all__ = ["connect"]


def connect(config: str | Path | None = None) -> Warehouse:
    """The warehouse of a settings file, of ``RAVENWH_CONFIG``, or of ``./ravenwh.toml``.

    Without any of them it is the embedded server in your data folder, which runs as long as
    somebody uses it. Close what you get, or use it with ``with``. Raises SettingsError, Refused or
    Unavailable.
    """
    settings = load(None if config is None else Path(config))
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(database_of(settings))
        return Warehouse(
            database.libpq_url, schema=settings.timescale.schema, on_close=stack.pop_all().close
        )
