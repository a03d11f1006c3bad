"""``runners.bar``: bars of the CANDLE feeds into the facts of bars."""

from __future__ import annotations

import asyncio

import attrs

from ravenwh.app.collecting import given_of
from ravenwh.app.instruments import register_of, seed_of, wanted_venues
from ravenwh.app.runner import Context, Job, Ready, run_job
from ravenwh.domain.messages import Candle, Message
from ravenwh.domain.profile import kind_of
from ravenwh.domain.settings import Settings
from ravenwh.ingest import Counts
from ravenwh.warehouse.bar_sink import BarSink
from ravenwh.warehouse.bars import BAR_FACTS
from ravenwh.warehouse.seed import seed

__all__ = ["run_bar"]


async def run_bar(settings: Settings, stop: asyncio.Event) -> Counts:
    """Write bars until ``stop`` is set; what became of the frames.

    Seeds what the settings name, but deletes nothing. Raises as :func:`~ravenwh.app.runner.run_job`
    does.
    """
    settings = _routed(settings)
    job = Job[Candle](
        service="bar",
        data_types=frozenset({"CANDLE"}),
        given=given_of(settings, register_of(settings), "CANDLE", "bars"),
        accepts=_is_bar,
        prepare=_prepare,
    )
    return await run_job(settings, job, stop)


def _routed(settings: Settings) -> Settings:
    """The settings with the CANDLE of every venue from the feed of bars, if one is named.

    ``routing.upstreams`` says where the klines of a venue come from, which are CANDLE too.
    """
    if settings.bars.feed is None:
        return settings
    upstreams = {f"{venue}:CANDLE": settings.bars.feed for venue in wanted_venues(settings, "bars")}
    return attrs.evolve(settings, routing=attrs.evolve(settings.routing, upstreams=upstreams))


def _is_bar(message: Message) -> bool:
    """Whether it is one, or means to be: what is wrong with it is then told."""
    return isinstance(message, Candle) and (
        message.parameters_hash is not None or kind_of(message.interval) in BAR_FACTS
    )


async def _prepare(context: Context) -> Ready[Candle]:
    await seed(context.engine, seed_of(context.settings, context.register))
    return Ready(sink=BarSink.into_all(context.engine, context.register))
