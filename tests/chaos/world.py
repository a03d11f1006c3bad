"""What a storm goes over: all parts at work, the ways between them, and what was done to them."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import attrs

from ravenwh.domain.settings.server import METRICS_OFFSET
from tests.chaos.numbers import SYMBOLS, Found
from tests.chaos.parts import Database, Publisher, Runner, database, ending, folder_on_disk
from tests.chaos.watch import Watch, metrics_when
from tests.feed.tcp import Cable
from tests.programs import free_ports, server_table

DISK_FULL = "(53100)"
"""How the log of a runner shows this SQLSTATE."""


@attrs.frozen(kw_only=True)
class Plan:
    """How much of it. Times in seconds."""

    numbers: int
    """That many, and more if the faults last longer."""
    rate: float
    seed: int
    kills: int
    down_s: float
    """The longest that the runner stays down after a kill."""
    stopped_s: float
    """How long the database is stopped."""
    cut_s: float
    lost_s: float
    """How much a publisher has sent, by its rate, that dies with it."""
    slow_s: float
    full_s: float
    calm_s: float
    """The longest between two faults."""
    rounds: int
    """How often all faults but the kills of the runner are repeated."""
    settle_s: float
    """How long all of it may take to arrive after the last fault."""


@attrs.define(kw_only=True)
class World:
    """All parts at work, and what happened to them."""

    plan: Plan
    database: Database
    publisher: Publisher
    runner: Runner
    watch: Watch
    feed_way: Cable
    control_way: Cable
    database_way: Cable
    rng: random.Random
    began: float = attrs.field(factory=time.monotonic)
    events: list[tuple[float, str]] = attrs.field(factory=list)
    terminated: list[int] = attrs.field(factory=list)
    """How many connections were, each time."""
    refusals: list[int] = attrs.field(factory=list)
    """How often a runner logged that the disk of the table was full, each time that it was."""
    last_words: list[range] = attrs.field(factory=list)
    """What each publisher sent that was killed, from one on that was in the table before."""
    alone: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    """Held while the runner is down, and while it must not be hurt."""

    def note(self, what: str) -> None:
        self.events.append((time.monotonic() - self.began, what))

    async def found(self) -> Found:
        return await asyncio.to_thread(Found.at, self.database.dsn, self.publisher.epochs)

    async def until_all_are_there(self, end: int, patience_s: float) -> Found:
        """Where the numbers below ``end`` are, when each is somewhere that can be."""
        async with asyncio.timeout(patience_s):
            while True:
                found = await self.found()
                if not found.nowhere(range(end), self.last_words):
                    return found
                await asyncio.sleep(0.5)

    async def kill_runner(self, down_s: float) -> None:
        async with self.alone:
            await self.runner.kill()
            await asyncio.sleep(down_s)
            await self.runner.start()
        self.note(f"the runner was killed, and was down for {down_s:.1f} s")

    async def restart_publisher(self, *, kill: bool) -> None:
        """Another epoch, whose ring is empty: so the earlier one has to have arrived."""
        async with self.alone:
            at = await self.publisher.say("pause")
            await self.until_all_are_there(at, self.plan.settle_s)
            await self.publisher.end_process(kill=kill)
            await self.publisher.start(at)
        what = f"the publisher was {'killed' if kill else 'ended'} at {at:,} and started again"
        self.note(f"{what}, when all of it had arrived")

    async def kill_publisher_unheard(self) -> None:
        """While the runner is down: what was sent since then has nobody who knows of it."""
        async with self.alone:
            taken = await self.all_but_the_last()
            await self.runner.kill()
            await self.publisher.sends(int(self.plan.lost_s * self.plan.rate))
            at = await self.publisher.die()
            self.last_words.append(range(taken, at))
            await self.publisher.start(at)
            await self.runner.start()
        self.note(f"the runner was killed, then the publisher at {at:,}, then both were started")

    async def kill_publisher_in_a_gap(self) -> None:
        """While the runner sees that numbers are missing, and cannot ask for them yet."""
        async with self.alone:
            taken = await self.all_but_the_last()
            await self.feed_way.cut()
            await self.control_way.cut()
            await self.publisher.sends(int(self.plan.lost_s * self.plan.rate))
            await self.feed_way.mend()
            await self.until_gaps_are_seen()
            at = await self.publisher.die()
            self.last_words.append(range(taken, at))
            await self.control_way.mend()
            await self.publisher.start(at)
        self.note(f"the publisher was killed at {at:,}, with a gap open, and started again")

    async def all_but_the_last(self) -> int:
        """A number up to which all have arrived, though others are on their way."""
        at = await self.publisher.say("where")
        await self.until_all_are_there(at, self.plan.settle_s)
        return at

    async def until_gaps_are_seen(self) -> None:
        """One in every topic, by a runner that is up."""
        await metrics_when(
            self.runner.metrics_port,
            lambda found: found["ravenwh_gaps_open"] >= len(SYMBOLS),
            patience_s=self.plan.settle_s,
        )

    def full_disks(self) -> int:
        """How often the runners have logged that a disk was full."""
        return self.runner.log.count(DISK_FULL)


@asynccontextmanager
async def a_world(plan: Plan, ring_bytes: int) -> AsyncIterator[World]:
    """All parts, on a disk, with the ways between them; the processes are not started yet."""
    with closing(free_ports()) as free, folder_on_disk() as folder:
        kline, frames, control, postgres = (next(free) for _ in range(4))
        free.close()
        async with (
            database(folder, postgres) as base,
            Cable() as feed_way,
            Cable() as control_way,
            Cable() as database_way,
        ):
            endpoint, answers = (f"tcp://127.0.0.1:{port}" for port in (frames, control))
            way = await database_way.to(f"tcp://127.0.0.1:{postgres}")
            url = base.server.url.replace(f":{postgres}/", f":{way.rpartition(':')[2]}/")
            (folder / "ravenwh.toml").write_text(f"""
                timescale.url = {json.dumps(url)}
                journal.dir = "journal"
                ingest.retry_max_s = 1.0
                feeds.default.endpoint = "{await feed_way.to(endpoint)}"
                feeds.default.control = "{await control_way.to(answers)}"
                binance_klines.venues = ["BINANCE_SPOT"]
                {server_table(kline_port=kline)}
            """)
            publisher = Publisher(
                endpoint=endpoint,
                control=answers,
                end=plan.numbers,
                rate=plan.rate,
                ring_bytes=ring_bytes,
            )
            runner = Runner(folder=folder, metrics_port=kline + METRICS_OFFSET)
            async with ending(publisher, runner):
                yield World(
                    plan=plan,
                    database=base,
                    publisher=publisher,
                    runner=runner,
                    watch=Watch(runner=runner),
                    feed_way=feed_way,
                    control_way=control_way,
                    database_way=database_way,
                    rng=random.Random(plan.seed),
                )
