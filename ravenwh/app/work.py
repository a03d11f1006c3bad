"""What every runner does: from the sockets of feeds, through the journal, to what is behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing
from typing import Any, Generic, TypeVar

import attrs
from loguru import logger

from ravenwh.app.collecting import Collecting, feed_of, tell_guessed, topics_of
from ravenwh.app.feeds import control_endpoint, feed_endpoint, resending
from ravenwh.app.instruments import OwnSymbols, own_symbols, register_of
from ravenwh.app.journals import open_journal
from ravenwh.app.quiet import expected_by
from ravenwh.app.watched import Watched
from ravenwh.app.wires import WIRES, decoder_of, subject_of
from ravenwh.domain.messages import Message
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Settings
from ravenwh.feed import wire
from ravenwh.feed.collecting import Collections, collection_handlers
from ravenwh.feed.control import Collection
from ravenwh.feed.control_server import ControlServer, Handlers
from ravenwh.feed.subscriber import Upstream, ZmqSource
from ravenwh.ingest import Cadence, Counts, Limits, Silence, Worker
from ravenwh.journal import Store
from ravenwh.ports import Decoder, GapLedger, Holding, Sink
from ravenwh.telemetry.live import serve_live
from ravenwh.telemetry.metrics import Metrics

__all__ = ["Parts", "Work", "limits_of", "run_work", "upstreams_of"]

MessageT = TypeVar("MessageT", bound=Message)
StoreT = TypeVar("StoreT", bound=Store)


def _nobody(feed: str) -> None:
    """Nobody is told."""


def _as_they_are(collections: Collections) -> Collections:
    return collections


def _nothing() -> None:
    """Nothing is waited for."""


@attrs.frozen(kw_only=True)
class Work(Generic[MessageT]):
    """What a runner takes in.

    ``given`` is what the settings say to collect, ``accepts`` which of its messages are for the
    sink, if not all. ``feeds`` are opened too, subscribed to nothing: control may ask for something
    of them. ``own_symbols`` says which symbols can be asked for, and what messages call them.
    """

    service: str
    data_types: frozenset[str]
    given: frozenset[Collection]
    accepts: Callable[[Message], bool] | None = None
    feeds: frozenset[str] = frozenset()
    own_symbols: OwnSymbols = own_symbols


@attrs.frozen(kw_only=True)
class Parts(Generic[MessageT]):
    """What stands behind the worker of a runner.

    ``collections`` gives what the control socket answers for the collections of the runner,
    ``handlers`` are what it answers besides. ``connected`` is told the name of a feed at each
    connection. ``waiting_for`` is why the sink cannot be written to, None where it can; ``beside``
    goes on beside the worker, and ends with it. ``decode`` reads the frames, where more is to be
    done than their wires say; ``tallies`` are counts of these parts, by their names in the metrics.
    """

    sink: Sink[MessageT]
    ledger: GapLedger
    decode: Decoder | None = None
    tallies: Callable[[], Mapping[str, int]] = dict
    holding: Holding[MessageT] | None = None
    cadence: Cadence | None = None
    collections: Callable[[Collections], Collections] = _as_they_are
    handlers: Handlers = attrs.field(factory=dict)
    connected: Callable[[str], None] = _nobody
    waiting_for: Callable[[], str | None] = _nothing
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None


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


def upstreams_of(
    settings: Settings,
    wanted: frozenset[Collection],
    also: frozenset[Collection] = frozenset(),
    feeds: frozenset[str] = frozenset(),
) -> list[Upstream]:
    """One upstream a feed, with the topics of what is wanted of it.

    The feeds of ``also``, and these ``feeds``, are opened too, subscribed to nothing: it may be
    wanted again.
    """
    names = feeds | {feed_of(settings, one) for one in wanted | also}
    topics: dict[str, set[bytes]] = {name: set() for name in names}
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


async def run_work(
    settings: Settings,
    work: Work[MessageT],
    stop: asyncio.Event,
    *,
    journal: type[StoreT],
    behind: Callable[[StoreT, Register], AbstractAsyncContextManager[Parts[MessageT]]],
) -> Counts:
    """Take in what the feeds send until ``stop`` is set; what became of the frames.

    ``behind`` is entered when the sockets are open, with the journal. Refuses to start where
    another process holds the journal or a port.
    """
    watched = Watched()
    metrics = Metrics(watched.reading)
    live = settings.port_of(work.service, "metrics")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            serve_live(
                live.host,
                live.number,
                work.service,
                troubles=lambda: watched.troubles,
                metrics=metrics.page,
            )
        )
        store = stack.enter_context(closing(open_journal(settings, work.service, journal)))
        register = register_of(settings)
        collecting = Collecting(
            settings=settings,
            register=register,
            journal=store,
            data_types=work.data_types,
            given=work.given,
            own_symbols=work.own_symbols,
        )
        tell_guessed(settings, collecting.wanted)
        upstreams = upstreams_of(settings, collecting.wanted, work.given, work.feeds)
        source = stack.enter_context(ZmqSource(upstreams=upstreams))
        resender = stack.enter_context(resending(settings, source))
        parts = await stack.enter_async_context(behind(store, register))
        control = stack.enter_context(
            ControlServer(
                endpoint=control_endpoint(settings, work.service),
                handlers={
                    **collection_handlers(parts.collections(collecting)),
                    **parts.handlers,
                },
            )
        )
        worker = Worker[MessageT](
            source=source,
            decode=parts.decode or decoder_of(settings, register),
            wants=_wants(work, collecting),
            sink=parts.sink,
            journal=store,
            dead_letters=store,
            limits=limits_of(settings),
            holding=parts.holding,
            cadence=parts.cadence,
            position_of=wire.position,
            resender=resender,
            ledger=parts.ledger,
            feeds=sorted(source.addresses),
            silence=_silence(settings, register, source),
            meter=metrics,
        )
        watched.follow(worker, store, parts.waiting_for, parts.tallies)
        collecting.attach(source, resender.clients, worker.forget)

        def connected(feed: str) -> None:
            worker.connected(feed)
            collecting.connected(feed)
            parts.connected(feed)

        source.watch(connected=connected)
        logger.bind(service=work.service, feeds=sorted(source.addresses)).info("RUNNER_STARTED")
        async with asyncio.TaskGroup() as tasks:
            others = [
                tasks.create_task(control.serve(), name="control"),
                tasks.create_task(collecting.keep_told(), name="collect"),
            ]
            if parts.beside is not None:
                others.append(tasks.create_task(parts.beside(), name="beside"))
            counts = await worker.run(stop)
            for other in others:
                other.cancel()
    logger.bind(service=work.service, **attrs.asdict(counts)).info("RUNNER_STOPPED")
    return counts


def _wants(work: Work[MessageT], collecting: Collecting) -> Callable[[Message], bool]:
    accepts = work.accepts
    if accepts is None:
        return collecting.wants
    return lambda message: accepts(message) and collecting.wants(message)


def _silence(settings: Settings, register: Register, source: ZmqSource) -> Silence:
    subject = subject_of(settings, register)
    return Silence(
        feeds=lambda: [feed for feed in source.addresses if source.wanted(feed)],
        venue_of=lambda stream: subject(stream)[0],
        is_expected=expected_by(settings, register, source.wanted),
    )
