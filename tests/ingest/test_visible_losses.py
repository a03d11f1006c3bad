"""On a wire without numbers: every loss that can be seen is counted once, through kills."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from ravenwh.domain.messages import Candle, Message
from ravenwh.feed import wire
from ravenwh.ingest import Cadence, Limits, Worker
from ravenwh.journal import Store
from ravenwh.ports import Frame
from tests.ingest.test_repair import Ledger, Ring
from tests.ingest.test_worker import Frames, Table, is_candle
from tests.warehouse.conftest import MINUTE, START, candle

GRACE_S = 3.0  # a machine that stalls for longer would make late frames of those in a batch
FAST = Limits(batch_rows=10, flush_after_s=0.005, retry_initial_s=0.001, retry_max_s=0.002)
SYMBOLS = ("BTCUSDT", "ETHUSDT", "XRPUSDT")


def bare(kline: Candle) -> Frame:
    """As a wire without headers has it."""
    topic, payload = wire.encode(kline)
    return Frame("foreign", topic, b"", payload, time.time_ns())


def decode(frame: Frame) -> Message:
    return wire.decode(Frame(frame.feed, frame.topic, bytes(16), frame.payload, 0))


@attrs.define
class Bench:
    path: Path
    table: Table = attrs.field(factory=Table)
    ledger: Ledger = attrs.field(factory=Ledger)
    wants: Callable[[Message], bool] = is_candle

    async def run(self, klines: list[Candle], *, kill_after: int | None = None) -> None:
        """One process's life: it is killed after so many frames, or ends well when all is told."""
        store, source, stop = Store(self.path), Frames(), asyncio.Event()
        worker = Worker[Candle](
            source=source,
            decode=decode,
            wants=self.wants,
            sink=self.table,
            journal=store,
            dead_letters=store,
            limits=FAST,
            cadence=Cadence(
                store.positions(), store.gaps(), numbered=lambda frame: False, grace_s=GRACE_S
            ),
            resender=Ring(),
            ledger=self.ledger,
            feeds=["foreign"],
        )
        task = asyncio.create_task(worker.run(stop))
        try:
            source.feed([bare(kline) for kline in klines])
            async with asyncio.timeout(60):
                if kill_after is not None:
                    while worker.counts.written < kill_after:  # noqa: ASYNC110  a turn of the loop
                        await asyncio.sleep(0)
                    return
                while worker.counts.received < len(klines) or worker.in_journal:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                while store.gaps():
                    await self.ledger.changed.wait()
                    self.ledger.changed.clear()
                    await asyncio.sleep(0)
            stop.set()
            await task
        finally:
            task.cancel()
            await asyncio.wait([task])
            store.close()


async def test_what_never_came_is_in_the_ledger_once_and_nothing_else_is(tmp_path: Path) -> None:
    rng = random.Random(8)
    bench = Bench(tmp_path / "j.sqlite")
    sent = [(symbol, minute) for minute in range(400) for symbol in SYMBOLS]
    runs = [sent[at : at + 150] for at in range(0, len(sent), 150)]
    for number, run in enumerate(runs):
        came = [one for one in run if rng.random() > 0.05]
        if number % 3 == 2:
            came = came[40:]  # a longer outage, at the start of the process
        if number > 0:
            rng.shuffle(came)  # history comes in any order
        klines = [candle(minute, symbol=symbol) for symbol, minute in came]
        last = number == len(runs) - 1
        await bench.run(klines, kill_after=None if last else rng.randrange(1, len(came)))

    written = {(symbol, (at - START) // MINUTE) for symbol, at in bench.table.rows}
    for symbol in SYMBOLS:
        came_of = {minute for name, minute in written if name == symbol}
        missing = [
            minute
            for gap in bench.ledger.rows.values()
            if gap.topic == f"BINANCE_SPOT:CANDLE:{symbol} 1m".encode()
            for minute in range(
                ((gap.start_time or 0) - START) // MINUTE, ((gap.end_time or 0) - START) // MINUTE
            )
        ]
        visible = set(range(min(came_of), max(came_of))) - came_of
        assert len(visible) > 10
        assert sorted(missing) == sorted(visible)


async def test_what_nobody_wants_is_not_missed(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "j.sqlite", wants=lambda message: message.symbol == "BTCUSDT")
    await bench.run([candle(n, symbol=name) for n in (0, 1, 9) for name in ("BTCUSDT", "ETHUSDT")])
    assert [gap.missing for gap in bench.ledger.rows.values()] == [7]
