"""Klines into compressed chunks, beyond what TimescaleDB decompresses in one statement."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.errors import Unavailable
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.feed import wire
from ravenwh.ingest import Counts, Finality, Limits, Worker
from ravenwh.journal import Store
from ravenwh.ports import Frame
from ravenwh.schema import KLINES, REFRESH_DUE, ROLLUPS
from ravenwh.warehouse.compressed import by_series_and_day
from ravenwh.warehouse.due import Notes
from tests.conftest import engine_on, migrate
from tests.engines.fixtures import EngineDatabase
from tests.engines.native import DSN
from tests.warehouse.compressed import (
    LIMIT,
    batches_split,
    compress,
    corrected,
    fill,
    in_each_session,
    kline,
    outside_transactions,
    partly_compressed,
    refresh,
    rollups_are_right,
    symbols,
    wrong_buckets,
)
from tests.warehouse.conftest import START, candle, kline_sink, rows

LOW = 2500  # two compressed batches of 1,000 rows, and not three
BATCH = Limits().batch_rows
DAY = 24 * 60

POLICY = sa.text("""
SELECT job_id FROM timescaledb_information.jobs
WHERE proc_name = 'policy_compression' AND hypertable_name = 'fact__kline'
""")


@pytest.fixture
def migrated(each_community: EngineDatabase) -> str:
    """The URL of a migrated and empty mart."""
    migrate(each_community.url)
    return each_community.url


@pytest.fixture
def migrated_native(native_timescale: EngineDatabase) -> str:
    """The same, on a native server only."""
    migrate(native_timescale.url)
    return native_timescale.url


@pytest.fixture
async def engine(migrated: str) -> AsyncIterator[AsyncEngine]:
    """An engine on it, with a limit that a few series reach."""
    async with engine_on(migrated) as engine:
        in_each_session(engine, f"SET {LIMIT} = {LOW}")
        yield engine


async def state(engine: AsyncEngine) -> tuple[int, int, set[Any]]:
    """Rows, keys, and what volumes there are besides those of the filling."""
    volumes = await rows(engine, KLINES.c.volume)
    async with engine.connect() as connection:
        keys = sa.select(sa.func.count(sa.distinct(sa.tuple_(*KLINES.primary_key))))
        return len(volumes), await connection.scalar(keys) or 0, {v for (v,) in volumes if v > 13}


def test_parts_are_one_series_and_day_in_the_order_of_the_key() -> None:
    one, two = (1, 1, 1, 1), (2, 1, 1, 1)
    days = {day: START // 10**9 + day * 86_400 for day in range(3)}
    at = {day: datetime.fromtimestamp(seconds, UTC) for day, seconds in days.items()}
    last = at[1] - timedelta(minutes=1)
    given = {(two, at[0]): "c", (one, at[1]): "b", (one, last): "a2", (one, at[0]): "a1"}
    assert [list(part.items()) for part in by_series_and_day(given)] == [
        [((one, at[0]), "a1"), ((one, last), "a2")],
        [((one, at[1]), "b")],
        [((two, at[0]), "c")],
    ]


async def test_a_batch_that_decompresses_too_much_is_written_in_parts(engine: AsyncEngine) -> None:
    names = symbols(5)
    await fill(engine, names, 1000)
    batch = [corrected(name, minute) for minute in (10, 500) for name in names]
    batch += [corrected(names[0], 10), kline(names[1], 20), candle(volume=-1.0)]
    sink = kline_sink(engine, Register())
    with batches_split() as parts:
        result = await sink.write(batch)
    assert parts == [5]
    assert (result.written, result.unchanged, result.folded) == (10, 1, 1)
    assert [index for index, _ in result.rejected] == [12]
    assert await state(engine) == (5000, 5000, {23.0, 21.0})
    with batches_split() as parts:
        again = await sink.write(batch)
    assert parts == []  # it is in the rowstore now
    assert (again.written, again.unchanged, again.folded) == (0, 11, 1)


async def test_the_days_of_all_parts_are_noted_for_a_refresh(engine: AsyncEngine) -> None:
    names = symbols(5)
    await fill(engine, names, DAY + 10)
    sink = kline_sink(engine, Register())
    sink.notes = Notes.of(sink.upsert, timedelta(days=2))
    with batches_split() as parts:
        await sink.write([corrected(name, minute) for minute in (9, DAY + 9) for name in names])
    assert parts == [10]
    async with engine.connect() as connection:
        noted = await connection.execute(sa.select(REFRESH_DUE.c.day, REFRESH_DUE.c.changes))
        due = {row.day: row.changes for row in noted}
    first = datetime.fromtimestamp(START // 10**9, UTC)
    assert due == {first: 5, first + timedelta(days=1): 5}


async def test_one_series_and_day_above_the_limit(migrated: str) -> None:
    async with engine_on(migrated) as engine:
        in_each_session(engine, f"SET {LIMIT} = 10")
        await fill(engine, symbols(1), 1000)
        sink = kline_sink(engine, Register())
        with batches_split() as parts:
            result = await sink.write([corrected("C000USDT", 500)])
        assert parts == [1]
        assert result.written == 1
        async with engine.connect() as connection:  # it was lifted for its own only
            assert await connection.scalar(sa.text(f"SHOW {LIMIT}")) == "10"


async def test_the_rights_of_a_runner_suffice(migrated_native: str) -> None:
    role = sa.make_url(migrated_native).database  # as much the test's own as its database
    async with engine_on(migrated_native) as owner:
        await fill(owner, symbols(5), 1000)
        async with owner.begin() as connection:
            await connection.execute(sa.text(f"CREATE ROLE {role}"))
            for right in ("USAGE ON SCHEMA", "SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA"):
                await connection.execute(sa.text(f"GRANT {right} mart TO {role}"))
        try:
            async with engine_on(migrated_native) as writer:
                in_each_session(writer, f"SET ROLE {role}", f"SET {LIMIT} = {LOW}")
                with batches_split() as parts:
                    sink = kline_sink(writer, Register())
                    result = await sink.write([corrected(name, 7) for name in symbols(5)])
            assert parts == [5]
            assert result.written == 5
        finally:
            async with owner.begin() as connection:
                await connection.execute(sa.text(f"DROP OWNED BY {role}"))
                await connection.execute(sa.text(f"DROP ROLE {role}"))


async def test_three_runners_at_once_into_the_same_compressed_rows(migrated_native: str) -> None:
    names = symbols(5)
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(engine_on(migrated_native)) for _ in range(3)]
        for engine in engines:
            in_each_session(engine, f"SET {LIMIT} = {LOW}")
        await fill(engines[0], names, 1000)
        batches = [
            [corrected(n, m, version) for m in range(0, 1000, 50) for n in order]
            for version, order in enumerate((names, names[::-1], names))
        ]
        await asyncio.gather(*map(stubborn, engines, batches))
        assert await state(engines[0]) == (5000, 5000, {22.0, 24.0})  # the last version of each


async def stubborn(engine: AsyncEngine, batch: list[Candle]) -> None:
    """Write it as the worker does: again after a deadlock, without end."""
    sink = kline_sink(engine, Register())
    while True:
        with suppress(Unavailable):
            await sink.write(batch)
            return


async def test_one_refused_row_is_the_only_dead_one_of_a_split_batch(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    names = symbols(5)
    await fill(engine, names, 1000)
    async with engine.begin() as connection:
        check = "ALTER TABLE mart.fact__kline ADD CONSTRAINT odd CHECK (close <> 66)"
        await connection.execute(sa.text(check))
    batch = [corrected(name, minute) for minute in (10, 500) for name in names]
    batch.append(kline(names[3], 600, event_time=START + DAY * 60 * 10**9, close=66.0))
    with closing(Store(tmp_path / "journal.sqlite")) as store:
        counts = await replayed(engine, store, batch)
    assert (counts.recovered, counts.dead) == (11, 1)
    assert counts.written + counts.unchanged == 10  # what a part committed is not written again
    assert await state(engine) == (5000, 5000, {23.0, 21.0})


class Nothing:
    """A source that never gives anything: all there is to do is in the journal."""

    async def receive(self, limit: int) -> list[Frame]:
        return await asyncio.Future()

    def close(self) -> None:
        pass


async def replayed(engine: AsyncEngine, store: Store, klines: Sequence[Candle]) -> Counts:
    """A runner's end of frames that an earlier one had journaled."""
    for at in range(0, len(klines), 1000):
        store.append([frame_of(one) for one in klines[at : at + 1000]])
    worker = Worker[Candle](
        source=Nothing(),
        decode=wire.decode,
        wants=lambda message: isinstance(message, Candle),
        sink=kline_sink(engine, Register()),
        journal=store,
        dead_letters=store,
        limits=Limits(shutdown_grace_s=60),
        holding=Finality(grace_ns=0),
    )
    stop = asyncio.Event()
    stop.set()  # it ends when the journal is worked off
    counts = await worker.run(stop)
    assert worker.in_journal == 0
    return counts


def frame_of(kline: Candle) -> Frame:
    topic, payload = wire.encode(kline)
    return Frame("f", topic, wire.header(1, 1), payload, START)


async def test_old_journal_rows_into_compressed_chunks(engine: AsyncEngine, tmp_path: Path) -> None:
    """Klines as they are, older versions and corrections, mixed, as a restored journal has them."""
    names, minutes = symbols(4), 2 * DAY
    await fill(engine, names, minutes)
    await refresh(engine)
    for table in ROLLUPS.values():
        await compress(engine, table)
    same = [kline(name, minute) for minute in range(0, minutes, 3) for name in names]
    older = [corrected(n, minute, version=-1) for minute in range(1, minutes, 30) for n in names]
    late = [corrected(name, minute) for minute in range(2, minutes, 30) for name in names]
    recorded = sorted(same + older + late, key=lambda one: one.open_time)
    with closing(Store(tmp_path / "journal.sqlite")) as store, batches_split() as parts:
        counts = await replayed(engine, store, recorded)
    assert sum(parts) == 8  # four series, two days
    assert (counts.recovered, counts.written) == (len(recorded), len(late))
    assert (counts.unchanged, counts.dead) == (len(same + older), 0)
    assert await wrong_buckets(engine, "1d") > 0
    await refresh(engine)
    await rollups_are_right(engine)
    assert await partly_compressed(engine) > 0
    async with outside_transactions(engine) as connection:
        await connection.execute(sa.text(f"CALL run_job({await connection.scalar(POLICY)})"))
    assert await partly_compressed(engine) == 0
    await rollups_are_right(engine)


async def test_no_row_is_passed_over_whatever_the_plan(engine: AsyncEngine) -> None:
    """As UPDATE and DELETE are, under bitmap heap scans, by TimescaleDB 2.24 on PostgreSQL 15."""
    plans = ("seqscan", "indexscan", "indexonlyscan")
    in_each_session(engine, *(f"SET enable_{plan} = off" for plan in plans))
    names = symbols(5)
    await fill(engine, names, 1000)
    sink = kline_sink(engine, Register())
    for minute in (
        3,
        500,
        998,
    ):  # the first finds an empty rowstore, the others a partly filled one
        for name in names:
            assert (await sink.write([corrected(name, minute)])).written == 1
        assert (await sink.write([corrected(name, minute) for name in names])).unchanged == 5
    assert await state(engine) == (5000, 5000, {24.0, 21.0, 23.0})


async def test_the_upsert_scans_no_chunk(engine: AsyncEngine) -> None:
    names = symbols(5)
    await fill(engine, names, 1000)
    sink = kline_sink(engine, Register())
    await sink.write([corrected(name, 3) for name in names])
    given = {name: [] for name in sink.upsert.columns} | {"source": "stream", "now": None}
    statement = sink.upsert.statement.params(given).compile(engine.sync_engine)
    values = tuple(statement.params[name] for name in statement.positiontup)
    async with engine.connect() as connection:
        plan = "\n".join(
            line for (line,) in await connection.exec_driver_sql(f"EXPLAIN {statement}", values)
        )
    assert sorted(re.findall(r"(\w+) Scan", plan)) == ["CTE", "Custom", "Function"]
    assert "Custom Scan (ModifyHypertable)" in plan


LONG = (
    pytest.mark.timeout(900),
    pytest.mark.skipif(DSN not in os.environ, reason=f"{DSN} names no server for minutes of work"),
)


@pytest.mark.parametrize("count", [200_000, pytest.param(1_000_000, marks=LONG)])
async def test_a_correction_of_every_row(migrated_native: str, count: int) -> None:
    """In the order of a feed: each minute of all series, then the next."""
    async with engine_on(migrated_native, statement_s=300) as engine:
        names, minutes = symbols(200), count // 200
        await fill(engine, names, minutes)
        await refresh(engine)
        for table in ROLLUPS.values():
            await compress(engine, table)
        sink = kline_sink(engine, Register())
        every = (corrected(name, minute) for minute in range(minutes) for name in names)
        written = 0
        with batches_split() as parts:
            while batch := list(islice(every, BATCH)):
                written += (await sink.write(batch)).written
        assert written == count
        assert parts  # 200 compressed batches at once are beyond the limit of TimescaleDB itself
        assert await wrong_buckets(engine, "1d") > 0
        await refresh(engine)
        await rollups_are_right(engine)
