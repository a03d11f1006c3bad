"""Bars of another chain, that would stand amid one that was built.

A build takes the place of all bars of its range. Bars of the chain that was there before may come
after it: a maker publishes its last ones again when it starts, a journal is replayed. Their times
are other ones, so that no key keeps them out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from ravenwh.domain.errors import Rejected

__all__ = ["Foreign", "other_chain"]

BUILT = "built"

Ids = tuple[int, ...]  # coin, quote, exchange, interval
Times = tuple[datetime, int, datetime]  # open_time, bar_seq, close_time


@attrs.frozen(kw_only=True)
class Foreign:
    """Finds the bars that are of another chain than those around them in a fact.

    Such a bar is not there yet. It comes behind one that was built and before another one, and both
    were built, or it reaches into one of them: the bars of a chain follow each other, and between
    two of them there is no trade.
    """

    table: sa.Table

    async def places(
        self, connection: AsyncConnection, bars: Sequence[tuple[Ids, Times]]
    ) -> list[int]:
        """Which of the bars are foreign: their places, from 0, in order.

        Bars behind all of their series, as a maker at work publishes them, cost one look at what is
        there since the first of them; others one at those of their day.
        """
        latest = await self._latest(connection, bars)
        amid: dict[Ids, list[tuple[Times, int]]] = defaultdict(list)
        for place, (ids, times) in enumerate(bars):
            if ids in latest and times[0] <= latest[ids]:
                amid[ids].append((times, place))
        foreign: list[int] = []
        for ids, found in amid.items():
            for _, day in groupby(sorted(found), key=lambda one: one[0][0].date()):
                foreign += await self._foreign_of_day(connection, ids, list(day))
        return sorted(foreign)

    async def _latest(
        self, connection: AsyncConnection, bars: Sequence[tuple[Ids, Times]]
    ) -> dict[Ids, datetime]:
        """When the last bar of a series opens, of those that have one since the first of these."""
        coin, quote, exchange, interval, opened, *_ = self.table.c
        coins = sa.bindparam("coins", type_=ARRAY(coin.type))
        query = (
            sa.select(coin, quote, exchange, interval, sa.func.max(opened))
            .where(coin == sa.any_(coins), opened >= min(times[0] for _, times in bars))
            .group_by(coin, quote, exchange, interval)
        )
        given = {"coins": sorted({ids[0] for ids, _ in bars})}
        return {tuple(ids): at for *ids, at in await connection.execute(query, given)}

    async def _foreign_of_day(
        self, connection: AsyncConnection, ids: Ids, bars: Sequence[tuple[Times, int]]
    ) -> list[int]:
        """The same of bars of one series and day, in order, each with its place."""
        first, last = bars[0][0][0], bars[-1][0][0]
        there = [
            row
            for query in (
                self._beside(ids, first, is_before=True),
                self._rows(ids, self.table.c.open_time.between(first, last)),
                self._beside(ids, last, is_before=False),
            )
            for row in await connection.execute(query)
        ]
        there.sort(key=lambda row: (row.open_time, row.bar_seq))
        keys = [(row.open_time, row.bar_seq) for row in there]
        foreign = []
        for (opened, seq, closed), place in bars:
            at = bisect_left(keys, (opened, seq))
            if not 0 < at < len(there) or keys[at] == (opened, seq):
                continue
            before, after = there[at - 1], there[at]
            reaches = opened <= before.close_time or closed >= after.open_time
            if before.source == BUILT and (after.source == BUILT or reaches):
                foreign.append(place)
        return foreign

    def _beside(self, ids: Ids, at: datetime, *, is_before: bool) -> sa.Select[Any]:
        """The row next to a time."""
        opened, seq = self.table.c.open_time, self.table.c.bar_seq
        if is_before:
            return self._rows(ids, opened < at).order_by(opened.desc(), seq.desc()).limit(1)
        return self._rows(ids, opened > at).order_by(opened, seq).limit(1)

    def _rows(self, ids: Ids, *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
        c = self.table.c
        series = [column == number for column, number in zip(c, ids, strict=False)]
        columns = (c.open_time, c.bar_seq, c.close_time, c.source)
        return sa.select(*columns).where(*series, *conditions)


def other_chain(profile: str) -> Rejected:
    """Why such a bar is refused."""
    return Rejected(
        f"profile {profile}: the bar is of another chain than those around it, which were made by "
        "ravenwh bars build: its trades are in them",
        code="OTHER_CHAIN",
    )
