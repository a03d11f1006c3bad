"""Runners that end otherwise than they should: by a fault, and by an operator without patience."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from ravenwh.feed import wire
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.journal import Reader
from tests.acceptance.test_runner_way import Mart, until
from tests.feed.tcp import Cable
from tests.programs import PATIENCE_S, Programs, free_ports
from tests.warehouse.conftest import candle

SOON_S = 60.0
TOPIC = wire.topic("BINANCE_SPOT", "CANDLE", "BTCUSDT")


def configured(folder: Path, url: str, *more: str) -> Programs:
    """A kline runner's programs, whose feed is at ``feed`` in the folder."""
    return Programs(folder=folder).configure(
        "\n".join(
            (
                f"timescale.url = {json.dumps(url)}",
                'journal.dir = "journal"',
                *more,
                f'feeds.default.endpoint = "ipc://{folder}/feed"',
                'binance_klines.venues = ["BINANCE_SPOT"]',
            )
        )
    )


@asynccontextmanager
async def publishing(folder: Path) -> AsyncIterator[Publisher]:
    """A publisher at the feed, once the runner has subscribed to it."""
    endpoint = Endpoint(address=f"ipc://{folder}/feed", mode="bind")
    async with Publisher(endpoint=endpoint) as publisher:
        await publisher.wait_for_subscribers([TOPIC], timeout_s=SOON_S)
        yield publisher


async def test_a_fault_ends_a_runner_with_one_line_that_names_the_task(tmp_path: Path) -> None:
    """The fault: somebody else wrote into the journal while the runner was down."""
    with closing(free_ports()) as free:
        nobody = f"postgresql+asyncpg://u:p@127.0.0.1:{next(free)}/nothing"
        programs = configured(tmp_path, nobody, "ingest.shutdown_grace_s = 0")
        async with programs.kline_runner() as runner, publishing(tmp_path) as publisher:
            await publisher.publish(candle(0))
            await runner.received(1)
        with closing(sqlite3.connect(programs.journal, isolation_level=None)) as db:
            assert db.execute("UPDATE chunk SET body = x'c1'").rowcount == 1
        _, log = await programs.run("runners.kline", code=1)
    (line,) = (line for line in log.splitlines() if "TASK_DIED" in line)
    assert " ERROR " in line
    assert "task='write' error='DecodeError' reason=" in line
    assert "Traceback" in log
    assert "decode_chunk" in log


async def test_a_second_signal_ends_a_runner_whose_stop_hangs(
    tmp_path: Path, mart_url: str
) -> None:
    there = mart_url.rpartition("@")[2].partition("/")[0]
    async with Cable() as way:
        here = (await way.to(f"tcp://{there}")).removeprefix("tcp://")
        url = mart_url.replace(there, here)
        programs = configured(tmp_path, url, "ingest.shutdown_grace_s = 600")
        async with programs.kline_runner() as runner, publishing(tmp_path) as publisher:
            await publisher.publish(candle(0))
            await runner.until(lambda log: "BATCH_WRITTEN written=1" in log)
            way.stall()
            for minute in range(1, 8):
                await publisher.publish(candle(minute))
            await runner.received(8)
            runner.process.send_signal(signal.SIGTERM)
            await runner.until(lambda log: "STOPPING" in log)
            assert runner.process.returncode is None
            runner.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(runner.process.wait(), PATIENCE_S) == 128 + signal.SIGTERM
            _, rest = await runner.process.communicate()
            assert b"RUNNER_STOPPED" not in rest
        with closing(Reader(programs.journal)) as journal:
            assert journal.status().waiting == 7
        await way.cut()
        await way.mend()
        mart = Mart(dsn=mart_url.replace("+asyncpg", ""))
        async with programs.kline_runner():
            await until(lambda: mart.count() == 8)
