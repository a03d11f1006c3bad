"""``runners.replay``: recorded files, or a simulated market, published as a raven feed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings import Settings
from ravenwh.feed import wire
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.sources.replay import Replay, Subject
from ravenwh.sources.report import Report
from ravenwh.sources.request import Request
from ravenwh.sources.vision import OnBad

__all__ = ["run_replay"]

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

    ``endpoint`` is where to bind, if not there. Raises Refused where a file cannot be used, and
    Unavailable where nobody subscribes within ``wait_s`` seconds.
    """
    tracks, rows = await asyncio.to_thread(request.tracks)
    if endpoint is None:
        data_type = "TRADE" if tracks[0].interval is None else "CANDLE"
        endpoint = _endpoint(settings, request.venue, data_type)
    publisher = Publisher(endpoint=Endpoint(address=endpoint, mode="bind", key="--endpoint"))

    async def subscribed(subjects: Collection[Subject]) -> None:
        topics = [wire.topic(*subject) for subject in sorted(subjects)]
        await publisher.wait_for_subscribers(topics, timeout_s=wait_s)

    try:
        return await Replay(
            tracks=tracks,
            rows=rows,
            publish=publisher.publish,
            wait_for_subscribers=subscribed,
            on_bad=on_bad,
            on_progress=on_progress,
            speed=request.speed,
            span=request.span,
        ).run(stop)
    finally:
        await publisher.close(1.0 if stop.is_set() else LINGER_S)


def _endpoint(settings: Settings, venue: str, data_type: str) -> str:
    """Where the subscribers of a venue's data connect to, for us to bind there."""
    name = settings.upstream_for(venue, data_type).feed
    feed = settings.feeds[name]
    if (feed.wire, feed.mode) != ("raven", "connect"):
        raise SettingsError(
            [
                f"feeds.{name}: found wire {feed.wire}, mode {feed.mode}; a replay needs a raven "
                "feed that the runners connect to: name another, or give --endpoint"
            ]
        )
    return feed.endpoint
