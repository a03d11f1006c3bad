"""What the health pages show changes nothing of what they show."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import closing
from pathlib import Path

import attrs
import msgspec
import pytest

from ravenwh.app.watched import Watched
from ravenwh.domain.messages import Candle
from ravenwh.feed import wire
from ravenwh.ingest import Silence, Worker
from ravenwh.journal import Store
from ravenwh.ports import Gap
from ravenwh.telemetry.live import Answer, page_at, serve_live
from tests.ingest.test_worker import FAST, Frames, Table, frame_of, is_candle
from tests.programs import free_ports
from tests.warehouse.conftest import candle

SECOND = 1_000_000_000
SOON_S = 60.0


def gap(seq: int) -> Gap:
    return Gap(feed="f", topic=b"T ", epoch=1, first_seq=seq, last_seq=seq, missing=1, reason="",
               detected_at=1)  # fmt: skip


async def test_a_scrape_leaves_the_gaps_of_the_journal_as_they_are(tmp_path: Path) -> None:
    watched = Watched()
    assert watched.reading() is None
    assert watched.troubles == ["starting: the journal and the sockets are being opened"]
    with closing(Store(tmp_path / "j.sqlite")) as store:
        worker = Worker[Candle](
            source=Frames(),
            decode=wire.decode,
            wants=is_candle,
            sink=Table(),
            journal=store,
            dead_letters=store,
        )
        why: list[str] = ["the database is away"]
        watched.follow(worker, store, lambda: why[0] if why else None)
        store.append([], gaps=[gap(1)])
        reading = watched.reading()
        assert reading is not None
        assert (reading.gaps_open, reading.is_ready) == (1, False)
        assert watched.troubles == ["the database is away"]
        store.append([], gaps=[gap(2)])  # goes on where the last one ended, and becomes one with it
        why.clear()
        reading = watched.reading()
        assert reading is not None
        assert (reading.gaps_open, reading.is_ready) == (1, True)


@pytest.mark.parametrize(
    ("spoke", "trouble"),
    [
        pytest.param(0, "nothing comes from feed f", id="it never spoke"),
        pytest.param(6, "all 1 streams of BINANCE_SPOT are silent", id="it spoke each second"),
    ],
)
async def test_a_runner_is_not_ready_while_its_feed_is_silent(
    tmp_path: Path, spoke: int, trouble: str
) -> None:
    silence = Silence(
        feeds=lambda: ["f"],
        venue_of=lambda stream: stream[1].split(b":")[0].decode(),
        start_s=0.0 if not spoke else 1e6,
    )
    frame = frame_of(candle(0))
    then = time.time_ns() - 60 * SECOND
    for number in range(spoke):
        silence.heard([msgspec.structs.replace(frame, received_at=then + number * SECOND)])
    watched, source = Watched(), Frames()
    with closing(free_ports()) as free:
        port = next(free)

    async def page(path: str, status: int) -> Answer:
        """The page, once it has this status."""
        async with asyncio.timeout(SOON_S):
            while True:
                found = await asyncio.to_thread(page_at, "127.0.0.1", port, path)
                if found is not None and found.status == status:
                    return found
                await asyncio.sleep(0.01)

    async with serve_live("127.0.0.1", port, "kline", troubles=lambda: watched.troubles):
        with closing(Store(tmp_path / "j.sqlite")) as store:
            worker = Worker[Candle](
                source=source,
                decode=wire.decode,
                wants=is_candle,
                sink=Table(),
                journal=store,
                dead_letters=store,
                limits=attrs.evolve(FAST, watch_every_s=0.01),
                silence=silence,
            )
            watched.follow(worker, store, lambda: None)
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(worker.run(stop))
                silent = await page("/readyz", 503)
                assert json.loads(silent.body) == {"ready": False, "troubles": [trouble]}
                await page("/livez", 200)  # so nobody restarts it, which would not help
                source.feed([msgspec.structs.replace(frame, received_at=time.time_ns())])
                await page("/readyz", 200)
                stop.set()
