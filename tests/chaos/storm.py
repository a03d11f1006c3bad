"""Everything that can go wrong, at random moments, while numbers are sent; and what came of it."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress

import attrs

from ravenwh.domain.settings.server import METRICS_OFFSET
from tests.chaos.numbers import Found
from tests.chaos.parts import Database, Publisher, Runner, database, ending, folder_on_disk
from tests.chaos.watch import Watch
from tests.feed.tcp import Cable
from tests.programs import free_ports, server_table

AWAY = "what is written to is away"


@attrs.frozen(kw_only=True)
class Plan:
    """How much of it. Times in seconds."""

    numbers: int
    rate: float
    seed: int
    kills: int
    down_s: float
    """The longest that the runner stays down after a kill."""
    stopped_s: float
    """How long the database is stopped."""
    cut_s: float
    slow_s: float
    full_s: float
    calm_s: float
    """The longest between two faults."""
    rounds: int
    """How often all faults but the kills of the runner are repeated."""
    settle_s: float
    """How long all of it may take to arrive after the last fault."""


SHORT = Plan(
    numbers=6_000,
    rate=400.0,
    seed=1,
    kills=3,
    down_s=1.5,
    stopped_s=3.0,
    cut_s=1.5,
    slow_s=1.5,
    full_s=1.5,
    calm_s=0.5,
    rounds=1,
    settle_s=60.0,
)
LONG = Plan(
    numbers=100_000,
    rate=330.0,
    seed=2,
    kills=20,
    down_s=10.0,
    stopped_s=30.0,
    cut_s=10.0,
    slow_s=10.0,
    full_s=10.0,
    calm_s=6.0,
    rounds=2,
    settle_s=240.0,
)


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
    alone: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    """Held while the runner is down, and while it must not be hurt."""

    def note(self, what: str) -> None:
        self.events.append((time.monotonic() - self.began, what))

    async def found(self) -> Found:
        return await asyncio.to_thread(Found.at, self.database.dsn, self.publisher.epochs)

    async def until_all_are_there(self, end: int, patience_s: float) -> Found:
        """Where the numbers below ``end`` are, when each is somewhere."""
        async with asyncio.timeout(patience_s):
            while True:
                found = await self.found()
                if len(found.written.keys() | found.missing.keys()) >= end:
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
        self.note(f"the publisher was {'killed' if kill else 'ended'} at {at:,} and started again")


async def kills(world: World) -> None:
    """The runner is killed again and again, whatever else happens."""
    plan = world.plan
    down = plan.kills * plan.down_s / 2
    between = max(0.2, (plan.numbers / plan.rate - down) / plan.kills)
    for _ in range(plan.kills):
        await asyncio.sleep(world.rng.uniform(0.1, 1.6 * between))
        await world.kill_runner(world.rng.uniform(0, plan.down_s))


async def faults(world: World) -> None:
    """All the others, one after the other, in a random order."""
    plan = world.plan

    async def cut(name: str, way: Cable, *others: Cable) -> None:
        for one in (way, *others):
            await one.cut()
        await asyncio.sleep(plan.cut_s)
        for one in (way, *others):
            await one.mend()
        world.note(f"the way to {name} was cut for {plan.cut_s:g} s")

    async def slow(name: str, way: Cable, bytes_per_s: float) -> None:
        way.bytes_per_s = bytes_per_s
        await asyncio.sleep(plan.slow_s)
        way.bytes_per_s = None
        world.note(f"the way to {name} had {bytes_per_s:,.0f} bytes/s for {plan.slow_s:g} s")

    async def stop() -> None:
        await world.database.stop_for(plan.stopped_s)
        world.note(f"the database was stopped for {plan.stopped_s:g} s")

    async def kill() -> None:
        await world.database.kill()
        world.note("the database was killed")

    async def terminate() -> None:
        count = await world.database.terminate_all()
        world.note(f"{count} connections were terminated")

    async def full() -> None:
        await world.database.full_for(plan.full_s)
        world.note(f"the disk of the table was full for {plan.full_s:g} s")

    for number in range(plan.rounds):
        deeds: list[Callable[[], Awaitable[None]]] = [
            stop,
            kill,
            terminate,
            lambda: cut("the feed", world.feed_way, world.control_way),
            lambda: slow("the feed", world.feed_way, 20_000),
            lambda: cut("the database", world.database_way),
            lambda: slow("the database", world.database_way, 100_000),
            lambda number=number: world.restart_publisher(kill=bool(number % 2)),  # type: ignore[misc]
        ]
        if world.database.space is not None:
            deeds.append(full)
        world.rng.shuffle(deeds)
        for deed in deeds:
            await asyncio.sleep(world.rng.uniform(0, plan.calm_s))
            await deed()


@attrs.frozen(kw_only=True)
class Report:
    """What came of it."""

    plan: Plan
    seconds: float
    settled_s: float
    durability: dict[str, str]
    disk_was_full: bool
    events: list[tuple[float, str]]
    written: int
    missing: int
    gaps: int
    wrong: list[str]
    scrapes: int
    imbalances: int
    unready: list[str]
    most_bytes: int
    log: str


async def storm(plan: Plan) -> Report:
    """Let all of it happen."""

    async def happen(world: World) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(kills(world))
            tasks.create_task(faults(world))

    return await played(plan, happen)


async def outrun(plan: Plan, ring_bytes: int) -> Report:
    """The runner is down for longer than the ring reaches back; nothing else happens."""

    async def happen(world: World) -> None:
        await asyncio.sleep(plan.numbers / plan.rate / 4)
        await world.kill_runner(plan.down_s)

    return await played(plan, happen, ring_bytes=ring_bytes)


async def played(
    plan: Plan, happen: Callable[[World], Awaitable[None]], *, ring_bytes: int = 32 << 20
) -> Report:
    """Send all numbers while it happens, wait until they have arrived, and look."""
    async with a_world(plan, ring_bytes) as world:
        durability = await world.database.durability()
        await world.runner.start()
        await world.publisher.start()
        world.began = time.monotonic()
        watching = asyncio.create_task(world.watch.run())
        try:
            await happen(world)
            await world.publisher.done.wait()
            ended = time.monotonic()
            with suppress(TimeoutError):  # then it is told which are not
                await world.until_all_are_there(plan.numbers, plan.settle_s)
            settled_s = time.monotonic() - ended
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        watching.exception() if not watching.cancelled() else None
        await world.runner.stop()
        found = await world.found()
        return Report(
            plan=plan,
            seconds=time.monotonic() - world.began,
            settled_s=settled_s,
            durability=durability,
            disk_was_full=world.database.space is not None,
            events=sorted(world.events),
            written=found.written.total(),
            missing=found.missing.total(),
            gaps=found.gaps,
            wrong=found.wrong(range(plan.numbers)),
            scrapes=world.watch.scrapes,
            imbalances=len(world.watch.imbalances),
            unready=sorted(world.watch.unready),
            most_bytes=world.watch.most_bytes,
            log=world.runner.log,
        )


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
