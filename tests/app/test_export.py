"""``ravenwh export --ticks``: each day once, whole, noted, and missed where it is not."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import polars as pl
import psycopg
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from loguru import logger
from polars.testing import assert_frame_equal

import ravenwh
from ravenwh.app.doctor import examine
from ravenwh.app.export import Exported, export_ticks, in_a_thread
from ravenwh.app.export_watch import ExportWatch
from ravenwh.app.influx import ticks_of
from ravenwh.cli.export import command
from ravenwh.config import load
from ravenwh.domain.errors import Refused, Unavailable
from ravenwh.domain.finding import Finding
from ravenwh.domain.messages import Message, Ticker, Trade
from ravenwh.domain.tick_day import TickDay
from ravenwh.staging.days import day_of
from ravenwh.staging.export import written_day
from ravenwh.staging.measurements import MEASUREMENTS
from ravenwh.telemetry.live import page_at
from tests.acceptance.test_stored_ticks import MESSAGES, write
from tests.app.test_ticks import settings_of
from tests.engines.influx import InfluxBucket
from tests.engines.influx_shim import ALL
from tests.programs import PATIENCE_S, Programs, ended
from tests.real_trades import COUNT, archived_trades
from tests.servers import PgServer

DAY = timedelta(days=1)
FULL = Path("/dev/full")
FIRST = datetime(2024, 8, 8, tzinfo=UTC)
NOW = FIRST + 2 * DAY
"""Two days after the trades below."""


def trade(number: int, at: datetime = FIRST, **said: Any) -> Trade:
    """One of a second of its own."""
    ns = int(at.timestamp()) * 10**9 + number * 10**9
    named: dict[str, Any] = {"venue": "BINANCE_SPOT", "symbol": "BTCUSDT"} | said
    return Trade(
        **named,
        event_time=ns,
        price=1.0 + number,
        quantity=1.0,
        side="buy",
        trade_id=str(number),
    )


@attrs.define(kw_only=True)
class World:
    """A mart, a bucket that keeps what it gets, and a folder to export to."""

    programs: Programs
    url: str
    folder: Path
    influx: InfluxBucket

    def keep(self, days: int, more: str = "") -> None:
        """The settings say that the bucket keeps points for so many days."""
        text = settings_of(self.influx, self.url)
        self.programs.configure(f"{text}\nretention_days = {days}\n{more}")

    async def export(self, now: datetime = NOW, *days: datetime) -> list[Exported]:
        """What an export at that time does, days without points left out."""
        done: list[Exported] = []
        await export_ticks(
            load(self.programs.settings_file, {}),
            self.folder,
            now=now,
            days=days,
            on_export=done.append,
        )
        return [one for one in done if one.path is not None]

    def notes(self) -> dict[tuple[str, datetime], int]:
        """What the mart has noted."""
        with psycopg.connect(self.url.replace("+asyncpg", "")) as connection:
            rows = connection.execute("SELECT measurement, day, points FROM mart.ops__tick_export")
            return {(measurement, day): points for measurement, day, points in rows}

    def note(self, measurement: str, day: datetime, points: int) -> None:
        """As an export of long ago."""
        with psycopg.connect(self.url.replace("+asyncpg", "")) as connection:
            connection.execute(
                "INSERT INTO mart.ops__tick_export VALUES (%s, %s, %s, now())"
                " ON CONFLICT (measurement, day) DO UPDATE SET points = EXCLUDED.points",
                (measurement, day, points),
            )

    def files(self) -> set[str]:
        """All that is in the folder."""
        return {str(f.relative_to(self.folder)) for f in self.folder.rglob("*") if f.is_file()}


@pytest.fixture
def world(tmp_path: Path, mart_url: str, influx: InfluxBucket) -> World:
    made = World(
        programs=Programs(folder=tmp_path), url=mart_url, folder=tmp_path / "out", influx=influx
    )
    made.keep(0)
    return made


async def test_all_recorded_trades_are_in_files_as_they_are_read(
    world: World, shared_data: Path
) -> None:
    """A kill after the first file, and the rest by a second run."""
    trades = archived_trades(shared_data)
    for i in range(0, len(trades), 5000):
        await write(world.influx, trades[i : i + 5000])
    command = ("ravenwh", "export", "--ticks", "--to", "out")
    process = await world.programs.start(*command)
    async with ended(process):
        assert process.stdout is not None
        first = (await process.stdout.readline()).decode()
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    assert re.fullmatch(r"trades 2021-01-08: [\d,]+ points, out/trades/2021-01-08.parquet\n", first)
    out, _ = await world.programs.run(*command)
    assert "2024-08-09" in out
    with ravenwh.connect(world.programs.settings_file) as wh:
        read = wh.ticks("trades").polars()
    assert len(read) == COUNT
    files = pl.concat(pl.read_parquet(file) for file in sorted(world.folder.rglob("*.parquet")))
    assert_frame_equal(files, read)
    assert {f for f in world.files() if not f.startswith("trades/.")} == {
        f"trades/{day}.parquet" for day in ("2021-01-08", "2024-08-08", "2024-08-09")
    }
    notes = world.notes()
    assert sum(notes.values()) == COUNT
    assert min(day for name, day in notes if name == "trades") == datetime(2021, 1, 8, tzinfo=UTC)
    assert await world.export(datetime.now(UTC)) == []


async def test_every_measurement(world: World) -> None:
    await write(world.influx, MESSAGES)
    world.keep(30)
    done = await world.export()
    assert {one.day.measurement for one in done} == set(MEASUREMENTS)
    assert world.files() == {f"{name}/2024-08-08.parquet" for name in MEASUREMENTS}
    with ravenwh.connect(world.programs.settings_file) as wh:
        for name in MEASUREMENTS:
            file = world.folder / name / "2024-08-08.parquet"
            read = wh.ticks(name).arrow()
            assert pq.read_table(file).equals(read)
            assert world.notes()[name, FIRST] == read.num_rows
    assert set(world.notes()) == {(name, FIRST) for name in MEASUREMENTS}
    assert await world.export() == []


async def test_what_comes_late_is_exported_again(world: World) -> None:
    await write(world.influx, [trade(1), trade(2, FIRST + DAY)])
    assert [str(one.day) for one in await world.export()] == ["trades 2024-08-08"]
    assert [str(one.day) for one in await world.export(NOW + DAY)] == ["trades 2024-08-09"]
    await write(world.influx, [trade(3)])
    (again,) = await world.export(NOW + DAY)
    assert (str(again.day), again.points) == ("trades 2024-08-08", 2)
    assert pq.read_table(again.path)["trade_id"].to_pylist() == ["1", "3"]
    assert await world.export(NOW + DAY) == []
    assert world.notes()["trades", FIRST] == 2


async def test_each_day_since_the_first_point_is_noted(world: World) -> None:
    await write(world.influx, [trade(1), trade(2, FIRST + 3 * DAY)])
    world.keep(30)
    await world.export(FIRST + 6 * DAY)
    notes = world.notes()
    trades = {day: points for (name, day), points in notes.items() if name == "trades"}
    assert trades == {FIRST + n * DAY: points for n, points in enumerate((1, 0, 0, 1, 0))}
    assert {day for name, day in notes if name != "trades"} == {FIRST + 4 * DAY}
    await world.export(FIRST + 8 * DAY)
    assert len(world.notes()) == len(notes) + 2 * len(MEASUREMENTS)


async def test_a_day_that_is_not_over_is_not_exported(world: World) -> None:
    await write(world.influx, [trade(1)])
    early = FIRST + DAY + timedelta(minutes=59)
    assert await world.export(early) == []
    with pytest.raises(Refused, match="can be exported from 2024-08-09 01:00 UTC on"):
        await world.export(early, FIRST)
    assert world.files() == set()
    assert len(await world.export(early + timedelta(minutes=1))) == 1


async def test_a_day_is_exported_again_where_it_is_named(world: World) -> None:
    await write(world.influx, [trade(1)])
    await world.export()
    file = world.folder / "trades" / "2024-08-08.parquet"
    file.write_text("spoilt")
    assert await world.export() == []  # what was exported is not looked at
    (done,) = await world.export(NOW, FIRST)
    assert done.path == file
    assert pq.read_table(file).num_rows == 1


async def test_what_was_exported_is_never_replaced_by_less(world: World) -> None:
    await write(world.influx, [trade(1)])
    await world.export()
    file = world.folder / "trades" / "2024-08-08.parquet"
    exported = file.read_bytes()
    world.note("trades", FIRST, 2)  # the bucket held one more then
    assert await world.export() == []
    with pytest.raises(Refused, match="holds 1 points of it, and 2 were exported"):
        await world.export(NOW, FIRST)
    assert file.read_bytes() == exported
    assert world.notes()["trades", FIRST] == 2
    assert world.files() == {"trades/2024-08-08.parquet"}


async def test_what_a_kill_leaves_behind_is_in_nobodys_way(world: World) -> None:
    """A part of a file, and a file that was not noted."""
    folder = world.folder / "trades"
    folder.mkdir(parents=True)
    (folder / ".2024-08-08.parquet.part").write_text("half")
    (folder / "2024-08-08.parquet").write_text("not noted")
    await write(world.influx, [trade(1)])
    (done,) = await world.export()
    assert pq.read_table(done.path).num_rows == 1
    assert world.files() == {"trades/2024-08-08.parquet"}


async def test_where_influxdb_goes_away_what_is_done_stays(world: World) -> None:
    await write(world.influx, [trade(1), trade(2, FIRST + DAY)])
    tokens = world.influx.shim.tokens

    def lose_it(done: Exported) -> None:
        if done.path is not None:
            tokens.clear()

    settings = load(world.programs.settings_file, {})
    with pytest.raises(Unavailable, match="401"):
        await export_ticks(settings, world.folder, now=NOW + DAY, on_export=lose_it)
    assert world.files() == {"trades/2024-08-08.parquet"}
    assert {day for name, day in world.notes() if name == "trades"} == {FIRST}
    tokens["token"] = ALL
    assert [str(one.day) for one in await world.export(NOW + DAY)] == ["trades 2024-08-09"]


async def test_a_folder_that_cannot_be_one(world: World) -> None:
    await write(world.influx, [trade(1)])
    world.folder.write_text("a file")
    with pytest.raises(Unavailable, match=r"another folder in influx\.export_dir") as caught:
        await world.export()
    assert caught.value.needs_person
    assert ("trades", FIRST) not in world.notes()


async def test_a_full_disk(world: World) -> None:
    """Nothing is noted, and no half of a file is left under the name of a whole one."""
    await write(world.influx, [trade(1)])
    folder = world.folder / "trades"
    folder.mkdir(parents=True)
    (folder / ".2024-08-08.parquet.part").symlink_to(FULL)
    with pytest.raises(Unavailable, match="No space left on device"):
        await world.export()
    assert world.files() == set()
    assert ("trades", FIRST) not in world.notes()


async def test_what_is_ended_before_its_end_leaves_nothing(world: World) -> None:
    await write(world.influx, [trade(1)])
    day = TickDay(day=FIRST, measurement="trades")
    with ticks_of(load(world.programs.settings_file, {})) as ticks:
        with (
            pytest.raises(Refused, match="trades 2024-08-08 was ended before its end"),
            written_day(ticks, day, world.folder, stop=lambda: True),
        ):
            raise AssertionError
        with written_day(ticks, day, world.folder, stop=lambda: False) as file:
            assert (file.points, world.files()) == (1, {"trades/.2024-08-08.parquet.part"})
    assert world.files() == set()  # it was not kept


async def test_who_is_cancelled_has_the_work_stop_and_waits_for_it() -> None:
    at_work, stopped = threading.Event(), threading.Event()

    def work(stop: threading.Event) -> None:
        at_work.set()
        if stop.wait(30):
            stopped.set()

    task = asyncio.create_task(in_a_thread(work))
    await asyncio.to_thread(at_work.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()


async def test_one_at_a_time(world: World) -> None:
    await write(world.influx, [trade(1)])
    with psycopg.connect(world.url.replace("+asyncpg", "")) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('ravenwh export ' || 'mart', 0))")
        with pytest.raises(Refused, match="another export is at work"):
            await world.export()
    assert len(await world.export()) == 1


async def test_days_that_were_dropped_before_they_were_exported_are_told(world: World) -> None:
    told: list[str] = []
    form = "{message} {extra[measurement]} {extra[first]} {extra[last]}"
    handler = logger.add(lambda line: told.append(str(line)), format=form)
    world.note("trades", FIRST - 10 * DAY, 5)
    world.note("orderbook", FIRST - 4 * DAY, 5)
    world.keep(5)
    await world.export()
    await world.export()
    logger.remove(handler)
    assert told == ["TICK_DAYS_NOT_EXPORTED trades 2024-07-30 2024-08-04\n"]


async def test_of_options_what_is_there_is_counted(world: World) -> None:
    """No field of theirs is always there."""
    at = int(FIRST.timestamp()) * 10**9
    tickers: list[Message] = [
        Ticker(venue="DERIBIT", symbol="BTC-7JUN24-70000-C", event_time=at, mark_iv=0.5),
        Ticker(venue="DERIBIT", symbol="BTC-7JUN24-70000-C", event_time=at + 1, bid_iv=0.5),
    ]
    await write(world.influx, tickers)
    (done,) = await world.export()
    assert done.points == 2
    assert pq.read_table(done.path).column_names[-3:] == ["expiry", "strike", "kind"]
    assert await world.export() == []


async def finding(world: World) -> Finding:
    """What the doctor says of it."""
    found = await examine(load(world.programs.settings_file, {}))
    return next(one for one in found if one.check == "exports")


async def test_the_doctor_misses_days_that_are_dropped_soon(world: World) -> None:
    world.keep(30)
    found = await finding(world)
    assert found.ok
    assert "none is missed" in found.found
    world.keep(30, 'export_dir = "out"')
    await the_day_goes_on()
    found = await finding(world)
    oldest = day_of(datetime.now(UTC)) - 30 * DAY
    assert not found.ok
    assert not found.required
    assert found.found.startswith(
        f"not exported, and dropped within 2 days: funding_rate {oldest:%Y-%m-%d}, "
    )
    assert found.found.endswith(" and 16 more")
    assert found.remedy == "ravenwh export --ticks"
    await world.export(datetime.now(UTC))
    assert (await finding(world)).ok
    world.keep(30)  # who has begun to export goes on
    world.note("trades", oldest, 5)
    found = await finding(world)
    missing = ", ".join(f"trades {oldest + n * DAY:%Y-%m-%d}" for n in (1, 2))
    assert found.found == f"not exported, and dropped within 2 days: {missing}"
    assert found.remedy == "ravenwh export --ticks --to FOLDER"


async def the_day_goes_on(for_s: float = 120.0) -> None:
    """Return at once where the day of UTC has so long to go, else when the next one has begun."""
    now = datetime.now(UTC)
    left = (day_of(now) + DAY - now).total_seconds()
    if left < for_s:
        await asyncio.sleep(left)


async def test_the_doctor_of_a_mart_that_is_not_there_yet(
    world: World, pg_server: PgServer
) -> None:
    with pg_server.fresh_database() as name:
        new = attrs.evolve(world, url=pg_server.url(name))
        new.keep(30, 'export_dir = "out"')
        assert (await finding(new)).ok  # what is missing is the mart


async def test_the_tick_runner_tells_of_them_each_hour(world: World) -> None:
    told: list[str] = []
    handler = logger.add(lambda line: told.append(str(line)), format="{message}")
    world.keep(30, 'export_dir = "out"')
    watch = ExportWatch(settings=load(world.programs.settings_file, {}))
    assert watch.expiring is None
    await watch.look()
    assert watch.expiring == 21
    await world.export(datetime.now(UTC))
    await watch.look()
    assert watch.expiring == 0
    away = attrs.evolve(world, url="postgresql://nobody@127.0.0.1:1/nothing")
    away.keep(30, 'export_dir = "out"')
    watch = ExportWatch(settings=load(world.programs.settings_file, {}))
    await watch.look()
    assert watch.expiring is None
    world.keep(30)
    watch = ExportWatch(settings=load(world.programs.settings_file, {}))
    await watch.keep_looking()  # which ends at once: nobody asked for it
    logger.remove(handler)
    assert [line for line in told if "TICK" in line] == [
        "TICK_DAYS_EXPIRE\n",
        "TICK_EXPORTS_UNKNOWN\n",
    ]


async def test_they_are_in_the_log_and_the_metrics_of_a_running_tick_runner(world: World) -> None:
    feed = f'[feeds.default]\nendpoint = "ipc://{world.programs.folder}/feed"'
    world.keep(30, f'export_dir = "out"\n{feed}')
    port = load(world.programs.settings_file, {}).port_of("tick", "metrics")
    there = (port.host, port.number)
    async with world.programs.runner("tick") as runner:
        await runner.until(lambda log: "TICK_DAYS_EXPIRE days=21 missing='funding_rate " in log)
        async with asyncio.timeout(PATIENCE_S):  # the metrics follow the line
            while (page := await asyncio.to_thread(page_at, *there, "/metrics")) is None or (  # noqa: ASYNC110
                b"\nravenwh_tick_days_expiring 21.0\n" not in page.body
            ):
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 2, "say what to export: --ticks"),
        (("--ticks",), 1, "nothing says where to export to: give --to, or set influx.export_dir"),
        (("--ticks", "--to", "out", "--day", "2999-01-01"), 1, "2999-01-01 is not over"),
        (("--ticks", "--to", "out", "--day", "yesterday"), 2, "'yesterday' does not match"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], code: int, told: str) -> None:
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == code
    assert told in (done.output if code == 2 else str(done.exception))
