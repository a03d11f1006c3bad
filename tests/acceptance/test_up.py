"""``ravenwh up``: real programs, started and ended in order, with nothing lost."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import attrs
import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql

from ravenwh.app.up import STAGES
from ravenwh.cli import ravenwh
from ravenwh.domain.messages import Trade
from ravenwh.domain.series import TimeRange
from ravenwh.domain.settings import Settings
from ravenwh.features import bars_of, parse_profile
from ravenwh.features.maker import Maker
from ravenwh.sources.catalog import find_files
from ravenwh.sources.simulator import SimulatedMarket
from tests.conftest import ROOT
from tests.engines.influx import InfluxBucket
from tests.programs import PATIENCE_S, Programs, ended, free_ports

MONTHS = ("--simulate", "BTCUSDT,ETHUSDT", "--from", "2024-01-01", "--to", "2024-03-01")
ALL_OF_THEM = 2 * 60 * 1440
DAY = ("--simulate", "BTCUSDT,ETHUSDT", "--from", "2024-01-01", "--to", "2024-01-02")


SMALL = {"expected_ticks": 400, "least_imbalance": 0.05}


@pytest.fixture
def world(tmp_path: Path, mart_url: str) -> Programs:
    return configured(tmp_path, mart_url, feeds(tmp_path))


def feeds(folder: Path) -> str:
    """Klines at one feed, bars of another program at the other."""
    return f"""
        [feeds.default]
        endpoint = "ipc://{folder}/feed"
        [feeds.bars]
        endpoint = "ipc://{folder}/bars"
        [bars]
        feed = "bars"
    """


def configured(folder: Path, url: str, further: str, **ports: int) -> Programs:
    return Programs(folder=folder).configure(
        f"""
        timescale.url = {json.dumps(url)}
        journal.dir = "journal"
        [routing.upstreams]
        "BINANCE_SPOT:CANDLE" = "default"
        "BINANCE_FUTURES:CANDLE" = "default"
        "BINANCE_SPOT:TRADE" = "default"
        "BINANCE_FUTURES:TRADE" = "default"
        {further}
    """,
        **ports,
    )


@attrs.define(kw_only=True)
class Up:
    """A running ``ravenwh up``, what its programs have written, and what it has logged."""

    process: Process
    out: str = ""
    err: str = ""

    async def until(self, *patterns: str, written: int = 0) -> None:
        """Read what the programs write until each of the patterns is in a line of it.

        And until so many rows are written, in however many batches.
        """
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while self.written < written or not all(
                re.search(one, self.out, re.MULTILINE) for one in patterns
            ):
                line = await self.process.stdout.readline()
                assert line, f"it ended:\n{self.out}"
                self.out += line.decode()

    async def until_ready(self, *services: str) -> None:
        """Read its log until these services are ready."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while not all(f"SERVICE_READY service='{name}'" in self.err for name in services):
                line = await self.process.stderr.readline()
                if not line:
                    await self.end()
                assert line, f"it ended:\n{self.out}\n{self.err}"
                self.err += line.decode()

    def pid(self, service: str) -> int:
        """The process of a service that was ready."""
        (pid,) = re.findall(rf"SERVICE_READY service='{service}' pid=(\d+)", self.err)
        return int(pid)

    async def end(self) -> int | None:
        """Read all that is left; the exit code."""
        out, err = await asyncio.wait_for(self.process.communicate(), PATIENCE_S)
        self.out += out.decode()
        self.err += err.decode()
        return self.process.returncode

    @property
    def written(self) -> int:
        """How many rows the programs have told of."""
        return sum(map(int, re.findall(r"BATCH_WRITTEN written=(\d+)", self.out)))

    @property
    def sent(self) -> int:
        """How many messages the replay says it sent."""
        return sum(
            map(int, re.findall(r"^replay +\| sent (\d+) synthetic", self.out, re.MULTILINE))
        )


@asynccontextmanager
async def brought_up(world: Programs, *arguments: str) -> AsyncIterator[Up]:
    process = await world.start("ravenwh", "up", *arguments)
    async with ended(process):
        try:
            yield Up(process=process)
        finally:
            if process.returncode is None:  # the test failed, and what it started would outlive it
                process.send_signal(signal.SIGSTOP)
                for child in children_of(process.pid):
                    os.kill(child, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def stored(url: str, fact: str = "fact__kline") -> int:
    counted = sql.SQL("SELECT count(*) FROM mart.{}").format(sql.Identifier(fact))
    with psycopg.connect(url.replace("+asyncpg", "")) as connection:
        row = connection.execute(counted).fetchone()
    assert row is not None
    return int(row[0])


def is_there(pid: int) -> bool:
    """Whether it runs; one that was killed may wait for ever for somebody to ask how it ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def gone(pid: int) -> None:
    """Wait until it does not run."""
    async with asyncio.timeout(PATIENCE_S):
        while is_there(pid):  # noqa: ASYNC110  another's process tells no event
            await asyncio.sleep(0.01)


async def test_sigterm_amid_a_stream_ends_all_in_order_and_every_row_sent_is_there(
    world: Programs, mart_url: str
) -> None:
    async with brought_up(world, *MONTHS, "--speed", "60000") as up:  # 2,000 a second
        await up.until_ready("kline", "bar")
        await up.until("BATCH_WRITTEN")
        up.process.send_signal(signal.SIGTERM)
        assert await up.end() == 0, up.err
    assert "stopped before the end" in up.out
    assert 0 < up.sent < ALL_OF_THEM
    assert stored(mart_url) == up.sent
    told = [line.split(" | ")[0].strip() for line in up.out.splitlines() if "STOPPING" in line]
    assert told[0] == "replay"
    assert sorted(told[1:]) == ["bar", "kline"]
    assert up.out.rindex("replay    | ") < up.out.index("RUNNER_STOPPED")
    assert "SERVICE_KILLED" not in up.err
    assert not is_there(up.pid("kline"))
    assert not is_there(up.pid("bar"))


async def test_without_once_it_goes_on_after_the_replay_until_ctrl_c(
    world: Programs, mart_url: str
) -> None:
    async with brought_up(world, *DAY) as up:
        await up.until(r"^replay +\| sent 2880 messages", written=2880)
        assert up.process.returncode is None
        up.process.send_signal(signal.SIGINT)
        assert await up.end() == 0, up.err
    assert (up.sent, stored(mart_url)) == (2880, 2880)


@pytest.fixture
def _not_under_nohup() -> Iterator[None]:
    """Programs hear of a terminal that is closed, though the tests themselves may outlive it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_not_under_nohup")
async def test_a_folder_is_published_as_the_replay_is_told_and_a_closed_terminal_ends_it(
    world: Programs, mart_url: str
) -> None:
    opened = 1_704_067_200_000
    row = f"{opened},10,12,9,11,1,{opened + 59_999},38.5,7,1.25,13.75,0\n"
    (world.folder / "data").mkdir()
    (world.folder / "data" / "BTCUSDT-1m-2024-01.csv").write_text(row)
    options = ("--data", "data", "--venue", "BINANCE_FUTURES")
    async with brought_up(world, *options) as up:
        await up.until(written=1)
        up.process.send_signal(signal.SIGHUP)
        assert await up.end() == 0, up.err
    with psycopg.connect(mart_url.replace("+asyncpg", "")) as connection:
        found = connection.execute(
            "SELECT exchange FROM mart.fact__kline JOIN mart.dim__exchange USING (exchange_id)"
        ).fetchall()
    assert found == [("BINANCE_FUTURES",)]


async def test_a_runner_that_is_killed_ends_the_rest_and_nothing_is_lost_for_the_next_time(
    world: Programs, mart_url: str
) -> None:
    async with brought_up(world, *MONTHS) as up:
        await up.until_ready("kline", "bar")
        await up.until("BATCH_WRITTEN")
        os.kill(up.pid("kline"), signal.SIGKILL)
        assert await up.end() == 1
    assert "ENDED_BY_ERROR error='Refused' reason='kline ended by SIGKILL; its last line" in up.err
    assert "SERVICE_ENDED service='replay'" in up.err
    assert "SERVICE_ENDED service='bar' code=0" in up.err
    assert not is_there(up.pid("bar"))
    async with brought_up(world, "--once", *MONTHS) as again:
        assert await again.end() == 0, again.err
    assert "JOURNAL_RECOVERED" in again.out
    assert stored(mart_url) == ALL_OF_THEM, again.out + again.err


async def test_a_replay_that_fails_ends_the_rest_with_its_reason(
    world: Programs, mart_url: str
) -> None:
    (world.folder / "BTCUSDT-1m-2024-01.csv").write_text("1704067380000,not,a,kline\n")
    async with brought_up(world, "--data", "BTCUSDT-1m-2024-01.csv") as up:
        assert await up.end() == 1
    assert "reason='replay ended with code 1; its last line: sent 0" in up.err
    assert "SERVICE_ENDED service='kline' code=0" in up.err


@pytest.fixture
def with_bars(tmp_path: Path, mart_url: str) -> Programs:
    return making_bars(tmp_path, mart_url)


@pytest.fixture
def with_ticks(tmp_path: Path, mart_url: str, influx: InfluxBucket) -> Programs:
    """Bars are made of trades, which go to InfluxDB as well."""
    keys = "\n".join(f"{key} = {json.dumps(value)}" for key, value in influx.keys.items())
    further = f"""
        [influx]
        {keys}
        retention_days = 0
        [ticks]
        collect = ["BINANCE_SPOT:TRADE:BTCUSDT"]
        [routing]
        venue_include = ["BINANCE_SPOT"]
    """
    return making_bars(tmp_path, mart_url, further)


def making_bars(folder: Path, url: str, further: str = "") -> Programs:
    """Bars are made of trades, and publishers are asked for what did not arrive."""
    with closing(free_ports()) as free:
        ports = {"replay_port": next(free), "make_bars_port": next(free)}
    bars = f"""
        [feeds.default]
        endpoint = "ipc://{folder}/feed"
        control = "tcp://127.0.0.1:{ports["replay_port"]}"
        [feeds.bars]
        endpoint = "ipc://{folder}/bars"
        control = "tcp://127.0.0.1:{ports["make_bars_port"]}"
        [bars]
        feed = "bars"
        profiles.tib_small = {json.dumps(SMALL).replace(":", " =")}
    """
    return configured(folder, url, bars + further, **ports)


async def test_sigterm_amid_trades_ends_all_in_order_and_all_of_those_sent_is_there(
    with_ticks: Programs, mart_url: str, influx: InfluxBucket
) -> None:
    """Every trade in InfluxDB, and every bar that they make in the mart."""
    week = ("--simulate", "BTCUSDT", "--from", "2024-01-01", "--to", "2024-01-08")
    async with brought_up(with_ticks, *week, "--kind", "trades", "--speed", "3600") as up:
        await up.until_ready("kline", "bar", "tick", "make_bars")
        await up.until("^tick .*BATCH_WRITTEN", "^bar .*BATCH_WRITTEN")
        up.process.send_signal(signal.SIGTERM)
        assert await up.end() == 0, up.err
    assert "SERVICE_KILLED" not in up.err
    told = [line.split(" | ")[0].strip() for line in up.out.splitlines() if "STOPPING" in line]
    assert told[:2] == ["replay", "make_bars"]
    assert sorted(told[2:]) == ["bar", "kline", "tick"]
    span = TimeRange(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 8, tzinfo=UTC))
    trades = list(islice(SimulatedMarket(symbol="BTCUSDT").trades(span), up.sent + 1))
    assert 0 < up.sent < len(trades)  # it was stopped before the end
    assert influx.count() == up.sent, up.out
    made = bars_of(parse_profile("tib_small", SMALL), trades[: up.sent])
    assert stored(mart_url, "fact__tick_imbalance") == len(made) > 0


async def test_its_programs_outlive_it_and_a_second_one_says_who_holds_the_ports(
    world: Programs,
) -> None:
    async with brought_up(world) as up:
        await up.until_ready("kline", "bar")
        up.process.kill()
        await up.process.wait()
    pids = [up.pid("kline"), up.pid("bar")]
    try:
        assert all(is_there(pid) for pid in pids)
        async with brought_up(world) as second:
            assert await second.end() == 1
        assert "held by our own runner kline" in second.out
        assert re.search("reason='(kline|bar) ended with code 1; its last line: ", second.err)
        assert "address already in use" in second.err
        assert all(is_there(pid) for pid in pids)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
    for pid in pids:
        await gone(pid)


async def test_trades_become_bars_and_all_of_those_are_there_at_the_end(
    with_bars: Programs, mart_url: str, shared_data: Path
) -> None:
    trades = shared_data / "trades_vision" / "um"
    options = ("--data", str(trades), "--venue", "BINANCE_FUTURES")
    async with brought_up(with_bars, "--once", *options) as up:
        assert await up.end() == 0, up.err
    maker = Maker({"tib_small": parse_profile("tib_small", SMALL)})
    (file,) = find_files([trades], venue="BINANCE_FUTURES")[0]
    made = [
        bar
        for trade in file.messages(pytest.fail)
        if isinstance(trade, Trade)
        for bar in maker.push(trade)
    ]
    assert len(made) > 50
    assert stored(mart_url, "fact__tick_imbalance") == len(made), up.out


async def test_a_mart_that_is_not_migrated_is_its_owners(tmp_path: Path, database: str) -> None:
    world = configured(tmp_path, database, feeds(tmp_path))
    async with brought_up(world) as up:
        assert await up.end() == 1
    assert "ravenwh alembic upgrade head" in up.out
    assert "reason='init ended with code 1; its last line: nothing was seeded" in up.err
    assert "kline " not in up.out


async def test_a_second_signal_ends_all_at_once(world: Programs, mart_url: str) -> None:
    async with brought_up(world) as up:
        await up.until_ready("kline", "bar")
        os.kill(up.pid("kline"), signal.SIGSTOP)  # so that it does not end by being asked
        up.process.send_signal(signal.SIGTERM)
        await up.until("RUNNER_STOPPED service='bar'")
        up.process.send_signal(signal.SIGTERM)
        assert await up.end() == 128 + signal.SIGTERM
    await gone(up.pid("kline"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--once",), "nothing is to be published"),
        (("--speed", "60"), "nothing is to be published"),
        (("--simulate", "BTCUSDT"), "--simulate needs --from and --to"),
        (("--data", ".", "--simulate", "BTCUSDT"), "and not both"),
        (("--data", "nowhere"), "'nowhere' does not exist"),
        (("--bogus",), "No such option"),
        (("--data", ".", "--venu", "BINANCE_FUTURES"), "No such option"),
        (("--data", ".", "--speed", "fast"), "found 'fast', allowed are max"),
        (("--data", ".", "--from-influx"), "one of them only"),
        (
            ("--from", "2024-01-01", "--to", "2024-01-02", "--simulate", "X", "--from-influx"),
            "one of them only",
        ),
        (("--data", ".", "--measurement", "trades"), "--measurement is of --from-influx"),
        (("--data", ".", "--from", "2024-01-02", "--to", "2024-01-01"), "lies before the start"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...], reason: str) -> None:
    result = CliRunner().invoke(ravenwh, ["up", *arguments])
    assert (result.exit_code, reason in result.output) == (2, True)


def test_every_program_that_stays_is_a_service_with_ports() -> None:
    services = [service.name for stage in STAGES for service in stage]
    runners = {path.stem for path in (ROOT / "runners").glob("[!_]*.py")}
    assert set(services) == runners - {"init", "replay"}
    assert set(services) <= {port.service for port in Settings().server.ports()}


def test_bars_are_written_where_the_settings_have_some() -> None:
    wanted = {service.name: service.is_wanted(Settings()) for stage in STAGES for service in stage}
    assert wanted == {"kline": True, "bar": False, "tick": False, "make_bars": False}
