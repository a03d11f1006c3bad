"""Everything that can go wrong, at random moments, while numbers are sent; and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import chain

import attrs

from tests.chaos.world import Plan, World, a_world
from tests.feed.tcp import Cable

AWAY = "what is written to is away"

SHORT = Plan(
    numbers=6_000,
    rate=400.0,
    seed=1,
    kills=3,
    down_s=1.0,
    stopped_s=2.0,
    cut_s=1.0,
    lost_s=0.5,
    slow_s=1.0,
    full_s=0.5,
    calm_s=0.2,
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
    lost_s=2.0,
    slow_s=10.0,
    full_s=10.0,
    calm_s=6.0,
    rounds=2,
    settle_s=240.0,
)


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
        async with world.alone:
            count = await world.database.terminate()
        world.terminated.append(count)
        world.note(f"the runner's connections to the database were terminated: {count}")

    async def full() -> None:
        before, began = world.full_disks(), time.monotonic()
        await world.database.full_for(plan.full_s, lambda: world.full_disks() > before)
        count, seconds = world.full_disks() - before, time.monotonic() - began
        world.refusals.append(count)
        world.note(
            f"the disk of the table was full for {seconds:.0f} s; lines of the runner with "
            f"SQLSTATE 53100: {count}"
        )

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


async def deaths(world: World) -> None:
    """Publishers die with numbers that nobody has taken, and the runner after each of them."""
    plan = world.plan
    for _ in range(plan.rounds):
        deeds = [world.kill_publisher_unheard, world.kill_publisher_in_a_gap]
        world.rng.shuffle(deeds)
        for deed in deeds:
            await asyncio.sleep(world.rng.uniform(0, plan.calm_s))
            await deed()
            await world.kill_runner(world.rng.uniform(0, plan.down_s))


@attrs.frozen(kw_only=True)
class Report:
    """What came of it."""

    plan: Plan
    seconds: float
    settled_s: float
    durability: dict[str, str]
    disk_was_full: bool
    events: list[tuple[float, str]]
    terminated: list[int]
    refusals: list[int]
    sent: int
    written: int
    missing: int
    missing_needlessly: int
    """Those of them that no publisher took with it."""
    unseen: int
    """Those that died with a publisher, and that nobody can know of."""
    gaps: int
    wrong: list[str]
    scrapes: int
    imbalances: int
    unready: list[str]
    most_bytes: int
    log: str


async def storm(plan: Plan) -> Report:
    """All that nothing may be lost by."""

    async def happen(world: World) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(kills(world))
            tasks.create_task(faults(world))

    return await played(plan, happen)


async def bereft(plan: Plan) -> Report:
    """Publishers die, and what nobody has taken dies with them; the runner is killed after each."""
    return await played(plan, deaths)


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
            await world.publisher.say("enough")
            await world.publisher.done.wait()
            sent, ended = world.publisher.sent, time.monotonic()
            with suppress(TimeoutError):  # then it is told which are not
                await world.until_all_are_there(sent, plan.settle_s)
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
            terminated=world.terminated,
            refusals=world.refusals,
            sent=sent,
            written=found.written.total(),
            missing=found.missing.total(),
            missing_needlessly=len(found.missing.keys() - set(chain(*world.last_words))),
            unseen=len(found.unseen(world.last_words)),
            gaps=found.gaps,
            wrong=found.wrong(range(sent), world.last_words),
            scrapes=world.watch.scrapes,
            imbalances=len(world.watch.imbalances),
            unready=sorted(world.watch.unready),
            most_bytes=world.watch.most_bytes,
            log=world.runner.log,
        )
