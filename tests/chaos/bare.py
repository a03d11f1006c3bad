"""Klines on a wire without numbers, from a publisher that keeps nothing, to a runner that dies."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import attrs
import psycopg
import zmq

from ravenwh.domain.series import to_ns
from ravenwh.domain.settings.server import METRICS_OFFSET
from ravenwh.journal import Store
from tests.chaos.numbers import COINS, MINUTE, START
from tests.chaos.parts import Runner
from tests.chaos.watch import Watch, frames, metrics_when
from tests.programs import free_ports, server_table

PATIENCE_S = 180.0
"""A gap is one for good after 90 s, and is noted at the next look."""


@attrs.frozen(kw_only=True)
class Bare:
    """What came of it; ``noted`` in the table of gaps, and ``open``, in the journal still."""

    sent: int
    kills: int
    written: int
    visible: int
    noted: int
    open: int
    gaps: int
    wrong: list[str]
    scrapes: int
    imbalances: int


Gap = tuple[str, int, int, int]
"""Topic, from and to in nanoseconds, half-open, and how many klines that are."""


def line(number: int, exchange: str = "BINANCE") -> bytes:
    """The kline of a number, as cryptofeed writes it."""
    coin, start = COINS[number % len(COINS)], START // 10**9 + number // len(COINS) * 60
    payload = {
        "exchange": exchange,
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
    return f"{exchange}-candles-{coin}-USDT {json.dumps(payload)}".encode()


@attrs.frozen(kw_only=True)
class Sending:
    """Connects, and sends at a rate until it is enough; what nobody takes is gone."""

    endpoint: str
    count: int
    rate: float
    enough: threading.Event = attrs.field(factory=threading.Event)
    stop: threading.Event = attrs.field(factory=threading.Event)

    def run(self) -> int:
        """At least ``count`` klines; how many they were."""
        with zmq.Context() as context, context.socket(zmq.PUB) as socket:
            socket.set(zmq.LINGER, 1_000)
            socket.set(zmq.SNDHWM, 10)  # of the usual 1,000 nothing would be lost here
            socket.connect(self.endpoint)
            began, number = time.monotonic(), 0
            while number < self.count or not self.enough.is_set():
                socket.send(line(number))
                number += 1
                ahead = number / self.rate - (time.monotonic() - began)
                if ahead > 0 and self.stop.wait(ahead):
                    break
            return number


async def on_a_bare_wire(
    folder: Path,
    url: str,
    *,
    seed: int,
    klines: int,
    rate: float,
    kills: int,
    down_s: float,
    up_s: float,
    until_noted: bool = True,
) -> Bare:
    """Send them to a runner in the folder while it is killed, and look.

    It is up for ``up_s`` and down for ``down_s`` at most, each time. Its gaps are in the table at
    the end if they are to be ``until_noted``, in its journal else.
    """
    rng = random.Random(seed)
    with closing(free_ports()) as free:
        port, endpoint = next(free), f"tcp://127.0.0.1:{next(free)}"
    configure(folder, url, endpoint, port)
    runner = Runner(folder=folder, metrics_port=port + METRICS_OFFSET)
    watch = Watch(runner=runner)
    sending = Sending(endpoint=endpoint, count=klines, rate=rate)
    await runner.start()
    watching = asyncio.create_task(watch.run())
    sent = asyncio.create_task(asyncio.to_thread(sending.run))
    try:
        await until_it_receives(runner)
        for _ in range(kills):
            await asyncio.sleep(rng.uniform(up_s / 4, up_s))
            await runner.kill()
            await asyncio.sleep(rng.uniform(down_s / 2, down_s))
            await runner.start()
            await until_it_receives(runner)
        sending.enough.set()
        await sent
        if until_noted:
            await until_no_gap_is_open(runner)
        await runner.stop()
    finally:
        sending.stop.set()
        sending.enough.set()
        watching.cancel()
        await asyncio.wait([watching, sent])
        if runner.process is not None and runner.process.returncode is None:
            await runner.kill()
    return await asyncio.to_thread(look, folder, url, sent.result(), kills, watch)


async def until_it_receives(runner: Runner) -> None:
    """Wait until each coin had its turn at a runner that was just started."""
    await metrics_when(
        runner.metrics_port, lambda found: frames(found, "received") >= 2 * len(COINS)
    )


async def until_no_gap_is_open(runner: Runner) -> None:
    """Wait until all that is missing is noted for good."""
    await metrics_when(
        runner.metrics_port,
        lambda found: not found["ravenwh_gaps_open"],
        patience_s=PATIENCE_S,
    )


def configure(folder: Path, url: str, endpoint: str, port: int) -> None:
    (folder / "ravenwh.toml").write_text(f"""
        timescale.url = {json.dumps(url)}
        journal.dir = "journal"
        feeds.default = {{ endpoint = "{endpoint}", mode = "bind", wire = "cryptofeed" }}
        binance_klines.venues = ["BINANCE_SPOT"]
        {server_table(kline_port=port)}
    """)


def look(folder: Path, url: str, sent: int, kills: int, watch: Watch) -> Bare:
    """What is in the table, what is noted as missing, and what of it should not be."""
    with psycopg.connect(url.replace("+asyncpg", "")) as connection:
        rows = connection.execute("SELECT coin, open_time, volume FROM mart.kline_1m").fetchall()
        ledger: list[Gap] = [
            (topic, to_ns(start), to_ns(end), missing)
            for topic, start, end, missing in connection.execute(
                "SELECT topic, start_time, end_time, missing FROM mart.ops__feed_gap"
            )
        ]
    journal = open_gaps(folder / "journal" / "kline.sqlite")
    written = {(coin, to_ns(at)): int(volume) for coin, at, volume in rows}
    noted, still_open = minutes(ledger), minutes(journal)
    either = noted + still_open
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
            ("are missing and not noted", visible - either.keys()),
            ("are noted and not missing", either.keys() - visible),
            ("are noted more than once", {key for key, n in either.items() if n > 1}),
        )
        if found
    ]
    if len(set(written.values())) != len(written):
        wrong.append("a kline is in the table more than once")
    if sum(missing for *_, missing in ledger + journal) != either.total():
        wrong.append("their own counts are others")
    return Bare(
        sent=sent,
        kills=kills,
        written=len(written),
        visible=len(visible),
        noted=noted.total(),
        open=still_open.total(),
        gaps=len(ledger),
        wrong=wrong,
        scrapes=watch.scrapes,
        imbalances=len(watch.imbalances),
    )


def open_gaps(path: Path) -> list[Gap]:
    """The gaps that a runner which has ended left in its journal."""
    store = Store(path)
    try:
        return [
            (gap.topic.decode(), gap.start_time or 0, gap.end_time or 0, gap.missing or 0)
            for _, gap in store.gaps()
        ]
    finally:
        store.close()


def minutes(gaps: Sequence[Gap]) -> Counter[tuple[str, int]]:
    """Coin and time of each kline that is missing by these."""
    return Counter(
        (topic.split(":")[2].split("USDT")[0], at)
        for topic, start, end, _ in gaps
        for at in range(start, end, MINUTE)
    )
