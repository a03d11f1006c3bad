"""Days of ticks that are about to be dropped and are not exported: who is told, and how."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import attrs
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from ravenwh.app.database import engine_of
from ravenwh.domain.errors import RavenwhError
from ravenwh.domain.finding import Finding
from ravenwh.domain.settings import Settings
from ravenwh.domain.tick_day import TickDay
from ravenwh.staging.days import NEAR, expiring_days
from ravenwh.staging.measurements import MEASUREMENTS
from ravenwh.warehouse.errors import translated
from ravenwh.warehouse.preflight import Check
from ravenwh.warehouse.tick_exports import exported_days, keeps_exports

__all__ = ["ExportWatch", "export_check"]

EXPORT = "ravenwh export --ticks"
SHOWN = 5
LOOK_EVERY_S = 3600.0


def export_check(settings: Settings) -> Check:
    """A finding of the doctor: whether days are dropped soon that are not exported."""

    async def check(connection: AsyncConnection) -> Finding:
        missing = await missing_exports(connection, settings, datetime.now(UTC))
        if missing is None:
            found = "no day was ever exported, and influx.export_dir is not set: none is missed"
        elif not missing:
            found = "each day that is dropped soon is exported"
        else:
            return Finding(
                check="exports",
                ok=False,
                found=f"not exported, and dropped within {NEAR.days} days: {_shown(missing)}",
                remedy=EXPORT if settings.influx.export_dir else f"{EXPORT} --to FOLDER",
                required=False,
            )
        return Finding(check="exports", ok=True, found=found)

    return check


@attrs.define(kw_only=True)
class ExportWatch:
    """Looks in the mart, each hour, for days that are dropped soon and are not exported.

    Where ``influx.export_dir`` is set, that is: others have asked for nothing. ``expiring`` is how
    many they are, None where that is not known.
    """

    settings: Settings
    expiring: int | None = attrs.field(default=None, init=False)

    @property
    def tallies(self) -> dict[str, int]:
        """The same, as the metrics name it."""
        return {} if self.expiring is None else {"tick_days_expiring": self.expiring}

    async def keep_looking(self) -> None:
        """Until cancelled."""
        while self.settings.influx.export_dir is not None:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Once; a mart that cannot be asked is no error here, as ticks do not need it."""
        self.expiring = None
        try:
            with translated():
                async with (
                    engine_of(self.settings, pooled=False) as engine,
                    engine.connect() as connection,
                ):
                    missing = await missing_exports(connection, self.settings, datetime.now(UTC))
        except RavenwhError as error:
            logger.bind(reason=str(error)).warning("TICK_EXPORTS_UNKNOWN")
            return
        if missing:
            logger.bind(days=len(missing), missing=_shown(missing)).warning("TICK_DAYS_EXPIRE")
        self.expiring = None if missing is None else len(missing)


def _shown(missing: list[TickDay]) -> str:
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return ", ".join(map(str, missing[:SHOWN])) + more


async def missing_exports(
    connection: AsyncConnection, settings: Settings, now: datetime
) -> list[TickDay] | None:
    """The days that are dropped soon and not exported, oldest first; None where none is wanted.

    Who has not begun to export, and names no folder for it, wants none. Before the first day that
    is noted of a measurement it had no points.
    """
    if not await keeps_exports(connection, settings.timescale.schema):
        return None  # as the finding of the migrations says
    known = await exported_days(connection)
    if not known and settings.influx.export_dir is None:
        return None
    days = expiring_days(now, settings.influx.retention_days)
    first = {name: [one.day for one in known if one.measurement == name] for name in MEASUREMENTS}
    wanted = [
        TickDay(day=day, measurement=name)
        for name in MEASUREMENTS
        for day in days
        if day >= min(first[name], default=day)
    ]
    return sorted(one for one in wanted if one not in known)
