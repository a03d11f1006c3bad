"""A refresh of the rollups on real engines: what it shows, what it keeps, what it leaves alone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.app.database import Database
from ravenwh.app.preflight import alembic_config
from ravenwh.app.refresh import Refreshed, kept_refreshed, notes_of, refresh
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Settings
from ravenwh.schema import ROLLUPS
from ravenwh.timescale.spans import Span
from ravenwh.warehouse.due import due_days
from ravenwh.warehouse.write import FactSink
from tests.conftest import engine_on, migrate, settings_for
from tests.engines.fixtures import EngineDatabase
from tests.warehouse.compressed import (
    compress,
    corrected,
    kline,
    rollups_are_right,
    wrong_buckets,
)
from tests.warehouse.conftest import MINUTE, START, kline_sink

FIRST = datetime.fromtimestamp(START // 10**9, UTC)  # 2024-01-01, a Monday
DAY = timedelta(days=1)
DAY_MINUTES = 24 * 60
HOUR_NS = 60 * MINUTE
EVERYTHING = Span()


@attrs.frozen(kw_only=True)
class Mart:
    """A migrated mart with TimescaleDB, in which no policy runs by itself."""

    settings: Settings
    engine: AsyncEngine
    sink: FactSink[Candle]
    libpq_url: str

    async def refresh(
        self,
        span: Span | None = None,
        on_step: Callable[[int, int, str], None] = lambda done, steps, rollup: None,
    ) -> Refreshed:
        """Refresh a span, or what is due."""
        return await refresh(self.settings, span, tell=pytest.fail, on_step=on_step)

    async def due(self) -> dict[int, int]:
        """How often each day is noted, counted from the first."""
        async with self.engine.connect() as connection:
            return {(due.day - FIRST).days: due.changes for due in await due_days(connection)}

    async def wrong(self) -> set[str]:
        """The rollups that are not what the klines give."""
        return {code for code in ROLLUPS if await wrong_buckets(self.engine, code)}

    async def shown(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of all rollups."""
        async with self.engine.connect() as connection:
            return {
                code: sorted(tuple(row) for row in await connection.execute(sa.select(table)))
                for code, table in ROLLUPS.items()
            }

    def do(self, statement: str, **values: Any) -> Any:
        """A statement by hand, outside transactions; the first value of its last row."""
        with psycopg.connect(self.libpq_url, autocommit=True) as connection:
            found = connection.execute(statement, values)
            return found.fetchall()[-1][0] if found.description else None

    def materialised(self, code: str) -> str:
        """The table that a rollup is materialised in."""
        return str(
            self.do(
                "SELECT concat_ws('.', materialization_hypertable_schema, "
                "materialization_hypertable_name) "
                "FROM timescaledb_information.continuous_aggregates WHERE view_name = %(name)s",
                name=f"agg__kline_{code}",
            )
        )

    def run_policy(self, code: str) -> None:
        """The refresh policy of a rollup, now."""
        job = self.do(
            "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = %(name)s "
            "AND proc_name = 'policy_refresh_continuous_aggregate'",
            name=f"agg__kline_{code}",
        )
        self.do(f"CALL run_job({job})")


@pytest.fixture
def community_url(each_community: EngineDatabase) -> str:
    """The URL of a migrated and empty mart, on each engine with TimescaleDB."""
    migrate(each_community.url)
    return each_community.url


@pytest.fixture
def native_url(native_timescale: EngineDatabase) -> str:
    """The same on a native one, whose clients work at the same moment."""
    migrate(native_timescale.url)
    return native_timescale.url


@contextlib.asynccontextmanager
async def mart_on(url: str, **timescale: Any) -> AsyncIterator[Mart]:
    libpq_url = url.replace("+asyncpg", "")
    settings = settings_for(url, timescale={"url": url} | timescale)
    async with engine_on(url) as engine:
        sink = kline_sink(engine, Register())
        sink.notes = await notes_of(settings, engine, sink.upsert)
        assert sink.notes is not None
        yield Mart(settings=settings, engine=engine, sink=sink, libpq_url=libpq_url)


@pytest.fixture
async def mart(community_url: str) -> AsyncIterator[Mart]:
    """On each engine with TimescaleDB."""
    async with mart_on(community_url) as found:
        yield found


@pytest.fixture
async def native(native_url: str) -> AsyncIterator[Mart]:
    """On a native one."""
    async with mart_on(native_url) as found:
        yield found


def hours(count: int, start: int = 0, symbol: str = "BTCUSDT") -> list[Candle]:
    """Klines of an hour each: rollups take them as they take minutes."""
    return [
        kline(
            symbol,
            60 * n,
            interval="1h",
            event_time=START + (n + 1) * HOUR_NS,
            close_time=START + (n + 1) * HOUR_NS - 1,
        )
        for n in range(start, start + count)
    ]


def late(one: Candle, version: int = 1) -> Candle:
    """What the venue says of it later."""
    said = {name: getattr(one, name) for name in one.__struct_fields__}
    return Candle(
        **said | {"event_time": one.event_time + version * 10**9, "low": 50.0 - version % 40}
    )


async def test_a_late_correction_is_shown_when_it_was_worked_off(mart: Mart) -> None:
    minutes = [kline("BTCUSDT", n) for n in range(3 * DAY_MINUTES)]
    await mart.sink.write(minutes)
    assert await mart.due() == {0: 1, 1: 1, 2: 1}
    done = await mart.refresh()
    assert (done.kept, done.days) == (True, 3)
    assert await mart.due() == {}
    await mart.sink.write([corrected("BTCUSDT", DAY_MINUTES + 9)])
    assert await mart.wrong() == set(ROLLUPS)  # all of them show the value before
    assert await mart.due() == {1: 1}
    done = await mart.refresh()
    assert [name for name, _ in done.done] == [f"agg__kline_{code}" for code in ROLLUPS]
    assert done.days == 1
    assert await mart.due() == {}
    await rollups_are_right(mart.engine)
    assert await mart.refresh() == Refreshed(kept=True)  # nothing more is due
    await mart.sink.write([corrected("BTCUSDT", DAY_MINUTES + 9)])
    assert await mart.due() == {}


async def test_refreshing_leaves_the_open_bucket_open(mart: Mart) -> None:
    # in ten minutes: each of its buckets is open and stays so, whatever the time is
    now = (datetime.now(UTC) + timedelta(minutes=10)).replace(second=0, microsecond=0)
    today = now.replace(hour=0, minute=0)
    begin = int((today - FIRST) / timedelta(minutes=1))
    current = int((now - FIRST) / timedelta(minutes=1))
    yesterday = [kline("BTCUSDT", n) for n in range(begin - 300, begin)]
    await mart.sink.write([*yesterday, kline("BTCUSDT", begin)])
    await mart.refresh(EVERYTHING)
    assert await mart.wrong() == set()
    await mart.sink.write([kline("BTCUSDT", current, volume=7.0)])
    assert await mart.wrong() == set()  # a row of the open bucket of each rollup
    mart.do("CALL refresh_continuous_aggregate('mart.agg__kline_1d', NULL, NULL)")
    await mart.sink.write([corrected("BTCUSDT", begin)])
    assert "1d" in await mart.wrong()  # which is why we never do that
    assert await mart.due() == {}


async def test_dropped_rows_stay_in_the_rollups(mart: Mart) -> None:
    await mart.sink.write(hours(40 * 24))  # chunks begin on Thursdays: 4, 11, 18, 25 January
    await mart.refresh(EVERYTHING)
    before = await mart.shown()
    mart.do("SELECT drop_chunks('mart.fact__kline', older_than => TIMESTAMPTZ '2024-01-18')")
    done = await mart.refresh(EVERYTHING)
    assert await mart.shown() == before
    assert done.left_out == tuple(
        (f"agg__kline_{code}", Span(FIRST, datetime(2024, 1, 18, tzinfo=UTC)))
        for code in ("5m", "15m", "30m", "1h")
    )
    done = await mart.refresh(Span(FIRST - DAY, FIRST + 5 * DAY))
    assert {name for name, _ in done.done} == {
        f"agg__kline_{code}"
        for code in ("4h", "1d", "1w")  # their source is all there
    }
    assert await mart.shown() == before
    corrections = [late(one) for one in hours(1, start=20 * 24)]
    await mart.sink.write(corrections)
    assert (await mart.refresh()).days == 1
    after = await mart.shown()
    assert {code: len(after[code]) for code in after} == {
        code: len(before[code]) for code in before
    }
    assert all(
        sum(one != other for one, other in zip(before[c], after[c], strict=True)) == 1
        for c in after
    )
    mart.do("CALL refresh_continuous_aggregate('mart.agg__kline_1h', NULL, NULL)")
    assert len((await mart.shown())["1h"]) < len(before["1h"])  # which is why we never do that


async def test_a_row_that_comes_after_retention_erases_nothing(community_url: str) -> None:
    age = (datetime.now(UTC) - FIRST).days
    keep = f"{age - 20} days"  # the first three chunks are older
    keeping = {"fact__kline": {"retention": keep}}
    async with mart_on(community_url, policies=keeping) as mart:
        await mart.sink.write(hours(40 * 24))
        await mart.refresh(EVERYTHING)
        before = await mart.shown()
        job = mart.do(f"SELECT add_retention_policy('mart.fact__kline', INTERVAL '{keep}')")
        mart.do(f"CALL run_job({job})")
        (again,) = hours(1, start=30)
        await mart.sink.write([late(again)])
        assert await mart.due() == {1: 1}
        done = await mart.refresh()
        assert await mart.shown() == before
        assert "agg__kline_1h" in {name for name, _ in done.left_out}
        assert await mart.due() == {}
        await mart.refresh(EVERYTHING)
        assert await mart.shown() == before


async def test_a_row_that_comes_after_its_chunk_was_dropped_erases_nothing(mart: Mart) -> None:
    """Nothing tells that the chunk, made again for the row, is not whole, but the rollups do."""
    await mart.sink.write(hours(20 * 24))
    await mart.refresh()
    mart.do("SELECT drop_chunks('mart.fact__kline', older_than => TIMESTAMPTZ '2024-01-11')")
    before = await mart.shown()
    in_dropped, in_kept = hours(1, start=9 * 24 + 5), hours(1, start=10 * 24 + 5)
    await mart.sink.write([late(one) for one in (*in_dropped, *in_kept)])
    assert await mart.due() == {9: 1, 10: 1}
    done = await mart.refresh()
    after = await mart.shown()
    day = FIRST + 9 * DAY
    for code in ("5m", "15m", "30m", "1h"):
        assert (f"agg__kline_{code}", Span(day, day + DAY)) in done.left_out
        changed = [two[0] for one, two in zip(before[code], after[code], strict=True) if one != two]
        assert changed == [FIRST + 10 * DAY + timedelta(hours=5)]
    assert await mart.due() == {}


async def test_a_range_is_refreshed_and_no_more(mart: Mart) -> None:
    await mart.sink.write(hours(70 * 24))
    await mart.refresh(EVERYTHING)
    early, later = hours(1, start=5 * 24), hours(1, start=45 * 24)
    await mart.sink.write([late(one) for one in early])
    await mart.sink.write([late(one) for one in later])
    assert await mart.due() == {5: 1, 45: 1}
    done = await mart.refresh(Span(FIRST + 40 * DAY, FIRST + 50 * DAY))
    assert done.days == 1
    assert await mart.due() == {5: 1}
    assert {code: await wrong_buckets(mart.engine, code) for code in ROLLUPS} == dict.fromkeys(
        ROLLUPS,
        2,  # one bucket too many, and one too few
    )
    done = await mart.refresh(Span(FIRST + 5 * DAY, FIRST + 5 * DAY + timedelta(minutes=1)))
    assert await mart.due() == {5: 1}  # not all of the day
    assert await mart.wrong() == set()
    assert [str(span.end - span.start) for _, span in done.done] == [
        "0:05:00",
        "0:15:00",
        "0:30:00",
        "1:00:00",
        "4:00:00",
        "1 day, 0:00:00",
        "7 days, 0:00:00",
    ]


async def test_what_a_policy_passed_over_is_due(mart: Mart) -> None:
    """Its first run moves the watermark past all that was there before."""
    await kline_sink(mart.engine, Register()).write(hours(40 * 24))  # notes nothing
    now = int((datetime.now(UTC) - FIRST) / timedelta(hours=1))
    await mart.sink.write(hours(20, start=now - 30))
    assert await mart.wrong() == set()
    for code in ROLLUPS:
        mart.run_policy(code)
    assert await mart.wrong() == set(ROLLUPS)
    assert await mart.due() == {}
    assert (await mart.refresh()).days == 0
    assert await mart.wrong() == set()
    assert await mart.refresh() == Refreshed(kept=True)


async def test_a_change_during_a_refresh_stays_due(mart: Mart) -> None:
    await mart.sink.write(hours(10 * 24))
    await mart.refresh()
    first, other = hours(2, start=50)
    await mart.sink.write([late(first)])

    def change(done: int, steps: int, rollup: str) -> None:
        if done == 5:
            run_apart(write_apart(mart, [late(other)]))

    done = await mart.refresh(on_step=change)
    assert done.days == 0
    assert await mart.due() == {2: 2}
    assert "1h" in await mart.wrong()
    assert (await mart.refresh()).days == 1
    assert await mart.wrong() == set()


async def write_apart(mart: Mart, batch: Sequence[Candle]) -> None:
    """Write with an engine of its own."""
    async with engine_on(mart.settings.timescale.address(), pooled=False) as engine:
        await attrs.evolve(mart.sink, engine=engine).write(batch)


def run_apart(work: Any) -> None:
    """Run it to its end in a loop of its own."""
    thread = threading.Thread(target=asyncio.run, args=(work,))
    thread.start()
    thread.join()


async def test_compressed_rollups_have_no_row_twice(mart: Mart) -> None:
    """On TimescaleDB before 2.25 and PostgreSQL before 17 a bitmap heap scan would leave some."""
    await mart.sink.write([kline("BTCUSDT", n) for n in range(0, 20 * DAY_MINUTES, 5)])
    await mart.refresh(EVERYTHING)
    for code in ROLLUPS:
        schema, name = mart.materialised(code).split(".")
        await compress(mart.engine, sa.Table(name, sa.MetaData(), schema=schema))
    for day in (5, 14):
        await mart.sink.write([corrected("BTCUSDT", day * DAY_MINUTES + 330)])
        await mart.refresh()
        assert await mart.wrong() == set(), day


async def test_corrections_that_keep_coming_are_all_shown_in_the_end(native: Mart) -> None:
    klines = hours(20 * 24)
    await native.sink.write(klines)
    version, refreshed = 0, 0

    async def correct() -> None:
        nonlocal version
        while version <= 3 or refreshed < 3:
            version += 1
            await native.sink.write([late(one, version) for one in klines[version % 37 :: 37]])

    async def work_off() -> None:
        nonlocal refreshed
        while version <= 3 or refreshed < 3:
            await native.refresh()
            refreshed += 1

    await asyncio.gather(correct(), work_off())
    await native.refresh()
    assert await native.due() == {}
    assert await native.wrong() == set()


async def test_a_second_refresh_waits_for_the_first(native: Mart) -> None:
    await native.sink.write(hours(24))
    lock = "pg_try_advisory_lock(hashtextextended('ravenwh refresh mart', 0))"
    told: list[str] = []
    with psycopg.connect(native.libpq_url, autocommit=True) as first:
        assert first.execute(f"SELECT {lock}").fetchall() == [(True,)]

        def tell(line: str) -> None:
            told.append(line)
            first.close()

        done = await refresh(native.settings, None, tell=tell, on_step=lambda *_: None)
    assert told == ["another refresh is at work: waiting for it"]
    assert done.days == 1


@contextlib.contextmanager
def held_up(mart: Mart) -> Iterator[None]:
    """Nobody can refresh 1h meanwhile: its rows are locked."""
    table = mart.materialised("1h")
    with psycopg.connect(mart.libpq_url) as connection:
        connection.execute(f"SELECT FROM {table} FOR UPDATE")
        yield
        connection.rollback()


@contextlib.contextmanager
def policy(mart: Mart) -> Iterator[None]:
    """Another refresh of 1h, as a policy does it; it has ended at the end."""
    span = "TIMESTAMPTZ '2024-01-01', TIMESTAMPTZ '2024-01-03'"
    call = f"CALL refresh_continuous_aggregate('mart.agg__kline_1h', {span})"
    thread = threading.Thread(target=mart.do, args=(call,))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def waiting(mart: Mart, count: int) -> bool:
    """Whether so many sessions wait for rows of 1h."""
    return bool(
        mart.do(
            "SELECT count(DISTINCT pid) = %(count)s FROM pg_locks WHERE NOT granted "
            "AND locktype IN ('transactionid', 'tuple')",
            count=count,
        )
    )


async def until(seen: Callable[[], bool]) -> None:
    """Look again and again at another process."""
    async with asyncio.timeout(90):
        while not seen():  # noqa: ASYNC110 - another process, which cannot tell us
            await asyncio.sleep(0.05)


async def test_a_policy_at_work_is_waited_for(native: Mart) -> None:
    (one,) = hours(1, start=10)
    await native.sink.write(hours(72))
    await native.refresh()
    await native.sink.write([late(one)])
    with contextlib.ExitStack() as at_work:
        with held_up(native):
            at_work.enter_context(policy(native))
            await until(lambda: waiting(native, 1))
            await native.sink.write([late(one, 2)])
            work = asyncio.create_task(native.refresh())
            await until(lambda: busy_seen(native))
            assert waiting(native, 1)
            assert not work.done()
        await work
    assert await native.wrong() == set()


def busy_seen(mart: Mart) -> bool:
    """Whether our refresh has come to 1h and asks whether somebody is at work."""
    return bool(
        mart.do(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ravenwh' "
            "AND query LIKE '%%RowExclusiveLock%%' AND datname = current_database()"
        )
    )


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    """The names of the events that are logged meanwhile."""
    events: list[str] = []
    handler = logger.add(lambda line: events.append(line.record["message"]))
    try:
        yield events
    finally:
        logger.remove(handler)


async def test_rows_that_a_policy_doubled_are_made_again(native_url: str) -> None:
    # policies that look back to the first klines, as they do to those of today
    start = {"refresh_start": "4000 days"}
    after = {"columnstore_after": "5000 days"}
    policies = {f"agg__kline_{code}": start | after for code in ROLLUPS}
    async with mart_on(native_url, policies=policies) as native:
        (one,) = hours(1, start=10)
        await native.sink.write(hours(72))
        await native.refresh(EVERYTHING)
        await native.sink.write([late(one)])
        with logged() as events, contextlib.ExitStack() as at_work:
            with held_up(native):
                work = asyncio.create_task(native.refresh(EVERYTHING))
                await until(lambda: waiting(native, 1))
                await native.sink.write([late(one, 2)])
                at_work.enter_context(policy(native))
                await until(lambda: waiting(native, 2))
            await work
        assert events == ["REFRESH_REPEATED"]
        await native.refresh(EVERYTHING)
        assert await native.wrong() == set()


def running(mart: Mart, stop: asyncio.Event, url: str | None = None) -> Any:
    """The runner's task, at work every second."""
    settings = settings_for("", timescale={"url": mart.libpq_url, "refresh_due_every_s": 1})
    url = url or mart.settings.timescale.address()
    return kept_refreshed(settings, Database(url=url, libpq_url=mart.libpq_url), stop)


async def test_the_runner_works_off_what_is_due(native: Mart) -> None:
    await native.sink.write(hours(72))
    stop = asyncio.Event()
    with logged() as events:
        async with running(native, stop):
            await until(lambda: "REFRESHED" in events)
            assert await native.due() == {}
            assert await native.wrong() == set()
            await native.sink.write([late(one) for one in hours(1)])
            await until(lambda: events.count("REFRESHED") == 2)
    assert await native.wrong() == set()
    assert events == ["REFRESHED", "REFRESHED"]


async def test_the_runner_tries_again_and_ends_when_it_is_told_to(native: Mart) -> None:
    await native.sink.write(hours(72))
    await native.refresh()
    await native.sink.write([late(one) for one in hours(1, start=10)])
    stop = asyncio.Event()
    with logged() as events:
        nowhere = "postgresql+asyncpg://postgres@127.0.0.1:1/nowhere"
        async with running(native, stop, url=nowhere):
            await until(lambda: events.count("REFRESH_FAILED") >= 2)
        with held_up(native):
            async with asyncio.timeout(90), running(native, stop):
                await until(lambda: waiting(native, 1))
                stop.set()
            await until(lambda: waiting(native, 0))
    assert set(events) == {"REFRESH_FAILED"}
    assert await native.due() == {0: 1}
    await native.refresh()
    assert await native.wrong() == set()


async def test_without_timescaledb_nothing_ever_waits(mart_url: str) -> None:
    settings = settings_for(mart_url)
    async with engine_on(mart_url) as engine:
        assert await notes_of(settings, engine, kline_sink(engine, Register()).upsert) is None
    done = await refresh(settings, EVERYTHING, tell=pytest.fail, on_step=lambda *_: None)
    assert done == Refreshed(kept=False)


async def test_a_mart_that_was_not_adopted_has_views(not_adopted: Settings) -> None:
    done = await refresh(not_adopted, None, tell=pytest.fail, on_step=lambda *_: None)
    assert done == Refreshed(kept=False)


@pytest.fixture
def not_adopted(native_timescale: EngineDatabase) -> Settings:
    """TimescaleDB is there, and the mart was made without."""
    settings = settings_for("", timescale={"url": native_timescale.url, "engine": "none"})
    command.upgrade(alembic_config(settings), "head")
    return settings_for(native_timescale.url)


async def test_the_schema_may_have_another_name(elsewhere: Settings) -> None:
    async with engine_on(elsewhere.timescale.address(), schema="elsewhere") as engine:
        sink = kline_sink(engine, Register())
        sink.notes = await notes_of(elsewhere, engine, sink.upsert)
        await sink.write(hours(24))
        done = await refresh(elsewhere, None, tell=pytest.fail, on_step=lambda *_: None)
        assert (done.rollups, done.days) == (7, 1)
        async with engine.connect() as connection:
            assert await due_days(connection) == []
            rolled = await connection.scalar(
                sa.text("SELECT sum(base_rows) FROM elsewhere.agg__kline_1w")
            )
            assert rolled == 24


@pytest.fixture
def elsewhere(native_timescale: EngineDatabase) -> Settings:
    """A mart in another schema."""
    settings = settings_for("", timescale={"url": native_timescale.url, "schema": "elsewhere"})
    command.upgrade(alembic_config(settings), "head")
    return settings
