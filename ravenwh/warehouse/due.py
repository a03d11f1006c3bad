"""Which days of a fact wait for a refresh of its rollups, because rows changed behind its policies.

A refresh policy looks back so far; what changes before that stays as it was in the rollups until a
refresh covers it. So the writer notes the day, in the transaction of the rows; a refresh reads the
notes, does its work, and takes away what it saw. A note that was changed meanwhile stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ravenwh.schema import REFRESH_DUE
from ravenwh.warehouse.upsert import Upsert, counted

__all__ = ["DueDay", "Notes", "due_days", "settle"]


@attrs.frozen(kw_only=True)
class Notes:
    """The upsert of a fact for batches with rows that are older than ``reach``.

    It notes the days of those that were inserted or got other values. It takes the parameters of
    the upsert and gives its result.
    """

    reach: timedelta
    statement: sa.Select[int, int]

    @classmethod
    def of(cls, upsert: Upsert, reach: timedelta) -> Notes:
        """For an upsert, and how far back all policies look that make rollups of its fact."""
        written = upsert.written("open_time")
        now = sa.bindparam("now", type_=REFRESH_DUE.c.recorded_at.type)
        day = sa.func.date_trunc("day", written.c.open_time, "UTC").label("day")
        days = (
            sa.select(day)
            .where(written.c.inserted | written.c.revised, written.c.open_time < now - reach)
            .distinct()
            .subquery("days")
        )
        # in the order of days, so that two writers wait for each other in one order
        noted = insert(REFRESH_DUE).from_select(
            ["fact", "day", "changes", "recorded_at"],
            sa.select(sa.literal(upsert.table.name), days.c.day, sa.literal(1), now).order_by(
                days.c.day
            ),
        )
        noted = noted.on_conflict_do_update(
            index_elements=list(REFRESH_DUE.primary_key),
            set_={
                "changes": REFRESH_DUE.c.changes + 1,
                "recorded_at": noted.excluded.recorded_at,
            },
        )
        statement = counted(written).add_cte(noted.cte("noted"))
        return cls(reach=reach, statement=statement)

    def concern(self, open_times: Sequence[datetime], now: datetime) -> bool:
        """Whether a batch, not empty, has rows that may have to be noted."""
        return min(open_times) < now - self.reach


@attrs.frozen(kw_only=True)
class DueDay:
    """A note as it was seen: the day, and what tells whether it was changed since."""

    fact: str
    day: datetime
    changes: int
    recorded_at: datetime


async def due_days(connection: AsyncConnection) -> list[DueDay]:
    """All notes, by fact and day."""
    key = REFRESH_DUE.primary_key
    found = await connection.execute(sa.select(REFRESH_DUE).order_by(*key))
    return [DueDay(**row) for row in found.mappings()]


SETTLE = sa.delete(REFRESH_DUE).where(
    *(
        REFRESH_DUE.c[field.name] == sa.bindparam(f"seen_{field.name}")
        for field in attrs.fields(DueDay)
    )
)


async def settle(connection: AsyncConnection, seen: Sequence[DueDay]) -> int:
    """Take these notes away, but for those that were changed since; how many are gone.

    ``connection`` is in AUTOCOMMIT: each goes by itself, and none is held for another.
    """
    gone = 0
    for day in seen:
        values: dict[str, Any] = {f"seen_{k}": v for k, v in attrs.asdict(day).items()}
        gone += (await connection.execute(SETTLE, values)).rowcount
    return gone
