"""``runners.tick``: what the feeds send and a measurement is there for, into InfluxDB."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, closing
from typing import Any

import attrs

from ravenwh.app.bucket import BucketWatch
from ravenwh.app.collecting import feed_of
from ravenwh.app.export_watch import ExportWatch
from ravenwh.app.gaps import mart_gaps
from ravenwh.app.influx import require_token
from ravenwh.app.instruments import any_symbols, is_taken, register_of, symbol_of
from ravenwh.app.wires import decoder_of
from ravenwh.app.work import Parts, Work, run_work
from ravenwh.domain.errors import RavenwhError, SettingsError
from ravenwh.domain.finding import Finding
from ravenwh.domain.messages import Message
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Settings
from ravenwh.feed import wire
from ravenwh.feed.control import EVERYTHING, Collection
from ravenwh.ingest import Counts
from ravenwh.journal import Store
from ravenwh.staging.books import BestPrices
from ravenwh.staging.measurements import MEASUREMENTS, STREAMS
from ravenwh.staging.server import Server
from ravenwh.staging.sink import TickSink

__all__ = ["lacks_token", "run_tick", "streams_finding", "tick_collections"]

LOOK_BACK_BYTES = 16 << 20
"""Frames that were worked off before and are read again at the start, as books are made of them:
so the changes that wait in the journal find theirs. That takes half a second, or two where all of
the frames are changes of books."""

DATA_TYPES = frozenset(measurement.data_type for measurement in MEASUREMENTS.values())


async def run_tick(settings: Settings, stop: asyncio.Event) -> Counts:
    """Write points until ``stop`` is set; what became of the frames.

    Raises SettingsError where the settings have no token, or no feed for what starts by itself,
    and as :func:`~ravenwh.app.work.run_work` does.
    """
    require_token(settings, "write to")
    work = Work[Message](
        service="tick",
        data_types=DATA_TYPES,
        given=tick_collections(settings),
        feeds=_feeds(settings),
        own_symbols=any_symbols,
    )

    @asynccontextmanager
    async def behind(store: Store, register: Register) -> AsyncIterator[Parts[Message]]:
        best = BestPrices(decode=decoder_of(settings, register), position_of=wire.position)
        best.catch_up(store.kept(LOOK_BACK_BYTES))
        watch, exports = BucketWatch(settings=settings), ExportWatch(settings=settings)
        with closing(Server(settings=settings.influx)) as server:
            sink = TickSink(server=server)
            async with mart_gaps(settings) as ledger:
                yield Parts(
                    sink=sink,
                    ledger=ledger,
                    decode=best,
                    connected=lambda feed: best.reconnected(feed, time.time_ns()),
                    waiting_for=lambda: watch.trouble,
                    beside=lambda: _beside(
                        bucket=watch.keep_looking(), exports=exports.keep_looking()
                    ),
                    tallies=lambda: {
                        "books_unknown": best.unknown,
                        "points_ambiguous": sink.encoder.ambiguous,
                        **exports.tallies,
                    },
                )

    return await run_work(_batched(settings), work, stop, journal=Store, behind=behind)


async def _beside(**works: Coroutine[Any, Any, None]) -> None:
    """All of them, beside each other."""
    async with asyncio.TaskGroup() as tasks:
        for name, work in works.items():
            tasks.create_task(work, name=name)


def tick_collections(settings: Settings) -> frozenset[Collection]:
    """What is collected from the start: the streams that start by themselves, and the settings'.

    Raises SettingsError, with a line for each that no feed is named for, and UnknownSymbol for a
    COIN/QUOTE that a venue has no symbol for.
    """
    register = register_of(settings)
    named = {Collection(*text.split(":")) for text in settings.ticks.collect}
    starting = {Collection(s.venue, s.data_type, EVERYTHING) for s in STREAMS if s.starts_by_itself}
    found = {
        Collection(one.venue, one.data_type, symbol_of(one.venue, one.symbol, register))
        for one in named | starting
        if is_taken(settings, one.venue)
    }
    problems: list[str] = []
    for collection in sorted(found):
        try:
            feed_of(settings, collection)
        except SettingsError as error:
            problems += error.problems
    if problems:
        left_out = "routing.venue_exclude leaves out the streams of a venue"
        raise SettingsError([*dict.fromkeys(problems), left_out])
    return frozenset(found)


def lacks_token(settings: Settings) -> bool:
    """Whether the settings name ticks to collect, and no token that they could be written with."""
    return bool(settings.ticks.collect) and not settings.influx.is_configured


def streams_finding(settings: Settings) -> Finding | None:
    """Whether everything that the tick runner starts with has a feed; None where it has no work."""
    if lacks_token(settings):
        return Finding(
            check="streams",
            ok=False,
            found="ticks.collect names streams, which are not written: influx.token is not set",
            remedy="set influx.token, or influx.token_file, to a token that may write to the "
            "bucket; or empty ticks.collect",
            required=False,
        )
    if not settings.influx.is_configured:
        return None
    try:
        collections = tick_collections(settings)
    except RavenwhError as error:
        return Finding(
            check="streams",
            ok=False,
            found=str(error),
            remedy="add the keys to [routing.upstreams], each with the name of a feed",
        )
    return Finding(
        check="streams", ok=True, found=f"ticks of {len(collections)} streams are collected"
    )


def _feeds(settings: Settings) -> frozenset[str]:
    """The feeds that ticks may come from, by what the routing says of each."""
    upstreams = settings.routing.upstreams
    if not upstreams:
        return frozenset(settings.venue_feeds)
    return frozenset(feed for key, feed in upstreams.items() if key.partition(":")[2] != "CANDLE")


def _batched(settings: Settings) -> Settings:
    """The settings with the batches of ``influx``: a batch is a request."""
    influx = settings.influx
    ingest = attrs.evolve(
        settings.ingest,
        batch_rows=influx.batch_size,
        flush_after_s=influx.batch_interval_ms / 1000,
    )
    return attrs.evolve(settings, ingest=ingest)
