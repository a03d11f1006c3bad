"""Which days of ticks are exported: the notes that outlive the bucket."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ravenwh.domain.tick_day import TickDay
from ravenwh.schema import TICK_EXPORTS

__all__ = ["exported_days", "keeps_exports", "note_exported"]


async def exported_days(connection: AsyncConnection) -> dict[TickDay, int]:
    """The days that are exported, with how many points."""
    row = TICK_EXPORTS.c
    found = await connection.execute(sa.select(row.measurement, row.day, row.points))
    return {TickDay(measurement=measurement, day=day): points for measurement, day, points in found}


async def keeps_exports(connection: AsyncConnection, schema: str) -> bool:
    """Whether the mart is so far that it has the table for it."""
    name = f'"{schema}"."{TICK_EXPORTS.name}"'
    return bool(await connection.scalar(sa.select(sa.func.to_regclass(name).is_not(None))))


async def note_exported(
    connection: AsyncConnection, days: Mapping[TickDay, int], now: datetime
) -> None:
    """Note that days are exported, or again, with how many points; files must be there for good."""
    if days:
        rows = [attrs.asdict(day) | {"points": n, "exported_at": now} for day, n in days.items()]
        await connection.execute(NOTE, rows)


_NEW = insert(TICK_EXPORTS)
NOTE = _NEW.on_conflict_do_update(
    index_elements=list(TICK_EXPORTS.primary_key),
    set_={"points": _NEW.excluded.points, "exported_at": _NEW.excluded.exported_at},
)
