"""A persistence runner: from the sockets of feeds, through the journal, to a sink."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    closing,
    nullcontext,
)
from typing import Generic, TypeVar

import attrs
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.app.collecting import Collecting, feed_of, topics_of
from ravenwh.app.database import Database, database_of, engine_on
from ravenwh.app.feeds import control_endpoint, feed_endpoint, resending
from ravenwh.app.instruments import register_of
from ravenwh.app.journals import open_journal
from ravenwh.app.preflight import require_head
from ravenwh.app.quiet import expected_by
from ravenwh.app.watched import Watched
from ravenwh.app.wires import WIRES, decoder_of, venue_of
from ravenwh.domain.errors import Unavailable
from ravenwh.domain.messages import Message
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Settings
from ravenwh.feed import wire
from ravenwh.feed.collecting import collection_handlers
from ravenwh.feed.control import Collection
from ravenwh.feed.control_server import ControlServer
from ravenwh.feed.subscriber import Upstream, ZmqSource
from ravenwh.ingest import Cadence, Counts, Finality, Limits, Silence, Worker
from ravenwh.journal import Store
from ravenwh.ports import Sink, WriteResult
from ravenwh.telemetry.live import serve_live
from ravenwh.telemetry.metrics import Metrics
from ravenwh.warehouse.gaps import FeedGaps

__all__ = ["Context", "Job", "Ready", "limits_of", "run_job", "upstreams_of"]

MessageT = TypeVar("MessageT", bound=Message)


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
class Job(Generic[MessageT]):
    """What makes one runner another than the next.

    ``given`` is what the settings say to collect, ``accepts`` which of its messages are for the
    sink. ``prepare`` makes the sink ready; it may raise Unavailable, and is then called again.
    ``holds_open`` is for klines: only the final version of each goes to the sink, and their times
    show what is missing where the wire has no numbers.
    """

    service: str
    data_types: frozenset[str]
    given: frozenset[Collection]
    accepts: Callable[[Message], bool]
    prepare: Callable[[Context], Awaitable[Ready[MessageT]]]
    holds_open: bool = False


def limits_of(settings: Settings) -> Limits:
    """The limits of the ingest section."""
    ingest = settings.ingest
    return Limits(
        batch_rows=ingest.batch_rows,
        batch_bytes=ingest.batch_bytes,
        flush_after_s=ingest.flush_after_s,
        retry_initial_s=ingest.retry_initial_s,
        retry_max_s=ingest.retry_max_s,
        shutdown_grace_s=ingest.shutdown_grace_s,
    )


def upstreams_of(settings: Settings, wanted: frozenset[Collection]) -> list[Upstream]:
    """One upstream a feed, with the topics of what is wanted of it."""
    topics: dict[str, set[bytes]] = defaultdict(set)
    for collection in wanted:
        topics[feed_of(settings, collection)].update(topics_of(settings, collection))
    return [
        Upstream(
            feed=name,
            endpoint=feed_endpoint(settings, name),
            topics=tuple(sorted(subscribed)),
            one_part=WIRES[settings.feeds[name].wire].one_part,
            rcvhwm=settings.feeds[name].rcvhwm,
            max_frame_bytes=settings.feeds[name].max_frame_bytes,
        )
        for name, subscribed in sorted(topics.items())
    ]


async def run_job(settings: Settings, job: Job[MessageT], stop: asyncio.Event) -> Counts:
    """Do it until ``stop`` is set; what became of the frames.

    Refuses to start on a database at another revision (SchemaMismatch), or where another process
    holds its journal or a port.
    """
    watched = Watched()
    metrics = Metrics(watched.reading)
    live = settings.port_of(job.service, "metrics")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            serve_live(
                live.host,
                live.number,
                job.service,
                troubles=lambda: watched.troubles,
                metrics=metrics.page,
            )
        )
        store = stack.enter_context(closing(open_journal(settings, job.service)))
        register = register_of(settings)
        collecting = Collecting(
            settings=settings,
            register=register,
            journal=store,
            data_types=job.data_types,
            given=job.given,
        )
        database, engine = await stack.enter_async_context(_opened(settings))
        context = Context(
            settings=settings, register=register, database=database, engine=engine, stop=stop
        )
        ready = await _prepared(context, job, watched)
        if ready is None:
            return Counts()
        upstreams = upstreams_of(settings, collecting.wanted | job.given)
        source = stack.enter_context(ZmqSource(upstreams=upstreams))
        resender = stack.enter_context(resending(settings, source))
        control = stack.enter_context(
            ControlServer(
                endpoint=control_endpoint(settings, job.service),
                handlers=collection_handlers(collecting),
            )
        )
        worker = Worker[MessageT](
            source=source,
            decode=decoder_of(settings, register),
            wants=lambda message: job.accepts(message) and collecting.wants(message),
            sink=_Reviving(database=database, sink=ready.sink),
            journal=store,
            dead_letters=store,
            limits=limits_of(settings),
            finality=_finality(settings) if job.holds_open else None,
            cadence=_cadence(store) if job.holds_open else None,
            position_of=wire.position,
            resender=resender,
            ledger=FeedGaps(engine=engine),
            feeds=sorted(source.addresses),
            silence=_silence(settings, register, source),
            meter=metrics,
        )
        watched.follow(worker, store)
        _drop_unwanted(source, settings, collecting)
        collecting.attach(source, resender.clients)

        def connected(feed: str) -> None:
            worker.connected(feed)
            collecting.connected(feed)

        source.watch(connected=connected)
        logger.bind(service=job.service, feeds=sorted(source.addresses)).info("RUNNER_STARTED")
        await stack.enter_async_context(ready.beside)
        async with asyncio.TaskGroup() as tasks:
            others = [
                tasks.create_task(control.serve(), name="control"),
                tasks.create_task(collecting.keep_told(), name="collect"),
            ]
            counts = await worker.run(stop)
            for other in others:
                other.cancel()
    logger.bind(service=job.service, **attrs.asdict(counts)).info("RUNNER_STOPPED")
    return counts


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Database, AsyncEngine]]:
    with database_of(settings) as database:
        async with engine_on(database, settings) as engine:
            yield database, engine


async def _prepared(
    context: Context, job: Job[MessageT], watched: Watched
) -> Ready[MessageT] | None:
    """Wait for a database at our revision, and what the job needs; None where stop came first."""
    backoff = limits_of(context.settings).backoff()
    while not context.stop.is_set():
        try:
            await require_head(context.settings, context.engine)
            return await job.prepare(context)
        except Unavailable as error:
            watched.waiting_for = str(error)
            await backoff.wait(error, context.stop)
            await context.database.revive()
    return None


def _finality(settings: Settings) -> Finality:
    return Finality(grace_ns=int(settings.ingest.close_grace_s * 1e9))


def _cadence(store: Store) -> Cadence:
    return Cadence(store.positions(), numbered=lambda frame: wire.position(frame) is not None)


def _silence(settings: Settings, register: Register, source: ZmqSource) -> Silence:
    return Silence(
        feeds=sorted(source.addresses),
        venue_of=venue_of,
        is_expected=expected_by(settings, register),
    )


def _drop_unwanted(source: ZmqSource, settings: Settings, collecting: Collecting) -> None:
    """Feeds that only called-off collections need are open, and subscribed to nothing."""
    wanted: dict[str, set[bytes]] = defaultdict(set)
    for collection in collecting.wanted:
        wanted[feed_of(settings, collection)].update(topics_of(settings, collection))
    for feed in source.addresses:
        for topic in source.wanted(feed) - wanted[feed]:
            source.unsubscribe(feed, topic)


@attrs.frozen(kw_only=True)
class _Reviving(Generic[MessageT]):
    """A sink that brings its own server back, where it is ours to bring back."""

    database: Database
    sink: Sink[MessageT]

    async def write(self, messages: Sequence[MessageT]) -> WriteResult:
        try:
            return await self.sink.write(messages)
        except Unavailable:
            await self.database.revive()
            raise
