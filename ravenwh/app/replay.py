"""``runners.replay``: files, a simulated market or stored ticks, published as a raven feed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager

from ravenwh.app.feeds import control_endpoint, publishing_endpoint, publishing_feed
from ravenwh.app.influx import ticks_of
from ravenwh.domain.errors import Refused
from ravenwh.domain.settings import Settings
from ravenwh.feed import wire
from ravenwh.feed.collecting import Fixed, collection_handlers
from ravenwh.feed.control import Collection
from ravenwh.feed.control_server import ControlServer
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.resending import resend_handlers
from ravenwh.sources.replay import Replay, Subject, Track
from ravenwh.sources.report import Report
from ravenwh.sources.request import Request
from ravenwh.sources.vision import OnBad
from ravenwh.staging.track import TickTrack
from ravenwh.telemetry.live import serve_live

__all__ = ["run_replay"]

SERVICE = "replay"

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

        async def subscribed(subjects: Iterable[Subject]) -> None:
            topics = [wire.topic(*subject) for subject in sorted(subjects)]
            await publisher.wait_for_subscribers(topics, timeout_s=wait_s)

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
            async with _answering(settings, publisher, replay.subjects):
                try:
                    return await replay.run(stop)
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
) -> AsyncIterator[None]:
    """Have control requests answered during the block, and the doctor's question who we are."""
    ports = {port.purpose: port for port in settings.ports() if port.service == SERVICE}
    live = ports["metrics"]
    handlers = {
        **resend_handlers(publisher),
        **collection_handlers(Fixed(Collection(*subject) for subject in subjects)),
    }
    async with serve_live(live.host, live.number, SERVICE):
        with ControlServer(
            endpoint=control_endpoint(settings, SERVICE), handlers=handlers
        ) as control:
            async with asyncio.TaskGroup() as tasks:
                answering = tasks.create_task(control.serve(), name="control")
                try:
                    yield
                finally:
                    answering.cancel()


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
