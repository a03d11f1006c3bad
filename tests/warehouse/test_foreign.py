"""Bars of another chain are kept out of one that was built."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.schema import BARS
from ravenwh.warehouse.bar_sink import BarSink
from tests.conftest import engine_on, migrate
from tests.engines.fixtures import EngineDatabase
from tests.warehouse.bars import MILLISECOND, bar
from tests.warehouse.compressed import LIMIT, batches_split, compress, in_each_session
from tests.warehouse.conftest import START

DAYS = [(day, 10 * at) for day in range(3) for at in range(150)]
FACT = BARS["tick_imbalance"]
Bar = tuple[int, int, int]
"""open_time, bar_seq, close_time, in milliseconds after the start."""


@pytest.fixture
async def engine(each_engine: EngineDatabase) -> AsyncIterator[AsyncEngine]:
    await asyncio.to_thread(migrate, each_engine.url)
    async with engine_on(each_engine.url) as engine:
        yield engine


def candle(one: Bar, **changes: Any) -> Candle:
    opened, seq, closed = one
    at = START + closed * MILLISECOND
    return bar(opened, seq, close_time=at, event_time=at, **changes)


async def build(engine: AsyncEngine, bars: Sequence[Bar], **changes: Any) -> None:
    """Have these bars in the mart as if a build had made them."""
    sink = BarSink.into_all(engine, Register())
    result = await sink.write([candle(one, **changes) for one in bars])
    assert result.written == len(bars)
    async with engine.begin() as connection:
        times = [START + opened * MILLISECOND for opened, *_ in bars]
        await connection.execute(
            sa.update(FACT)
            .where(sa.cast(sa.extract("epoch", FACT.c.open_time) * 10**9, sa.BigInteger).in_(times))
            .values(source="built")
        )


async def refused(engine: AsyncEngine, bars: Sequence[Bar], **changes: Any) -> list[Bar]:
    result = await BarSink.into_all(engine, Register()).write(
        [candle(one, **changes) for one in bars]
    )
    assert {error.code for _, error in result.rejected} <= {"OTHER_CHAIN"}  # type: ignore[attr-defined]  # they are Rejected
    assert result.written + result.unchanged + len(result.rejected) == len(bars)
    return [bars[index] for index, _ in result.rejected]


async def test_what_stands_amid_built_bars_is_refused_and_no_other(engine: AsyncEngine) -> None:
    built = [(10, 0, 20), (20, 0, 20), (20, 1, 30), (40, 0, 50)]
    await build(engine, built)
    before, behind = (1, 0, 9), (50, 0, 60)
    amid = [(12, 0, 19), (12, 1, 35), (20, 2, 22), (31, 0, 39), (30, 0, 30)]
    assert await refused(engine, [*amid, before, *built, behind]) == amid
    assert await refused(engine, amid) == amid
    # another series, another profile: none of their bars was built
    assert await refused(engine, amid, symbol="ETHUSDT") == []
    assert await refused(engine, amid, profile="tib_other") == []


async def test_between_what_was_built_and_what_stayed_bars_follow_each_other(
    engine: AsyncEngine,
) -> None:
    await build(engine, [(10, 0, 20)])
    assert await refused(engine, [(60, 0, 70), (80, 0, 90)]) == []
    # of the same chain, and late; and of another one, which reaches into a neighbour
    assert await refused(engine, [(15, 0, 25), (30, 0, 40), (20, 0, 29), (50, 0, 60)]) == [
        (15, 0, 25),
        (20, 0, 29),
        (50, 0, 60),
    ]
    assert await refused(engine, [(75, 0, 76)]) == []


@pytest.mark.parametrize("seed", range(6))
async def test_any_bars_are_judged_by_their_neighbours(mart: AsyncEngine, seed: int) -> None:
    random = Random(seed)
    keys = sorted({(random.randrange(60), random.randrange(2)) for _ in range(40)})
    there = [(at, seq, at + random.randrange(4)) for at, seq in keys]
    built = [one for one in there if random.random() < 0.6]
    stream = [one for one in there if one not in built and one[0] not in {b[0] for b in built}]
    assert await refused(mart, stream) == []
    await build(mart, built)
    rows = sorted([(one, True) for one in built] + [(one, False) for one in stream])
    given = sorted({(random.randrange(60), random.randrange(2)) for _ in range(60)})
    asked = [(at, seq, at + random.randrange(4)) for at, seq in given]
    assert await refused(mart, asked) == [one for one in asked if is_foreign(one, rows)]


def is_foreign(one: Bar, rows: Sequence[tuple[Bar, bool]]) -> bool:
    before = [row for row in rows if row[0][:2] < one[:2]]
    after = [row for row in rows if row[0][:2] > one[:2]]
    if any(row[0][:2] == one[:2] for row in rows) or not before or not after:
        return False
    (last, was_built), (first, is_built) = before[-1], after[0]
    return was_built and (is_built or one[0] <= last[2] or one[2] >= first[0])


async def test_so_is_a_batch_that_is_split(each_community: EngineDatabase) -> None:
    """One that decompresses more than TimescaleDB does at once."""
    await asyncio.to_thread(migrate, each_community.url)
    async with engine_on(each_community.url) as engine:
        in_each_session(engine, f"SET {LIMIT} = 100")
        days = [(day * 86_400_000 + at, 0, day * 86_400_000 + at + 9) for day, at in DAYS]
        await build(engine, days)
        await compress(engine, FACT)
        amid = [(opened + 4, 0, opened + 6) for opened, *_ in days[:-1]]
        later = [(opened, seq, closed + 1) for opened, seq, closed in days]
        with batches_split() as parts:
            # built ones are not revised by what comes over the wire
            assert await refused(engine, [*amid, *later]) == amid
        assert parts
