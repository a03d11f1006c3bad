"""``runners.replay``: files, a simulated market or stored ticks, published as a raven feed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from ravenwh.app.feeds import control_endpoint, publishing_endpoint, publishing_feed
from ravenwh.app.influx import ticks_of
from ravenwh.domain.errors import Refused
from ravenwh.domain.settings import Settings
from ravenwh.feed import wire
from ravenwh.feed.collecting import Fixed, collection_handlers
from ravenwh.feed.control import Collection, Served
from ravenwh.feed.control_server import ControlServer, Handler
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.resending import resend_handlers
from ravenwh.feed.subscriber import FOUND_WITHIN_S
from ravenwh.sources.replay import Replay, Subject, Track
from ravenwh.sources.report import Report
from ravenwh.sources.request import Request
from ravenwh.sources.vision import OnBad
from ravenwh.staging.track import TickTrack
from ravenwh.telemetry.live import serve_live

__all__ = ["run_replay"]

SERVICE = "replay"

ALL_HERE_S = FOUND_WITHIN_S + 0.5
"""How long after we are there whoever looked for us has found us. A topic may have several
subscribers, and of those that are not there nobody knows."""

LATE_S = 2.0
"""For so long after the last message we wait for somebody to ask for what he missed, and after each
question for another one."""

LINGER_S = 600.0
"""How long a slow subscriber may take for the last messages, unless we are told to stop."""


async def run_replay(
    settings: Settings,
    request: Request,
    stop: asyncio.Event,
    *,
    endpoint: str | None,
    wait_s: float,
    on_bad: OnBad,
    on_progress: Callable[[int, int], None],
) -> Report:
    """Bind where the venue's subscribers connect to, wait for them, send everything, and report.

    ``endpoint`` is where to bind, if not there. Until its end, ``server.replay_port`` answers for
    it: what was sent is sent again, as far as it is kept. Raises Refused where a file cannot be
    used, UnknownName for ticks that are not there, and Unavailable where nobody subscribes within
    ``wait_s`` seconds, InfluxDB is away, or a port is taken.
    """
    with ExitStack() as stack:
        tracks, rows = await asyncio.to_thread(_tracks, settings, request, stack)
        bound = (
            _endpoint(settings, request.venue, tracks)
            if endpoint is None
            else publishing_endpoint(settings, None, endpoint)
        )
        publisher = Publisher(endpoint=bound, ring_bytes=settings.server.ring_bytes)
        now = asyncio.get_running_loop().time
        all_here_at = now() + ALL_HERE_S
        can_ask = any(feed.control is not None for feed in settings.feeds.values())

        async def subscribed(subjects: Iterable[Subject]) -> None:
            topics = [wire.topic(*subject) for subject in sorted(subjects)]
            await publisher.wait_for_subscribers(topics, timeout_s=wait_s)
            await asyncio.sleep(all_here_at - now())

        replay = Replay(
            tracks=tracks,
            rows=rows,
            publish=publisher.publish,
            wait_for_subscribers=subscribed,
            on_bad=on_bad,
            on_progress=on_progress,
            speed=request.speed,
            span=request.span,
        )
        try:
            async with _answering(settings, publisher, replay.subjects) as asked:
                try:
                    report = await replay.run(stop)
                    while can_ask and await _happens(asked, stop, within_s=LATE_S):
                        asked.clear()
                    return report
                finally:
                    await publisher.close(1.0 if stop.is_set() else LINGER_S)
        finally:
            await publisher.close(0)


def _tracks(
    settings: Settings, request: Request, stack: ExitStack
) -> tuple[tuple[Track, ...], int]:
    """What is to be sent, and at most how many messages that is."""
    if not request.measurements:
        return request.tracks()
    span, ticks = request.span, stack.enter_context(ticks_of(settings))
    start, end = (None, None) if span is None else (span.start, span.end)
    tracks = [
        TickTrack.of(ticks, measurement, request.venue, request.symbol, start, end)
        for measurement in request.measurements
    ]
    return tuple(tracks), 0


@asynccontextmanager
async def _answering(
    settings: Settings, publisher: Publisher, subjects: Iterable[Subject]
) -> AsyncIterator[asyncio.Event]:
    """Have control requests answered during the block, and the doctor's question who we are.

    Gives an event that is set whenever somebody asks for what was sent.
    """
    ports = {port.purpose: port for port in settings.ports() if port.service == SERVICE}
    live, asked = ports["metrics"], asyncio.Event()

    def noted(handler: Handler) -> Handler:
        async def handle(request: Any) -> Served:
            try:
                return await handler(request)
            finally:
                asked.set()

        return handle

    handlers = {
        **{request: noted(handler) for request, handler in resend_handlers(publisher).items()},
        **collection_handlers(Fixed(Collection(*subject) for subject in subjects)),
    }
    async with serve_live(live.host, live.number, SERVICE):
        with ControlServer(
            endpoint=control_endpoint(settings, SERVICE), handlers=handlers
        ) as control:
            async with asyncio.TaskGroup() as tasks:
                answering = tasks.create_task(control.serve(), name="control")
                try:
                    yield asked
                finally:
                    answering.cancel()


async def _happens(event: asyncio.Event, stop: asyncio.Event, *, within_s: float) -> bool:
    """Whether it happens in time, and we are not told to stop before."""
    waits = {asyncio.create_task(event.wait()), asyncio.create_task(stop.wait())}
    try:
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return event.is_set() and not stop.is_set()


def _endpoint(settings: Settings, venue: str, tracks: Iterable[Track]) -> Endpoint:
    """Where the subscribers of a venue's data connect to, for us to bind there."""
    data_types = sorted({data_type for track in tracks for _, data_type, _ in track.subjects})
    names = sorted({settings.upstream_for(venue, one).feed for one in data_types})
    if len(names) > 1:
        raise Refused(
            f"{' and '.join(data_types)} of {venue} come from {len(names)} feeds, "
            f"{' and '.join(names)}: replay them one after the other, or give --endpoint"
        )
    (name,) = names
    return publishing_feed(settings, name, "a replay", "name another, or give --endpoint")
