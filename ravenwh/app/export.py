"""``ravenwh export``: days of ticks out of InfluxDB into files, before the bucket drops them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs
from loguru import logger

from ravenwh.app.database import engine_of
from ravenwh.app.influx import ticks_of
from ravenwh.app.preflight import require_head
from ravenwh.domain.errors import Refused, Unavailable
from ravenwh.domain.series import EARLIEST_NS, from_ns
from ravenwh.domain.settings import Settings
from ravenwh.domain.tick_day import DAY, TickDay
from ravenwh.staging.days import GRACE, closed_days, day_of
from ravenwh.staging.export import written_day
from ravenwh.staging.measurements import MEASUREMENTS
from ravenwh.staging.reading import Ticks
from ravenwh.warehouse.alone import alone
from ravenwh.warehouse.errors import translated
from ravenwh.warehouse.tick_exports import exported_days, note_exported

__all__ = ["Exported", "export_ticks", "in_a_thread"]

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Exported:
    """A day that was exported: how many points it has, and their file; none for no points."""

    day: TickDay
    points: int
    path: Path | None


async def export_ticks(
    settings: Settings,
    folder: Path | None,
    *,
    now: datetime,
    days: Collection[datetime] = (),
    on_export: Callable[[Exported], object],
) -> None:
    """Export the days that are over and not exported, or (again) all of ``days``; oldest first.

    ``folder`` is where to, if not ``influx.export_dir``. A day that has more points by now than
    were exported is exported again. ``on_export`` is told of each day once it is noted in the mart.
    May be ended at any time and run again. Raises Refused, Unavailable, SettingsError and
    SchemaMismatch.
    """
    into = folder or settings.influx.export_dir
    if into is None:
        raise Refused("nothing says where to export to: give --to, or set influx.export_dir")
    for day in days:
        if day >= day_of(now - GRACE):
            raise Refused(
                f"{day:%Y-%m-%d} is not over: it can be exported from "
                f"{day + DAY + GRACE:%Y-%m-%d %H:%M} UTC on"
            )
    with ticks_of(settings) as ticks, translated():
        async with engine_of(settings, pooled=False) as engine:
            await require_head(settings, engine)
            async with engine.connect() as plain:
                connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
                async with alone(connection, "export", settings.timescale.schema) as is_alone:
                    if not is_alone:
                        raise Refused("another export is at work on this mart: let it end")
                    known = await exported_days(connection)
                    work = partial(_due, ticks, settings, known, now, days)
                    due = await asyncio.to_thread(work)
                    empty = [one for one in due if not due[one] and not known.get(one)]
                    await note_exported(connection, dict.fromkeys(empty, 0), now)
                    for one in empty:
                        on_export(Exported(day=one, points=0, path=None))
                    for one in sorted(due.keys() - empty):
                        export = partial(_export, ticks, one, into, due[one], known.get(one, 0))
                        done = await in_a_thread(export)
                        await note_exported(connection, {one: done.points}, now)
                        on_export(done)


def _due(
    ticks: Ticks,
    settings: Settings,
    known: dict[TickDay, int],
    now: datetime,
    days: Collection[datetime],
) -> dict[TickDay, int]:
    """The days that are to be exported, and how many points each has, at least."""
    kept = settings.influx.retention_days
    begin = day_of(now - timedelta(days=kept)) if kept else from_ns(EARLIEST_NS)
    due: dict[TickDay, int] = {}
    yesterday = day_of(now - GRACE) - DAY
    for measurement in MEASUREMENTS:
        there = ticks.points_by_day(measurement, min(days, default=begin), now)
        noted = {one.day for one in known if one.measurement == measurement}
        if not days and noted and max(noted) + DAY < begin:
            _tell_of_gone(measurement, max(noted) + DAY, begin - DAY)
        # from its first point on, so that what is not noted later is missing
        first = max(begin, min({yesterday, *there, *noted}))
        for day in days or closed_days(now, first):
            one, points = TickDay(measurement=measurement, day=day), there.get(day, 0)
            if days or one not in known or points > known[one]:
                due[one] = points
    return due


def _tell_of_gone(measurement: str, first: datetime, last: datetime) -> None:
    """Tell of the days that the bucket has dropped since the last export."""
    span = {"first": f"{first:%Y-%m-%d}", "last": f"{last:%Y-%m-%d}"}
    logger.bind(measurement=measurement, **span).warning("TICK_DAYS_NOT_EXPORTED")


def _export(
    ticks: Ticks, day: TickDay, folder: Path, least: int, before: int, stop: threading.Event
) -> Exported:
    """Write the day, and keep it if it is whole: ``least`` and ``before`` are in it at least."""
    with written_day(ticks, day, folder, stop=stop.is_set) as file:
        if file.points < before:
            raise Refused(
                f"{day}: the bucket holds {file.points} points of it, and {before} were exported: "
                "what was exported is left as it is"
            )
        if file.points < least:
            raise Unavailable(f"{day}: {file.points} of {least} points were read: run this again")
        file.keep()
    return Exported(day=day, points=file.points, path=file.path)


async def in_a_thread(work: Callable[[threading.Event], T]) -> T:
    """What the work gives; where this is cancelled, it is told to stop, and waited for."""
    stop = threading.Event()
    working = asyncio.create_task(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(working)
    finally:
        if not working.done():
            stop.set()
            await asyncio.gather(working, return_exceptions=True)
