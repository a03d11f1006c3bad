"""``runners.kline``: CANDLE frames of the feeds into ``fact__kline``."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

from ravenwh.app.collecting import given_of
from ravenwh.app.instruments import register_of, seed_of
from ravenwh.app.refresh import kept_refreshed, notes_of
from ravenwh.app.runner import Context, Job, Ready, run_job
from ravenwh.domain.messages import Candle, Message
from ravenwh.domain.settings import Settings
from ravenwh.ingest import Counts
from ravenwh.schema import KLINES
from ravenwh.warehouse.rows import kline_values
from ravenwh.warehouse.seed import seed
from ravenwh.warehouse.upsert import Upsert
from ravenwh.warehouse.write import FactSink

__all__ = ["run_kline"]


async def run_kline(settings: Settings, stop: asyncio.Event) -> Counts:
    """Write final klines until ``stop`` is set; what became of the frames.

    Seeds what the settings name, but deletes nothing. Raises as :func:`~ravenwh.app.runner.run_job`
    does.
    """
    intervals = frozenset(settings.binance_klines.interval)

    def accepts(message: Message) -> bool:
        return (
            isinstance(message, Candle)
            and message.parameters_hash is None
            and message.interval in intervals
        )

    job = Job[Candle](
        service="kline",
        data_types=frozenset({"CANDLE"}),
        given=given_of(settings, register_of(settings), "CANDLE"),
        accepts=accepts,
        prepare=_prepare,
        holds_open=True,
    )
    return await run_job(settings, job, stop)


async def _prepare(context: Context) -> Ready[Candle]:
    settings, register, engine = context.settings, context.register, context.engine
    upsert = Upsert.into(KLINES)
    await seed(engine, seed_of(settings, register))
    notes = await notes_of(settings, engine, upsert)
    return Ready(
        sink=FactSink(
            engine=engine,
            register=register,
            upsert=upsert,
            to_values=kline_values,
            notes=notes,
        ),
        beside=nullcontext()
        if notes is None
        else kept_refreshed(settings, context.database, context.stop),
    )
