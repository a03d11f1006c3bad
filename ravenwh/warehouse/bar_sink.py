"""Bars into their facts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Self

import attrs
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.errors import RavenwhError, Rejected
from ravenwh.domain.messages import Candle
from ravenwh.domain.profile import kind_of
from ravenwh.domain.register import Register
from ravenwh.ports import WriteResult
from ravenwh.warehouse.bars import BAR_FACTS
from ravenwh.warehouse.foreign import Foreign
from ravenwh.warehouse.upsert import Upsert
from ravenwh.warehouse.write import FactSink

__all__ = ["BarSink"]


@attrs.frozen(kw_only=True)
class BarSink:
    """Writes bars of every kind, each into its fact."""

    sinks: Mapping[str, FactSink[Candle]]

    @classmethod
    def into_all(cls, engine: AsyncEngine, register: Register) -> Self:
        """A sink for each fact."""
        return cls(
            sinks={
                kind: FactSink(
                    engine=engine,
                    register=register,
                    upsert=Upsert.into(fact.table),
                    to_values=fact.to_values,
                    foreign=Foreign(table=fact.table),
                )
                for kind, fact in BAR_FACTS.items()
            }
        )

    async def write(self, messages: Sequence[Candle]) -> WriteResult:
        """Commit the batch, one transaction a fact; what was written before a failure stays.

        A bar of an unknown kind is rejected (UNKNOWN_KIND), and so is one of another chain than
        those that were built around it (OTHER_CHAIN).
        """
        places: dict[str, list[int]] = defaultdict(list)
        rejected: list[tuple[int, RavenwhError]] = []
        for index, message in enumerate(messages):
            kind = kind_of(message.interval)
            if kind in self.sinks:
                places[kind].append(index)
            else:
                rejected.append((index, _unknown_kind(message)))
        total = WriteResult(rejected=tuple(rejected))
        for kind, indexes in places.items():
            try:
                part = await self.sinks[kind].write([messages[index] for index in indexes])
            except Rejected as error:
                error.place = None if error.place is None else indexes[error.place]
                raise
            there = tuple((indexes[at], error) for at, error in part.rejected)
            total = total.followed_by(attrs.evolve(part, rejected=there), after=0)
        return total


def _unknown_kind(candle: Candle) -> Rejected:
    allowed = ", ".join(f"{kind}_..." for kind in BAR_FACTS)
    return Rejected(
        f"profile {candle.interval!r} is of no kind that there is a table for; allowed are "
        f"{allowed}",
        code="UNKNOWN_KIND",
    )
