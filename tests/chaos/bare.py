"""Klines on a wire without numbers, from a publisher that keeps nothing, to a runner that dies."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import attrs
import psycopg
import zmq

from ravenwh.domain.series import to_ns
from ravenwh.domain.settings.server import METRICS_OFFSET
from tests.chaos.numbers import COINS, MINUTE, START
from tests.chaos.parts import Runner, database, folder_on_disk
from tests.chaos.watch import Watch
from tests.programs import free_ports, server_table

PATIENCE_S = 180.0
"""A gap is one for good after 90 s, and is noted at the next look."""


@attrs.frozen(kw_only=True)
class Bare:
    """What came of it."""

    sent: int
    kills: int
    written: int
    visible: int
    noted: int
    gaps: int
    wrong: list[str]
    imbalances: int


def line(number: int) -> bytes:
    """The kline of a number, as cryptofeed writes it."""
    coin, start = COINS[number % len(COINS)], START // 10**9 + number // len(COINS) * 60
    payload = {
        "exchange": "BINANCE",
        "symbol": f"{coin}-USDT",
        "start": float(start),
        "stop": start + 59.999,
        "interval": "1m",
        "trades": 3,
        "open": 1.0,
        "close": 1.5,
        "high": 2.0,
        "low": 0.5,
        "volume": float(number),
        "closed": True,
        "timestamp": start + 59.999,
        "receipt_timestamp": start + 60.0,
    }
    return f"BINANCE-candles-{coin}-USDT {json.dumps(payload)}".encode()


def send(endpoint: str, count: int, rate: float, stop: threading.Event) -> None:
    """Connect, and send at a rate; what nobody takes is gone."""
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.set(zmq.LINGER, 1_000)
        socket.set(zmq.SNDHWM, 10)  # of the usual 1,000 nothing would be lost here
        socket.connect(endpoint)
        stop.wait(1.0)  # as the runner is there already, it is connected then
        began = time.monotonic()
        for number in range(count):
            socket.send(line(number))
            ahead = number / rate - (time.monotonic() - began)
            if ahead > 0 and stop.wait(ahead):
                return


async def on_a_bare_wire(*, seed: int, klines: int, rate: float, kills: int, down_s: float) -> Bare:
    """Send them while the runner is killed, wait until the gaps are noted, and look."""
    rng, stop = random.Random(seed), threading.Event()
    with closing(free_ports()) as free, folder_on_disk() as folder:
        port, frames, postgres = next(free), next(free), next(free)
        free.close()
        async with database(folder, postgres) as base:
            endpoint = f"tcp://127.0.0.1:{frames}"
            configure(folder, base.server.url, endpoint, port)
            runner = Runner(folder=folder, metrics_port=port + METRICS_OFFSET)
            watch = Watch(runner=runner)
            await runner.start()
            watching = asyncio.create_task(watch.run())
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while "RUNNER_STARTED" not in runner.log:  # noqa: ASYNC110  another process
                        await asyncio.sleep(0.1)
                sending = asyncio.create_task(asyncio.to_thread(send, endpoint, klines, rate, stop))
                for _ in range(kills):
                    await asyncio.sleep(rng.uniform(2, klines / rate / kills - down_s))
                    await runner.kill()
                    await asyncio.sleep(rng.uniform(0.5, down_s))
                    await runner.start()
                await sending
                async with asyncio.timeout(PATIENCE_S):
                    while not watch.last or watch.last["ravenwh_gaps_open"]:  # noqa: ASYNC110
                        await asyncio.sleep(1.0)
                await runner.stop()
            finally:
                stop.set()
                watching.cancel()
                await asyncio.wait([watching])
                if runner.process is not None and runner.process.returncode is None:
                    await runner.kill()
            return await asyncio.to_thread(look, base.dsn, klines, kills, len(watch.imbalances))


def configure(folder: Path, url: str, endpoint: str, port: int) -> None:
    (folder / "ravenwh.toml").write_text(f"""
        timescale.url = {json.dumps(url)}
        journal.dir = "journal"
        feeds.default = {{ endpoint = "{endpoint}", mode = "bind", wire = "cryptofeed" }}
        binance_klines.venues = ["BINANCE_SPOT"]
        {server_table(kline_port=port)}
    """)


def look(dsn: str, sent: int, kills: int, imbalances: int) -> Bare:
    """What is in the table, what is in the ledger, and what of it should not be."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT coin, open_time, volume FROM mart.kline_1m").fetchall()
        gaps = connection.execute(
            "SELECT topic, start_time, end_time, missing FROM mart.ops__feed_gap"
        ).fetchall()
    written = {(coin, to_ns(at)): int(volume) for coin, at, volume in rows}
    noted = Counter(
        (coin, at)
        for coin, start, end in (
            (topic.split(":")[2].split("USDT")[0], to_ns(start), to_ns(end))
            for topic, start, end, _ in gaps
        )
        for at in range(start, end, MINUTE)
    )
    visible = {
        (coin, at)
        for coin in COINS
        if (times := [at for name, at in written if name == coin])
        for at in range(min(times), max(times), MINUTE)
        if (coin, at) not in written
    }
    wrong = [
        f"{len(found)} minutes {what}"
        for what, found in (
            ("are missing and not noted", visible - noted.keys()),
            ("are noted and not missing", noted.keys() - visible),
            ("are noted more than once", {key for key, n in noted.items() if n > 1}),
        )
        if found
    ]
    if len(set(written.values())) != len(written):
        wrong.append("a kline is in the table more than once")
    if sum(missing for *_, missing in gaps) != noted.total():
        wrong.append("the ledger's own counts are others")
    return Bare(
        sent=sent,
        kills=kills,
        written=len(written),
        visible=len(visible),
        noted=len(noted),
        gaps=len(gaps),
        wrong=wrong,
        imbalances=imbalances,
    )
