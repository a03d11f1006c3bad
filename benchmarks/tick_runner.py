"""The tick runner as a process: how many trades a second, for how much of the processor and memory.

    python -m benchmarks.tick_runner [--trades 1000000] [--rounds 3] [--away 300 --rate 5000]

A publisher in a process of its own, ``python -m runners.tick``, and Debian's InfluxDB behind the
shim of the tests, which forwards; all of them on the cores that there are. The runner's processor
time a trade is held against the sum of its parts, each measured alone before and after. With
``--away`` InfluxDB is stopped for so many seconds, while trades come at ``--rate`` a second; then
it is counted whether all of them are there, and how long that took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, closing
from pathlib import Path

import attrs

from benchmarks.ticks import (
    TOKEN,
    Bucket,
    cpu,
    frames_of,
    influxdb,
    parts,
    program,
    server_at,
    stream,
    told,
    trades,
)
from ravenwh.cli.terminal import collect_seldom
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.subscriber import Upstream, ZmqSource
from ravenwh.ingest import Limits
from tests.chaos.fuzz import resident
from tests.chaos.watch import frames, imbalance, page, samples
from tests.programs import Programs, free_ports
from tests.servers import open_folder

TOPICS = b"BINANCE_FUTURES:TRADE:"
ALONE = 200_000
"""Trades that the parts are measured with."""
EVERY_S = 1.0
"""How often the runner is looked at, which costs it some milliseconds each time."""
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
MIB = 2**20


async def publish(address: str, number: int, rate: float | None) -> None:
    """Send them as fast as they are taken, or so many a second; tell how much of the processor."""
    collect_seldom()
    endpoint = Endpoint(address=address, mode="bind")
    async with Publisher(endpoint=endpoint, ring_bytes=16 * MIB) as publisher:
        await publisher.wait_for_subscribers([TOPICS], timeout_s=60)
        began, used = time.monotonic(), time.process_time()
        for i, trade in enumerate(stream(number)):
            await publisher.publish(trade)
            if rate is not None and i % 50 == 0:
                await asyncio.sleep(max(0.0, began + i / rate - time.monotonic()))
        print(time.process_time() - used, flush=True)
        await publisher.close(600)


def publisher(
    address: str, number: int, rate: float | None = None
) -> AbstractContextManager[subprocess.Popen[str]]:
    """The same in a process of its own."""
    words = ["--publish", address, "--trades", str(number)]
    words += [] if rate is None else ["--rate", str(rate)]
    return program("benchmarks.tick_runner", *words)


async def received(address: str, number: int) -> None:
    """All of them, through what a runner receives with."""
    upstream = Upstream(feed="f", endpoint=Endpoint(address=address), topics=(TOPICS,))
    with ZmqSource(upstreams=[upstream]) as source:
        left, limit = number, Limits().receive_frames
        while left:
            left -= len(await source.receive(limit))


def alone(url: str) -> dict[str, float]:
    """Microseconds of the processor a trade, of each part by itself.

    The other cores are kept busy, as they are beside the runner: cores that share their units take
    more time then for the same work.
    """
    with ExitStack() as stack:
        for _ in range(1, os.cpu_count() or 1):
            stack.enter_context(program("benchmarks.tick_runner", "--busy"))
        folder = stack.enter_context(open_folder())
        server = stack.enter_context(closing(server_at(url)))
        works = parts(frames_of(trades(ALONE)), server)
        address = f"ipc://{folder}/alone"
        with publisher(address, ALONE):
            took = {"receive": cpu(lambda: asyncio.run(received(address, ALONE)))}
        took |= {name: cpu(work) for name, work in works.items()}
    return {name: seconds / ALONE * 1e6 for name, seconds in took.items()}


@attrs.define(kw_only=True)
class Seen:
    """A run, as it was seen from outside."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    others: dict[str, float] = attrs.field(factory=dict)
    memory: list[int] = attrs.field(factory=list)
    most_in_journal: int = 0
    imbalances: int = 0
    unready: set[str] = attrs.field(factory=set)


def used(pid: int) -> float:
    """Seconds of the processor that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def runner_on(bucket: Bucket, port: int) -> tuple[Programs, str]:
    """A runner with a journal of its own, and where it takes its feed."""
    folder = bucket.folder / str(port)
    folder.mkdir()
    address = f"ipc://{folder}/feed"
    programs = Programs(folder=folder).configure(
        f"""
        timescale.url = "postgresql://nobody@127.0.0.1:1/nothing"
        journal.dir = "journal"
        influx = {{ url = {json.dumps(bucket.url)}, token = "{TOKEN}", retention_days = 0 }}
        feeds.default.endpoint = {json.dumps(address)}
        ticks.collect = ["BINANCE_FUTURES:TRADE:*"]
        """,
        tick_port=port,
    )
    return programs, address


@asynccontextmanager
async def watched(port: int, pid: int, seen: Seen) -> AsyncIterator[None]:
    """Look at the runner every now and then during the block."""

    async def look() -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            seen.memory.append(resident(pid))
            status, said = await page(port + 1000, "/readyz")
            if status != 200:
                seen.unready.update(t.partition(":")[0] for t in json.loads(said)["troubles"])

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def through(
    bucket: Bucket, number: int, *, rate: float | None = None, away_s: float = 0.0
) -> Seen:
    """All of them through a runner; InfluxDB is stopped for so long, from the second second on."""
    with closing(free_ports()) as free:
        port = next(free)
    programs, address = runner_on(bucket, port)
    seen = Seen()
    async with programs.runner("tick") as runner:
        pid = runner.process.pid
        drained = asyncio.create_task(drain(runner.process.stderr))
        with publisher(address, number, rate) as sender:
            while not frames(await scraped(port), "received"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # it is another process that counts
            began, cpu_before = time.perf_counter(), used(pid)
            servers = {"influxd": bucket.influxd.pid, "shim": bucket.shim.pid}
            before = {name: used(pid) for name, pid in servers.items()}
            async with watched(port, pid, seen):
                if away_s:
                    await asyncio.sleep(2)
                    bucket.influxd.stop()
                    await asyncio.sleep(away_s)
                    bucket.influxd.start()
                    print(f"  back after {away_s:g} s", flush=True)
                while frames(found := await scraped(port), "written") < number:
                    seen.imbalances += imbalance(found) != 0
                    waiting = int(found["ravenwh_frames_in_journal"])
                    seen.most_in_journal = max(seen.most_in_journal, waiting)
                    is_near = frames(found, "written") > 0.95 * number
                    await asyncio.sleep(EVERY_S / 10 if is_near else EVERY_S)
            seen.wall_s, seen.cpu_s = time.perf_counter() - began, used(pid) - cpu_before
            if not away_s:  # else it is another process by now
                seen.others = {n: used(server) - before[n] for n, server in servers.items()}
            seen.others["publisher"] = float(told(sender))
        drained.cancel()
    return seen


async def drain(log: asyncio.StreamReader | None) -> None:
    """Read the log, so that its pipe does not fill."""
    assert log is not None
    while await log.read(65_536):
        pass


async def scraped(port: int) -> dict[str, float]:
    """The metrics of the runner."""
    return samples((await page(port + 1000, "/metrics"))[1])


def tell_speed(bucket: Bucket, number: int, rounds: int) -> None:
    """The rate, and the runner against its parts, which are measured before and after it."""
    apart = [alone(bucket.url)]
    for _ in range(rounds):
        bucket.empty()  # the parts wrote into it
        seen = asyncio.run(through(bucket, number))
        bucket.require(number)
        apart.append(alone(bucket.url))
        own = seen.cpu_s / number * 1e6
        by_part = {name: (apart[-2][name] + apart[-1][name]) / 2 for name in apart[0]}
        got = (seen.cpu_s + sum(seen.others.values())) / seen.wall_s
        print(
            f"  {number:,} trades: {number / seen.wall_s:,.0f} a second, with {got:.2f} of "
            f"{os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}; {seen.most_in_journal:,} at "
            "most waited in the journal\n"
            f"    processor a trade: the runner {own:.2f} us, {own / sum(by_part.values()):.2f} of "
            f"the sum of its parts ({shown(by_part)});\n"
            f"    {shown({name: s / number * 1e6 for name, s in seen.others.items()})}\n"
            f"    memory, the most in each tenth of the time: {tenths(seen.memory)} MiB",
            flush=True,
        )


def shown(microseconds: dict[str, float]) -> str:
    """Names with their figures."""
    return ", ".join(f"{name} {each:.2f} us" for name, each in microseconds.items())


def tenths(memory: list[int]) -> str:
    """The most of each tenth, in MiB."""
    size = max(1, -(-len(memory) // 10))
    return " ".join(f"{max(memory[i : i + size]) / MIB:.0f}" for i in range(0, len(memory), size))


def tell_outage(bucket: Bucket, away_s: float, rate: float) -> None:
    """InfluxDB away for a while."""
    number = int((away_s + 20) * rate)
    seen = asyncio.run(through(bucket, number, rate=rate, away_s=away_s))
    bucket.require(number)
    print(
        f"  {number:,} trades at {rate:,.0f} a second, InfluxDB away for {away_s:g} s: all there "
        f"after {seen.wall_s:.0f} s; {seen.most_in_journal:,} waited when it was back; "
        f"{seen.imbalances} scrapes did not add up; not ready: {', '.join(sorted(seen.unready))}\n"
        f"    memory, the most in each tenth of the time: {tenths(seen.memory)} MiB"
    )
    assert seen.unready
    assert not seen.imbalances


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trades", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--away", type=float)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--publish", help=argparse.SUPPRESS)
    parser.add_argument("--busy", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    while options.busy:
        pass
    if options.publish:
        asyncio.run(publish(options.publish, options.trades, options.rate))
        return
    collect_seldom()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    with influxdb() as bucket:
        if options.away is None:
            tell_speed(bucket, options.trades, options.rounds)
        else:
            tell_outage(bucket, options.away, options.rate or 5_000.0)


if __name__ == "__main__":
    main()
