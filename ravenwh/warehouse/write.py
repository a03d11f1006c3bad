"""Messages into a fact: resolve, fold, one set-based upsert, commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from ravenwh.domain.interval import Interval
from ravenwh.domain.messages import Candle
from ravenwh.domain.profile import BarProfile, Parameters, interval_of
from ravenwh.domain.register import Register
from ravenwh.ports import WriteResult
from ravenwh.schema import DIMENSIONS
from ravenwh.warehouse.compressed import by_series_and_day, is_over_limit, lift_limit
from ravenwh.warehouse.dimensions import name_instruments, register, resolve
from ravenwh.warehouse.due import Notes
from ravenwh.warehouse.errors import row_of, translate, translated
from ravenwh.warehouse.fact_batch import FactBatch, key_of, version_of
from ravenwh.warehouse.foreign import Foreign, other_chain
from ravenwh.warehouse.locks import WRITE, lock
from ravenwh.warehouse.profiles import other_parameters, resolve_profiles
from ravenwh.warehouse.upsert import Upsert

__all__ = ["FactSink"]

MessageT = TypeVar("MessageT", bound=Candle)
Key = tuple[int, str, str | None]
"""Identity of the register's instrument, interval, and the hash of its parameters if it has any."""

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
    refused: Rejected | None = None
    parameters: Parameters | None = None
    """Those of a profile, as the mart has them."""


Valued = tuple[int, Key, Candle, Instrument, tuple[Any, ...]]
"""A message that can be a row: its place in the batch, the series' key, what its symbol stands for,
and the row's values."""

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

    ``to_values`` gives the row of a message without its ids: open_time and what else is of the key,
    the values in the table's order, event_time; it raises Rejected. ``source`` is what the rows'
    provenance says. ``notes`` keep the days whose rollups wait for a refresh, where there are
    refresh policies. ``foreign`` finds rows that belong to none of the chains that are there, which
    are rejected (OTHER_CHAIN).
    """

    engine: AsyncEngine
    register: Register
    upsert: Upsert
    to_values: Callable[[MessageT, Instrument], tuple[Any, ...]]
    source: str = "stream"
    notes: Notes | None = None
    foreign: Foreign | None = None
    _series: dict[Key, _Series] = attrs.field(factory=dict, init=False)

    async def write(self, messages: Sequence[MessageT]) -> WriteResult:
        """Commit the batch; a message that can never be a row is rejected, the others written.

        It is one transaction, or, where that decompresses too much, one for each series and day of
        the batch. If then a later one fails, the earlier ones stay: written again they are
        unchanged, and are counted as that. Raises Rejected where the database refuses a row, with
        its place if it says which one.
        """
        rejected: list[tuple[int, RavenwhError]] = []
        valued = self._valued(messages, rejected)
        written = 0
        with translated():
            async with self.engine.connect() as connection:
                for _ in range(3):
                    refused = await self._look_up(connection, valued)
                    batch = self._fold(valued, refused)
                    batch.written = written
                    try:
                        committed = await self._commit_in_parts(connection, batch)
                    except DBAPIError as error:
                        raise self._refused(error, batch, valued) from error
                    if committed:
                        return batch.result(rejected)
                    written = batch.written
                    self._series.clear()  # a dimension row was deleted: look all of them up again
        raise Unavailable("dimension rows are being deleted while they are written to")

    def _valued(
        self, messages: Sequence[MessageT], rejected: list[tuple[int, RavenwhError]]
    ) -> list[Valued]:
        """What the symbols stand for, and the rows; why some messages have none."""
        instrument_of, to_values = self.register.series_instrument, self.to_values
        found: list[Valued] = []
        for index, message in enumerate(messages):
            try:
                instrument = instrument_of(message.venue, message.symbol, message.open_time)
                values = to_values(message, instrument)
            except Rejected as error:
                rejected.append((index, error))
                continue
            key = (id(instrument), message.interval, message.parameters_hash)
            found.append((index, key, message, instrument, values))
        return found

    async def _look_up(
        self, connection: AsyncConnection, valued: Iterable[Valued]
    ) -> dict[Key, Rejected]:
        """Ids of the series that are new here, in a transaction of their own.

        What is refused only until a message tells more is given back, and not remembered.
        """
        series = self._series
        if len(series) > REMEMBERED:
            series.clear()
        new: dict[Key, tuple[Instrument, Interval | BarProfile]] = {}
        silent: set[Key] = set()  # named by messages that do not tell the parameters
        for _, key, message, instrument, _ in valued:
            if key not in series and (key not in new or key in silent):
                new[key] = (instrument, interval_of(message))
                (silent.add if message.parameters is None else silent.discard)(key)
        if not new:
            return {}
        instruments = {instrument for instrument, _ in new.values()}
        intervals = [interval for _, interval in new.values()]
        codes = {i.code: i.duration for i in intervals if isinstance(i, Interval)}
        names = name_instruments(instruments) | {"interval": set(codes)}
        async with connection.begin():
            ids = await resolve(connection, names, codes)
            profiles = await resolve_profiles(
                connection, [i for i in intervals if isinstance(i, BarProfile)]
            )
            holders = await register(connection, instruments, ids)
        refused: dict[Key, Rejected] = {}
        for key, (instrument, interval) in new.items():
            place = [ids[d][getattr(instrument, d)] for d in ("coin", "quote", "exchange")]
            parameters = None
            if isinstance(interval, Interval):
                place.append(ids["interval"][interval.code])
            else:
                found = profiles[interval]
                if isinstance(found, Rejected):
                    refused[key] = found
                    continue
                place.append(found.interval_id)
                parameters = found.parameters
            series[key] = _Series(
                instrument=instrument,
                ids=tuple(place),
                refused=_taken(instrument, holders.get(instrument)),
                parameters=parameters,
            )
        return refused

    def _fold(self, valued: Iterable[Valued], refused: Mapping[Key, Rejected]) -> FactBatch:
        """One row a key, the version that wins; and what became of the other messages."""
        batch = FactBatch()
        series, parts = self._series, len(self.upsert.keys) - len(DIMENSIONS)
        rows, folded, is_judged = batch.rows, 0, self.foreign is not None
        for index, series_key, message, _, values in valued:
            place = series.get(series_key)
            if place is None:
                batch.rejected.append((index, refused[series_key]))
                continue
            if place.refused is not None:
                batch.rejected.append((index, place.refused))
                continue
            if place.parameters is not None and message.parameters not in (None, place.parameters):
                batch.rejected.append((index, other_parameters(message, place.parameters)))
                continue
            key = (place.ids, *values[:parts])
            other = rows.get(key)
            if other is not None:
                folded += 1
                if version_of(other) >= version_of(values):
                    continue
            rows[key] = values
            if is_judged:
                batch.messages[key] = index, message.interval
        batch.folded = folded
        return batch

    def _refused(
        self, error: DBAPIError, batch: FactBatch, valued: Iterable[Valued]
    ) -> RavenwhError:
        """What the error stands for; with the message whose row the database names."""
        ours = translate(error)
        if isinstance(ours, Rejected):
            named = row_of(error, self.upsert.table.columns.keys())
            values = batch.rows.get(key_of(named, self.upsert.keys) or ())
            ours.place = next((index for index, *_, v in valued if v is values), None)
        return ours

    async def _commit_in_parts(self, connection: AsyncConnection, batch: FactBatch) -> bool:
        """All rows at once, or by series and day where that decompresses too much."""
        try:
            return await self._commit(connection, batch)
        except DBAPIError as error:
            if not is_over_limit(error):
                raise
        parts = [
            FactBatch(rows=rows, messages=batch.messages) for rows in by_series_and_day(batch.rows)
        ]
        logger.bind(rows=len(batch.rows), parts=len(parts)).info("BATCH_SPLIT")
        for part in parts:
            keys = list(part.rows)
            if not await self._commit(connection, part, unlimited=True):
                return False
            for key in keys:
                if key not in part.rows:
                    del batch.rows[key]
            batch.rejected += part.rejected
            batch.written += part.written
        return True

    async def _commit(
        self, connection: AsyncConnection, batch: FactBatch, *, unlimited: bool = False
    ) -> bool:
        """Write the rows and note how many changed; false where a dimension row is not alive."""
        if not batch.rows:
            return True
        async with connection.begin():
            if unlimited:
                await lift_limit(connection)
            if self.foreign is not None:
                await self._keep_out(connection, self.foreign, batch)
                if not batch.rows:
                    return True
            columns = batch.columns(self.upsert.columns)
            distinct = {d.name: list(set(columns[d.id.name])) for d in DIMENSIONS}
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

    async def _keep_out(
        self, connection: AsyncConnection, foreign: Foreign, batch: FactBatch
    ) -> None:
        """Reject rows of other chains; none is built until the transaction ends."""
        await lock(connection, self.upsert.table, WRITE)
        closes = self.upsert.values.index("close_time") + len(self.upsert.keys) - len(DIMENSIONS)
        bars = [(ids, (*key, values[closes])) for (ids, *key), values in batch.rows.items()]
        places = await foreign.places(connection, bars)
        keys = list(batch.rows)
        for place in places:
            index, profile = batch.messages[keys[place]]
            batch.rejected.append((index, other_chain(profile)))
            del batch.rows[keys[place]]


def _taken(instrument: Instrument, holder: str | None) -> SeriesTaken | None:
    if holder is None:
        return None
    return SeriesTaken(
        f"{instrument.coin}/{instrument.quote} on {instrument.exchange} is held by {holder}, so "
        f"{instrument.symbol} has no place there: give one of them a coin name of its own in "
        "routing.symbol_map, or a delisted_at"
    )
