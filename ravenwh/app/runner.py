"""A persistence runner: what it takes in goes to a sink that needs the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    nullcontext,
)
from typing import Generic, TypeVar, cast

import attrs
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.app.database import Database, database_of, engine_on
from ravenwh.app.preflight import require_head
from ravenwh.app.work import Parts, Work, limits_of, run_work
from ravenwh.domain.errors import Unavailable
from ravenwh.domain.messages import Message
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Settings
from ravenwh.feed import wire
from ravenwh.ingest import Cadence, Counts, Finality
from ravenwh.journal import Store
from ravenwh.ports import Holding, Sink, WriteResult
from ravenwh.warehouse.engine import answer_of
from ravenwh.warehouse.gaps import FeedGaps

__all__ = ["Context", "Job", "Ready", "run_job"]

MessageT = TypeVar("MessageT", bound=Message)

LOOK_EVERY_S = 5.0


@attrs.frozen(kw_only=True)
class Context:
    """What a job has to work with: its settings, and a database that may be away."""

    settings: Settings
    register: Register
    database: Database
    engine: AsyncEngine
    stop: asyncio.Event


@attrs.frozen(kw_only=True)
class Ready(Generic[MessageT]):
    """A sink that can be written to, and what goes on beside it for as long."""

    sink: Sink[MessageT]
    beside: AbstractAsyncContextManager[None] = attrs.field(factory=nullcontext)


@attrs.frozen(kw_only=True)
class Job(Work[MessageT]):
    """Work whose sink needs the database.

    ``prepare`` makes the sink ready, on a database at our revision; it may raise Unavailable,
    and is then called again. Frames are journaled meanwhile.
    ``holds_open`` is for klines: only the final version of each goes to the sink, and their times
    show what is missing where the wire has no numbers.
    """

    prepare: Callable[[Context], Awaitable[Ready[MessageT]]]
    holds_open: bool = False


async def run_job(settings: Settings, job: Job[MessageT], stop: asyncio.Event) -> Counts:
    """Do it until ``stop`` is set; what became of the frames.

    What the feeds send is journaled from the start, though the database may be away. Ends with
    SchemaMismatch on a database at another revision, and refuses to start where another process
    holds its journal or a port.
    """

    @asynccontextmanager
    async def behind(store: Store, register: Register) -> AsyncIterator[Parts[MessageT]]:
        async with _opened(settings) as (database, engine):
            sink = _Prepared(
                context=Context(
                    settings=settings,
                    register=register,
                    database=database,
                    engine=engine,
                    stop=stop,
                ),
                prepare=job.prepare,
            )
            yield Parts(
                sink=sink,
                ledger=FeedGaps(engine=engine),
                holding=cast(Holding[MessageT], _finality(settings)) if job.holds_open else None,
                cadence=_cadence(store) if job.holds_open else None,
                waiting_for=lambda: sink.waiting_for,
                beside=sink.keep_ready,
            )

    return await run_work(settings, job, stop, journal=Store, behind=behind)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Database, AsyncEngine]]:
    with database_of(settings) as database:
        async with engine_on(database, settings) as engine:
            yield database, engine


def _finality(settings: Settings) -> Finality:
    return Finality(grace_ns=int(settings.ingest.close_grace_s * 1e9))


def _cadence(store: Store) -> Cadence:
    return Cadence(
        store.positions(),
        store.gaps(),
        numbered=lambda frame: wire.position(frame) is not None,
    )


@attrs.define(kw_only=True)
class _Prepared(Generic[MessageT]):
    """The sink of a job, which becomes ready when its database is there.

    A server that is ours to bring back is brought back. ``waiting_for`` is why it cannot be written
    to, as far as that is known without writing: the database is asked every now and then.
    """

    context: Context
    prepare: Callable[[Context], Awaitable[Ready[MessageT]]]
    waiting_for: str | None = attrs.field(default="starting: it is looked for", init=False)
    _ready: Ready[MessageT] | None = attrs.field(default=None, init=False)
    _turn: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)

    async def write(self, messages: Sequence[MessageT]) -> WriteResult:
        """Commit the batch, as the sink does; the first time, make it ready before."""
        ready = await self._made_ready()
        try:
            return await ready.sink.write(messages)
        except Unavailable:
            await self.context.database.revive()
            raise

    async def keep_ready(self) -> None:
        """Make the sink ready, and keep going what goes on beside it, until cancelled."""
        backoff = limits_of(self.context.settings).backoff()
        while True:
            try:
                ready = await self._made_ready()
                break
            except Unavailable as error:
                if self.context.stop.is_set():
                    return
                await backoff.wait(error, self.context.stop)
        async with ready.beside:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                await self._look()

    async def _look(self) -> None:
        """Ask the database for a sign of life, so that readiness is true of an idle runner too."""
        try:
            await answer_of(self.context.engine)
        except Unavailable as error:
            if self.waiting_for is None:
                level = "ERROR" if error.needs_person else "WARNING"
                logger.bind(reason=str(error)).log(level, "SINK_UNAVAILABLE")
            self.waiting_for = f"the database is away: {error}"
            await self.context.database.revive()
        else:
            self.waiting_for = None

    async def _made_ready(self) -> Ready[MessageT]:
        async with self._turn:
            if self._ready is not None:
                return self._ready
            try:
                await require_head(self.context.settings, self.context.engine)
                self._ready = await self.prepare(self.context)
            except Unavailable as error:
                self.waiting_for = f"starting: {error}"
                await self.context.database.revive()
                raise
            self.waiting_for = None
            return self._ready
