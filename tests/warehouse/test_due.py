"""The notes of what waits for a refresh: exact, in the rows' transaction, safe side by side."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.domain.series import to_ns
from ravenwh.schema import KLINES, Base
from ravenwh.timescale.refresh import reach
from ravenwh.warehouse.due import DueDay, Notes, due_days, settle
from ravenwh.warehouse.write import FactSink
from tests.warehouse.conftest import START, candle, kline_sink

DAY_MINUTES = 24 * 60
DAY = timedelta(days=1)
FIRST = datetime.fromtimestamp(START // 10**9, UTC)


def noting(engine: AsyncEngine, age: timedelta = 2 * DAY) -> FactSink[Candle]:
    """A sink that notes rows older than that."""
    sink = kline_sink(engine, Register())
    sink.notes = Notes.of(sink.upsert, age)
    return sink


@pytest.fixture
def sink(mart: AsyncEngine) -> FactSink[Candle]:
    return noting(mart)


async def noted(engine: AsyncEngine) -> dict[int, int]:
    """How often each day was noted, counted from the first."""
    async with engine.connect() as connection:
        return {(due.day - FIRST).days: due.changes for due in await due_days(connection)}


def recent(minutes_ago: int) -> Candle:
    """A kline of so many minutes ago."""
    now = to_ns(datetime.now(UTC).replace(second=0, microsecond=0))
    return candle((now - START) // 60_000_000_000 - minutes_ago)


async def test_only_rows_that_changed_are_noted(sink: FactSink[Candle]) -> None:
    engine = sink.engine
    await sink.write([candle(0), candle(1), candle(DAY_MINUTES), recent(10)])
    assert await noted(engine) == {0: 1, 1: 1}
    await sink.write([candle(0), candle(1), candle(DAY_MINUTES), recent(10)])  # the same again
    newer = START + 120_000_000_000
    await sink.write([candle(0, event_time=newer)])  # newer, with the same values
    assert await noted(engine) == {0: 1, 1: 1}
    older = START + 30_000_000_000
    await sink.write([candle(0, event_time=older, low=1.0)])  # it does not win
    assert await noted(engine) == {0: 1, 1: 1}
    await sink.write(
        [candle(0, event_time=newer + 1_000, low=1.0), candle(1, event_time=newer * 2)]
    )
    assert await noted(engine) == {0: 2, 1: 1}
    assert {due.fact for due in await all_due(engine)} == {"fact__kline"}


async def all_due(engine: AsyncEngine) -> list[DueDay]:
    async with engine.connect() as connection:
        return await due_days(connection)


async def test_days_are_those_of_utc_and_only_behind_the_policies(mart: AsyncEngine) -> None:
    sink = noting(mart, datetime.now(UTC) - FIRST - DAY)  # up to the end of the first day
    await sink.write([candle(-1), candle(0), candle(DAY_MINUTES - 1), candle(DAY_MINUTES + 10)])
    assert await noted(mart) == {-1: 1, 0: 1}


async def test_a_batch_that_fails_notes_nothing(sink: FactSink[Candle]) -> None:
    async with sink.engine.begin() as connection:
        await connection.execute(
            sa.text(
                "ALTER TABLE mart.ops__refresh_due ADD CONSTRAINT none_of_may "
                "CHECK (day < '2024-05-01' OR day >= '2024-06-01')"
            )
        )
    with pytest.raises(Exception, match="none_of_may"):
        await sink.write([candle(0), candle(130 * DAY_MINUTES)])
    assert await noted(sink.engine) == {}
    async with sink.engine.connect() as connection:
        count = await connection.scalar(sa.select(sa.func.count()).select_from(KLINES))
    assert count == 0


async def test_two_keys_that_are_the_same_in_one_batch(sink: FactSink[Candle]) -> None:
    newer = START + 120_000_000_000
    result = await sink.write([candle(0), candle(0, event_time=newer, low=1.0)])
    assert (result.written, result.folded) == (1, 1)
    assert await noted(sink.engine) == {0: 1}


async def test_writers_of_the_same_days_do_not_deadlock(mart: AsyncEngine) -> None:
    days = range(20)

    async def write(symbol: str, *, backwards: bool) -> None:
        sink = noting(mart)
        for version in range(10):
            batch = [
                candle(
                    day * DAY_MINUTES, symbol=symbol, event_time=START * 2 + version, low=version
                )
                for day in days
            ]
            await sink.write(batch[::-1] if backwards else batch)

    await noting(mart).write([candle(0, symbol=s) for s in ("BTCUSDT", "ETHUSDT")])
    await asyncio.gather(write("BTCUSDT", backwards=False), write("ETHUSDT", backwards=True))
    found = await noted(mart)
    assert found == {day: 20 + (day == 0) for day in days}


async def test_what_changed_since_it_was_seen_stays(sink: FactSink[Candle]) -> None:
    newer = START + 120_000_000_000
    await sink.write([candle(0), candle(DAY_MINUTES)])
    async with sink.engine.connect() as plain:
        connection: AsyncConnection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        seen = await due_days(connection)
        await sink.write([candle(0, event_time=newer, low=1.0)])
        assert await settle(connection, seen) == 1
        assert await noted(sink.engine) == {0: 2}
        seen = await due_days(connection)
        assert await settle(connection, seen) == 1
        await sink.write([candle(0, event_time=newer + 1, low=2.0)])
        assert [due.changes for due in seen] == [2]
        again = await due_days(connection)
        await sink.write([candle(0, event_time=newer + 2, low=3.0)])
        assert await settle(connection, again) == 0
        assert await noted(sink.engine) == {0: 2}


async def test_a_note_taken_away_and_made_again_is_another(sink: FactSink[Candle]) -> None:
    newer = START + 120_000_000_000
    await sink.write([candle(0)])
    async with sink.engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        seen = await due_days(connection)
        assert await settle(connection, seen) == 1
        await sink.write([candle(0, event_time=newer, low=1.0)])  # also the first change
        assert await settle(connection, seen) == 0


def test_how_far_back_the_policies_look() -> None:
    def of(table: str, policies: dict[str, Any] | None = None) -> timedelta | None:
        return reach(Base.metadata, Base.metadata.tables[f"mart.{table}"], policies)

    # 1h: two days, less its bucket, less two of its schedules
    assert of("fact__kline") == 2 * DAY - timedelta(hours=1) - 2 * timedelta(minutes=15)
    assert of("fact__funding") is None
    assert of("fact__vpin") is None
    assert of("ops__refresh_due") is None
    longer = {
        f"agg__kline_{code}": {"refresh_start": "20 days"}
        for code in ("5m", "15m", "30m", "1h", "4h", "1d")
    }
    # then 1d, whose schedule is an hour
    assert of("fact__kline", longer) == 20 * DAY - DAY - 2 * timedelta(hours=1)


async def test_without_notes_nothing_is_noted(mart: AsyncEngine) -> None:
    await kline_sink(mart, Register()).write([candle(0)])
    assert await noted(mart) == {}
