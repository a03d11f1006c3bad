"""``runners.kline``: CANDLE frames of the feeds into ``fact__kline``."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import platformdirs
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.app.database import Database, database_of, engine_on
from ravenwh.app.instruments import register_of, seed_of, wanted_symbols
from ravenwh.app.preflight import require_head
from ravenwh.domain.errors import SettingsError, Unavailable
from ravenwh.domain.messages import Candle, Message
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Feed, Settings
from ravenwh.feed import wire
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.subscriber import Upstream, ZmqSource
from ravenwh.ingest import Counts, Finality, Limits, Worker
from ravenwh.journal import Store
from ravenwh.ports import WriteResult
from ravenwh.schema import KLINES
from ravenwh.telemetry.live import serve_live
from ravenwh.warehouse.rows import kline_values
from ravenwh.warehouse.seed import seed
from ravenwh.warehouse.upsert import Upsert
from ravenwh.warehouse.write import FactSink

__all__ = ["journal_path", "run_kline"]

SERVICE = "kline"


def journal_path(settings: Settings, service: str) -> Path:
    """The file of a runner's journal."""
    if settings.journal.dir is not None:
        folder = settings.journal.dir
    elif os.geteuid() == 0:
        folder = Path("/var/lib/ravenwh/journal")
    else:
        folder = platformdirs.user_state_path("ravenwh") / "journal"
    return folder / f"{service}.sqlite"


def upstreams_of(settings: Settings, register: Register) -> list[Upstream]:
    """One upstream a feed, with the topics that its venues need."""
    wanted: dict[str, dict[str, tuple[str, ...] | None]] = defaultdict(dict)
    for venue, symbols in wanted_symbols(settings, register).items():
        wanted[settings.upstream_for(venue, "CANDLE").feed][venue] = symbols
    problems = [problem for name in wanted for problem in _not_served(name, settings.feeds[name])]
    if problems:
        raise SettingsError(problems)
    return [
        Upstream(
            feed=name,
            endpoint=Endpoint(
                address=settings.feeds[name].endpoint,
                mode=settings.feeds[name].mode,
                key=f"feeds.{name}.endpoint",
            ),
            topics=wire.subscriptions("CANDLE", venues),
            rcvhwm=settings.feeds[name].rcvhwm,
            max_frame_bytes=settings.feeds[name].max_frame_bytes,
        )
        for name, venues in wanted.items()
    ]


def _not_served(name: str, feed: Feed) -> Iterator[str]:
    """What a feed asks for and this version does not do: better refused than left out."""
    if feed.wire != "raven":
        yield f'feeds.{name}.wire: found "{feed.wire}"; this version reads "raven" only'
    for key in ("server_key", "public_key", "secret_key"):
        if getattr(feed, key) is not None:
            yield f"feeds.{name}.{key}: found a key; this version does not speak CURVE yet"
    if feed.control is not None:
        yield f"feeds.{name}.control: found one; this version does not ask publishers yet"


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


async def run_kline(settings: Settings, stop: asyncio.Event) -> Counts:
    """Write final klines until ``stop`` is set; what became of the frames.

    Refuses to start on a database at another revision (SchemaMismatch), or where another process
    holds its journal or its port. Seeds what the settings name, but deletes nothing.
    """
    register = register_of(settings)
    intervals = frozenset(settings.binance_klines.interval)

    def wants(message: Message) -> bool:
        return isinstance(message, Candle) and message.interval in intervals

    live = next(
        port for port in settings.ports() if (port.service, port.purpose) == (SERVICE, "metrics")
    )
    async with (
        serve_live(live.host, live.number, SERVICE),
        _opened(settings) as (database, engine),
    ):
        store = Store(
            journal_path(settings, SERVICE),
            max_bytes=settings.journal.max_bytes,
            keep_s=settings.journal.keep_h * 3600.0,
        )
        try:
            if not await _prepared(settings, engine, register, stop):
                return Counts()
            with ZmqSource(upstreams=upstreams_of(settings, register)) as source:
                worker = Worker[Candle](
                    source=source,
                    decode=wire.decode,
                    wants=wants,
                    sink=_Reviving(
                        database=database,
                        sink=FactSink(
                            engine=engine,
                            register=register,
                            upsert=Upsert.into(KLINES),
                            to_values=kline_values,
                        ),
                    ),
                    journal=store,
                    dead_letters=store,
                    limits=limits_of(settings),
                    finality=Finality(grace_ns=int(settings.ingest.close_grace_s * 1e9)),
                )
                logger.bind(feeds=sorted(source.addresses)).info("KLINE_RUNNER_STARTED")
                counts = await worker.run(stop)
        finally:
            store.close()
    logger.bind(**attrs.asdict(counts)).info("KLINE_RUNNER_STOPPED")
    return counts


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Database, AsyncEngine]]:
    with database_of(settings) as database:
        async with engine_on(database, settings) as engine:
            yield database, engine


@attrs.frozen(kw_only=True)
class _Reviving:
    """A sink that brings its own server back, where it is ours to bring back."""

    database: Database
    sink: FactSink[Candle]

    async def write(self, messages: Sequence[Candle]) -> WriteResult:
        try:
            return await self.sink.write(messages)
        except Unavailable:
            await self.database.revive()
            raise


async def _prepared(
    settings: Settings, engine: AsyncEngine, register: Register, stop: asyncio.Event
) -> bool:
    """Wait for a database at our revision, and seed it; false where stop came first."""
    backoff = limits_of(settings).backoff()
    while not stop.is_set():
        try:
            await require_head(settings, engine)
            await seed(engine, seed_of(settings, register))
        except Unavailable as error:
            await backoff.wait(error, stop)
        else:
            return True
    return False
