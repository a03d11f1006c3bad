"""The way of a bar: recorded trades from a file, made into bars, written, and read again."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
import re
import signal
import zipfile
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import psycopg
import pytest
from psycopg import sql

from ravenwh.domain.profile import kind_of
from ravenwh.domain.settings.server import METRICS_OFFSET
from ravenwh.features import Bar, Chain, parse_profile
from ravenwh.telemetry.live import page_at
from ravenwh.warehouse.bars import BAR_FACTS
from tests.conftest import migrate
from tests.engines.fixtures import EngineDatabase
from tests.programs import PATIENCE_S, Programs, ended, free_ports

PROFILES: Mapping[str, Mapping[str, float]] = {
    "tib_small": {"expected_ticks": 100},
    "trb_small": {"expected_ticks": 100},
    "vib_small": {"expected_ticks": 100},
    "vpin_small": {"bucket_volume": 10.0, "slices": 5, "buckets": 20},
}
FILE = "trades_vision/um/BTCUSDT/BTCUSDT-trades-2024-08-08.zip"
Row = tuple[Any, ...]


@attrs.frozen
class World:
    """A mart of its own, and the programs that are set to it."""

    programs: Programs
    uri: str
    make_bars_port: int

    def misses_nothing(self) -> bool:
        """Whether make_bars has received trades, and waits for none to be sent again.

        A publisher that is killed before it did that has lost them: another one has other numbers.
        """
        page = page_at("127.0.0.1", self.make_bars_port + METRICS_OFFSET, "/metrics")
        told = b"" if page is None else page.body
        return all(
            re.search(line, told, re.MULTILINE)
            for line in (
                rb'^ravenwh_frames_total\{outcome="received"\} [1-9]',
                rb"^ravenwh_gaps_open 0(\.0)?$",
            )
        )

    def rows(self, profile: str) -> list[Row]:
        """The bars of a profile in the mart: times in ns, then the values."""
        fact = BAR_FACTS[kind_of(profile)]
        own = ("theta",) if "theta" in fact.table.c else ("vpin", "buy_volume", "sell_volume")
        query = sql.SQL("""
            SELECT extract(epoch FROM open_time) * 1000000000, bar_seq,
                   extract(epoch FROM close_time) * 1000000000, open, high, low, close, volume,
                   buy_ticks, sell_ticks, total_ticks, after_gap, {own}
            FROM mart.{table} JOIN mart.dim__interval USING (interval_id)
            WHERE "interval" = %s ORDER BY open_time, bar_seq
        """).format(
            own=sql.SQL(", ").join(map(sql.Identifier, own)), table=sql.Identifier(fact.table.name)
        )
        with psycopg.connect(self.uri) as connection:
            return connection.execute(query, (profile,)).fetchall()

    def counted(self) -> int:
        """All bars in the mart."""
        return sum(len(self.rows(profile)) for profile in PROFILES)


@pytest.fixture
def world(tmp_path: Path, each_server: EngineDatabase) -> World:
    migrate(each_server.url)
    with closing(free_ports()) as free:
        ports = {f"{name}_port": next(free) for name in ("replay", "make_bars")}
    profiles = "\n".join(
        f"{name} = {{ {', '.join(f'{k} = {v}' for k, v in p.items())} }}"
        for name, p in PROFILES.items()
    )
    programs = Programs(folder=tmp_path).configure(
        f"""
        timescale.url = {json.dumps(each_server.url)}
        journal.dir = "journal"
        routing.upstreams = {{ default = "trades" }}
        binance_klines.venues = ["BINANCE_FUTURES"]
        [feeds.trades]
        endpoint = "ipc://{tmp_path}/trades"
        control = "tcp://127.0.0.1:{ports["replay_port"]}"
        [feeds.bars]
        endpoint = "ipc://{tmp_path}/bars"
        control = "tcp://127.0.0.1:{ports["make_bars_port"]}"
        [bars]
        feed = "bars"
        symbols = ["BTC/USDT"]
        [bars.profiles]
        {profiles}
        """,
        **ports,
    )
    return World(
        programs=programs, uri=each_server.libpq_url, make_bars_port=ports["make_bars_port"]
    )


def in_one_go(file: Path) -> dict[str, list[Row]]:
    """The bars of all trades of a file, made in one step, as rows."""
    with zipfile.ZipFile(file) as archive:
        text = archive.read(archive.namelist()[0]).decode()
    trades = list(csv.reader(io.StringIO(text)))[1:]
    times = np.array([int(row[4]) for row in trades]) * 1_000_000
    prices, quantities = (np.array([float(row[n]) for row in trades]) for n in (1, 2))
    bought = np.array([row[5] == "false" for row in trades])
    return {
        name: [
            row_of(bar)
            for bar in Chain(parse_profile(name, parameters)).extend(
                times, prices, quantities, bought
            )
        ]
        for name, parameters in PROFILES.items()
    }


def row_of(bar: Bar) -> Row:
    own = (bar.vpin, bar.buy_volume, bar.sell_volume) if bar.theta is None else (bar.theta,)
    return (
        bar.open_time, bar.bar_seq, bar.close_time, bar.open, bar.high, bar.low, bar.close,
        bar.volume, bar.buy_ticks, bar.sell_ticks, bar.total_ticks, bar.after_gap, *own,
    )  # fmt: skip


async def until(world: World, count: int) -> None:
    """Return when the mart has so many bars."""
    async with asyncio.timeout(PATIENCE_S):
        while await asyncio.to_thread(world.counted) < count:  # noqa: ASYNC110  it is outside
            await asyncio.sleep(0.1)


async def until_nothing_is_missed(world: World) -> None:
    """Return when the publisher of the trades may be killed."""
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(world.misses_nothing):  # noqa: ASYNC110  it is outside
            await asyncio.sleep(0.1)


async def test_recorded_trades_become_the_bars_of_one_go(world: World, shared_data: Path) -> None:
    expected = in_one_go(shared_data / FILE)
    count = sum(map(len, expected.values()))
    assert all(len(rows) > 20 for rows in expected.values())
    async with world.programs.runner("bar"), world.programs.runner("make_bars"):
        await world.programs.run(
            "runners.replay", "--venue", "BINANCE_FUTURES", str(shared_data / FILE)
        )
        await until(world, count)
    assert {name: world.rows(name) for name in PROFILES} == expected
    assert any(row[1] > 0 for row in expected["trb_small"])


class Kept:
    """A program that is started again whenever it ends, until it is to end, and what it logged."""

    def __init__(self, programs: Programs, module: str, *arguments: str) -> None:
        self._programs = programs
        self._module = module
        self.arguments = arguments
        self.process: asyncio.subprocess.Process | None = None
        self.started = asyncio.Event()
        self.log = ""
        self.kills = 0
        self.is_to_end = False
        """Whether the next run is the last one."""
        self._is_stopped = False
        self._began = 0
        """Where the log of this run begins."""

    async def run(self) -> None:
        """Start it again and again, until the last run ends with code 0."""
        is_last = False
        while not is_last:
            is_last = self.is_to_end
            self._began = len(self.log)
            self.process = await self._programs.start(self._module, *self.arguments)
            self.started.set()
            async with ended(self.process):
                assert self.process.stderr is not None
                async for line in self.process.stderr:
                    self.log += line.decode()
                await self.process.wait()
            self.started.clear()
            is_last = is_last or self._is_stopped
            assert self.process.returncode in ((0,) if is_last else (0, -signal.SIGKILL)), self.log

    async def kill(self) -> None:
        """End it without a word, as soon as it is there."""
        await self.started.wait()
        assert self.process is not None
        self.started.clear()
        with suppress(ProcessLookupError):  # it has just ended
            self.process.kill()
        self.kills += 1

    async def stop(self) -> None:
        """End it well, as soon as it takes signals."""
        async with asyncio.timeout(PATIENCE_S):
            while "RUNNER_STARTED" not in self.log[self._began :]:  # noqa: ASYNC110  it is outside
                await asyncio.sleep(0.1)
        assert self.process is not None
        self._is_stopped = True
        self.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("seed", [1])
async def test_killed_at_random_the_bars_are_those_of_one_go(
    world: World, shared_data: Path, seed: int
) -> None:
    expected = in_one_go(shared_data / FILE)
    count = sum(map(len, expected.values()))
    replay = (
        "runners.replay",
        "--venue",
        "BINANCE_FUTURES",
        "--speed",
        "15",
        str(shared_data / FILE),
    )
    kept = [
        Kept(world.programs, "runners.bar"),
        Kept(world.programs, "runners.make_bars"),
        Kept(world.programs, *replay),
    ]
    bar, make_bars, publisher = kept
    chance = random.Random(seed)
    victims = [*((one,) for one in (*kept, *kept)), (bar, make_bars), tuple(kept)]
    chance.shuffle(victims)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one.run(), name=str(one)) for one in kept]
        for together in victims:  # though all is written by then, on a slow machine
            await until(world, min(count, world.counted() + chance.randrange(1, 30)))
            if publisher in together:
                await until_nothing_is_missed(world)
            for victim in together:
                await victim.kill()
        await until(world, min(count, world.counted() + 1))
        await until_nothing_is_missed(world)
        publisher.arguments += ("--speed", "max")
        await publisher.kill()  # what it sent to nobody is sent again
        publisher.is_to_end = True
        await running[-1]
        try:
            await until(world, count)
        except TimeoutError:
            pytest.fail(f"{world.counted()} of {count} bars\n{make_bars.log}\n{bar.log}")
        for one in (make_bars, bar):
            await one.stop()
    assert [one.kills for one in kept] == [4, 4, 4]
    assert {name: world.rows(name) for name in PROFILES} == expected
    assert "FEED_GAP" not in make_bars.log + bar.log
