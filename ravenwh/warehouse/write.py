"""Messages into a fact: resolve, fold, one set-based upsert, commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import attrs
import sqlalchemy as sa
from loguru import logger
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ravenwh.domain.errors import RavenwhError, Rejected, SeriesTaken, Unavailable
from ravenwh.domain.instrument import Instrument
from ravenwh.domain.interval import INTERVALS
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.ports import WriteResult
from ravenwh.schema import DIMENSIONS
from ravenwh.warehouse.compressed import by_series_and_day, is_over_limit, lift_limit
from ravenwh.warehouse.dimensions import name_instruments, register, resolve
from ravenwh.warehouse.due import Notes
from ravenwh.warehouse.errors import translated
from ravenwh.warehouse.upsert import BELOW_ALL, Upsert

__all__ = ["FactSink"]

MessageT = TypeVar("MessageT", bound=Candle)
Key = tuple[int, str]  # identity of the register's instrument, interval
Ids = tuple[int, ...]  # coin, quote, exchange, interval

REMEMBERED = 65_536
"""Series whose ids are kept; beyond, the memory starts again, as the register's does."""


@attrs.frozen(kw_only=True)
class _Series:
    """Where the rows of an instrument and interval go, or why they may not go there.

    It holds the instrument, so that the identity in its key stays that instrument's.
    """

    instrument: Instrument
    ids: Ids = ()
    taken: SeriesTaken | None = None


ALIVE = sa.select(
    *(
        sa.select(sa.func.count())
        .where(
            d.id == sa.any_(sa.bindparam(d.name, type_=ARRAY(sa.Integer()))),
            ~d.table.c.is_deleted,
        )
        .scalar_subquery()
        .label(d.name)
        for d in DIMENSIONS
    )
)
"""How many of the ids of a batch are there and not soft-deleted, a dimension."""


@attrs.define(kw_only=True)
class FactSink(Generic[MessageT]):
    """Writes messages of one kind into one fact.

    ``to_values`` gives the row of a message without its ids: open_time, the values in the table's
    order, event_time; it raises Rejected. ``source`` is what the rows' provenance says. ``notes``
    keep the days whose rollups wait for a refresh, where there are refresh policies.
    """

    engine: AsyncEngine
    register: Register
    upsert: Upsert
    to_values: Callable[[MessageT, Instrument], tuple[Any, ...]]
    source: str = "stream"
    notes: Notes | None = None
    _series: dict[Key, _Series] = attrs.field(factory=dict, init=False)

    async def write(self, messages: Sequence[MessageT]) -> WriteResult:
        """Commit the batch; a message that can never be a row is rejected, the others written.

        It is one transaction, or, where that decompresses too much, one for each series and day of
        the batch. If then a later one fails, the earlier ones stay: written again they are
        unchanged, and are counted as that.
        """
        written = 0
        with translated():
            async with self.engine.connect() as connection:
                instruments = self._instruments(messages)
                for _ in range(3):
                    await self._look_up(connection, messages, instruments)
                    batch = self._fold(messages, instruments)
                    batch.written = written
                    if await self._commit_in_parts(connection, batch):
                        return batch.result()
                    written = batch.written
                    self._series.clear()  # a dimension row was deleted: look all of them up again
        raise Unavailable("dimension rows are being deleted while they are written to")

    def _instruments(self, messages: Sequence[MessageT]) -> list[Instrument | Rejected]:
        """What the symbol of each message stands for, or why it stands for nothing."""
        instrument_of = self.register.series_instrument
        found: list[Instrument | Rejected] = []
        for message in messages:
            try:
                found.append(instrument_of(message.venue, message.symbol, message.open_time))
            except Rejected as error:
                found.append(error)
        return found

    async def _look_up(
        self,
        connection: AsyncConnection,
        messages: Sequence[MessageT],
        instruments: Sequence[Instrument | Rejected],
    ) -> None:
        """Ids of the series that are new here, in a transaction of their own."""
        series = self._series
        if len(series) > REMEMBERED:
            series.clear()
        new: dict[Key, Instrument] = {}
        for message, instrument in zip(messages, instruments, strict=True):
            key = (id(instrument), message.interval)
            if key in series or message.interval not in INTERVALS:
                continue
            if isinstance(instrument, Instrument):
                new[key] = instrument
        if not new:
            return
        intervals = {interval for _, interval in new}
        names = name_instruments(new.values()) | {"interval": intervals}
        async with connection.begin():
            ids = await resolve(connection, names, {i: INTERVALS[i].duration for i in intervals})
            holders = await register(connection, set(new.values()), ids)
        for key, instrument in new.items():
            series[key] = _Series(
                instrument=instrument,
                ids=(
                    ids["coin"][instrument.coin],
                    ids["quote"][instrument.quote],
                    ids["exchange"][instrument.exchange],
                    ids["interval"][key[1]],
                ),
                taken=_taken(instrument, holders.get(instrument)),
            )

    def _fold(
        self, messages: Sequence[MessageT], instruments: Sequence[Instrument | Rejected]
    ) -> _Batch:
        """One row a key, the version that wins; and what became of the other messages."""
        batch = _Batch()
        to_values, series = self.to_values, self._series
        rows, folded = batch.rows, 0
        for index, (message, instrument) in enumerate(zip(messages, instruments, strict=True)):
            try:
                if isinstance(instrument, Rejected):
                    raise instrument
                values = to_values(message, instrument)
                place = series[id(instrument), message.interval]
                if place.taken is not None:
                    raise place.taken
            except Rejected as error:
                batch.rejected.append((index, error))
                continue
            key = (place.ids, values[0])
            other = rows.get(key)
            if other is not None:
                folded += 1
                if _version(other) >= _version(values):
                    continue
            rows[key] = values
        batch.folded = folded
        return batch

    async def _commit_in_parts(self, connection: AsyncConnection, batch: _Batch) -> bool:
        """All rows at once, or by series and day where that decompresses too much."""
        try:
            return await self._commit(connection, batch)
        except DBAPIError as error:
            if not is_over_limit(error):
                raise
        parts = [_Batch(rows=rows) for rows in by_series_and_day(batch.rows)]
        logger.bind(rows=len(batch.rows), parts=len(parts)).info("BATCH_SPLIT")
        for part in parts:
            if not await self._commit(connection, part, unlimited=True):
                return False
            batch.written += part.written
        return True

    async def _commit(
        self, connection: AsyncConnection, batch: _Batch, *, unlimited: bool = False
    ) -> bool:
        """Write the rows and note how many changed; false where a dimension row is not alive."""
        if not batch.rows:
            return True
        columns = batch.columns(self.upsert.columns)
        distinct = {d.name: list(set(columns[d.id.name])) for d in DIMENSIONS}
        async with connection.begin():
            if unlimited:
                await lift_limit(connection)
            alive = (await connection.execute(ALIVE, distinct)).one()
            if any(getattr(alive, name) != len(ids) for name, ids in distinct.items()):
                return False
            now = datetime.now(UTC)
            noting = self.notes is not None and self.notes.concern(columns["open_time"], now)
            written = await connection.execute(
                self.notes.statement if self.notes and noting else self.upsert.statement,
                {**columns, "source": self.source, "now": now},
            )
            batch.written += sum(written.one())
        return True


@attrs.define
class _Batch:
    """Rows on their way: by key, which is the ids and open_time, without the ids."""

    rows: dict[tuple[Ids, datetime], tuple[Any, ...]] = attrs.field(factory=dict)
    rejected: list[tuple[int, RavenwhError]] = attrs.field(factory=list)
    folded: int = 0
    written: int = 0

    def columns(self, names: tuple[str, ...]) -> dict[str, Sequence[Any]]:
        """The rows turned into columns."""
        ids = zip(*(ids for ids, _ in self.rows), strict=True)
        values = zip(*self.rows.values(), strict=True)
        return dict(zip(names, (*ids, *values), strict=True))

    def result(self) -> WriteResult:
        """What became of the messages."""
        return WriteResult(
            written=self.written,
            unchanged=len(self.rows) - self.written,
            folded=self.folded,
            rejected=tuple(self.rejected),
        )


def _version(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """What decides which of two rows of a key and a source wins; as in the statement."""
    event_time = values[-1]
    return (event_time, *(BELOW_ALL if v is None else v for v in values[-2:0:-1]))


def _taken(instrument: Instrument, holder: str | None) -> SeriesTaken | None:
    if holder is None:
        return None
    return SeriesTaken(
        f"{instrument.coin}/{instrument.quote} on {instrument.exchange} is held by {holder}, so "
        f"{instrument.symbol} has no place there: give one of them a coin name of its own in "
        "routing.symbol_map, or a delisted_at"
    )
