"""Rows that the database refuses: they alone become dead letters, and that is found out quickly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.feed import wire
from ravenwh.ingest import Counts, Limits, Worker
from ravenwh.journal import Store
from ravenwh.journal.letters import DeadLetter
from tests.ingest.test_worker import Frames, frame_of, is_candle
from tests.warehouse.conftest import candle, kline_sink

BAD = frozenset({0, 17, 18, 1_000, 1_001, 2_499, 2_500, 3_333, 4_998, 4_999})
BATCH = 5_000


@pytest.fixture
def statements(mart: AsyncEngine) -> Iterator[list[str]]:
    """What is sent to the database."""
    sent: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    sa.event.listen(mart.sync_engine, "before_cursor_execute", note)
    yield sent
    sa.event.remove(mart.sync_engine, "before_cursor_execute", note)


async def written(
    engine: AsyncEngine, folder: Path, klines: list[Candle]
) -> tuple[Counts, list[DeadLetter]]:
    """What a worker makes of the klines as one batch."""
    source, stop = Frames(), asyncio.Event()
    source.feed([frame_of(kline) for kline in klines])
    store = Store(folder / "j.sqlite")
    try:
        worker = Worker[Candle](
            source=source,
            decode=wire.decode,
            wants=is_candle,
            sink=kline_sink(engine, Register()),
            journal=store,
            dead_letters=store,
            limits=Limits(batch_rows=len(klines), flush_after_s=60),
        )
        task = asyncio.create_task(worker.run(stop))
        async with asyncio.timeout(60):
            while worker.counts.written + worker.counts.dead < len(klines):  # noqa: ASYNC110  a turn
                await asyncio.sleep(0)
        stop.set()
        await task
        return worker.counts, store.dead_letters()
    finally:
        store.close()


async def test_ten_refused_rows_of_a_batch_take_few_statements_and_nothing_with_them(
    mart: AsyncEngine, tmp_path: Path, statements: list[str]
) -> None:
    async with mart.begin() as connection:
        await connection.execute(
            sa.text("ALTER TABLE mart.fact__kline ADD CONSTRAINT unlucky CHECK (volume <> 14)")
        )
    klines = [candle(n, volume=14.0 if n in BAD else 1.0 + n * 2) for n in range(BATCH)]
    statements.clear()
    counts, letters = await written(mart, tmp_path, klines)
    assert (counts.written, counts.dead) == (4_990, 10)
    assert len(statements) <= 200
    assert {wire.decode(letter.frame).open_time for letter in letters} == {  # type: ignore[attr-defined]
        klines[n].open_time for n in BAD
    }
    assert {(letter.error, letter.code) for letter in letters} == {("Rejected", "SQLSTATE_23514")}
    assert all("unlucky" in letter.reason for letter in letters)
    async with mart.connect() as connection:
        (count,) = (
            await connection.execute(sa.text("SELECT count(*) FROM mart.fact__kline"))
        ).one()
    assert count == 4_990


async def test_rows_that_the_database_does_not_name_are_found_by_halving(
    mart: AsyncEngine, tmp_path: Path, statements: list[str]
) -> None:
    async with mart.begin() as connection:
        await connection.execute(
            sa.text(
                "CREATE UNIQUE INDEX seen_once ON mart.fact__kline ((-trade_count)) "
                "WHERE trade_count > 90000"
            )
        )
    klines = [candle(n, trade_count=100_000 if n in (3, 400, 777) else n) for n in range(1_000)]
    statements.clear()
    counts, letters = await written(mart, tmp_path, klines)
    assert (counts.written, counts.dead) == (998, 2)  # the first of them is one of its kind
    assert {letter.code for letter in letters} == {"SQLSTATE_23505"}
    assert len(statements) <= 100


async def test_a_version_that_is_refused_gives_way_to_the_one_before(
    mart: AsyncEngine, tmp_path: Path
) -> None:
    async with mart.begin() as connection:
        await connection.execute(
            sa.text("ALTER TABLE mart.fact__kline ADD CONSTRAINT unlucky CHECK (volume <> 14)")
        )
    good = candle(0, volume=5.0)
    newer = candle(0, volume=14.0, event_time=good.event_time + 1)
    counts, (letter,) = await written(mart, tmp_path, [good, newer])
    assert (counts.written, counts.dead, counts.folded) == (1, 1, 0)
    assert wire.decode(letter.frame) == newer
