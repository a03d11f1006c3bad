"""The way in for people: one call from nothing to a warehouse that can be read."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from ravenwh.app.database import database_of
from ravenwh.config import load
from ravenwh.warehouse.read import Warehouse

if TYPE_CHECKING:
    from ravenwh.domain.frames import Frames
    from ravenwh.staging.reading import Ticks

__all__ = ["connect"]

logger.disable("ravenwh")  # in a script or a notebook; not in ravenwh itself: loguru loads slowly


def connect(config: str | Path | None = None) -> Warehouse:
    """The warehouse of a settings file, of ``RAVENWH_CONFIG``, or of ``./ravenwh.toml``.

    Without any of them it is the embedded server in your data folder, which runs as long as
    somebody uses it. Ticks are read from the InfluxDB of the same settings. Close what you get, or
    use it with ``with``. Raises SettingsError, Refused or Unavailable. Nothing is logged, unless
    you say ``loguru.logger.enable("ravenwh")`` after you imported this function.
    """
    settings = load(None if config is None else Path(config))
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(database_of(settings))
        until_closed = stack.enter_context(contextlib.ExitStack())

        def uri() -> str:
            if database.embedded is not None:
                return database.embedded.libpq_url
            return settings.timescale.address(driver="postgresql")

        @functools.cache
        def known() -> Ticks:
            from ravenwh.app.influx import ticks_of  # who reads no ticks needs no InfluxDB

            return until_closed.enter_context(ticks_of(settings))

        def ticks(*asked: Any, **terms: Any) -> Frames:
            return known().read(*asked, **terms)

        return Warehouse(
            uri, schema=settings.timescale.schema, ticks=ticks, on_close=stack.pop_all().close
        )
