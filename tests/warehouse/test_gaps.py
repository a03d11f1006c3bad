"""The ledger of gaps on a real table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.errors import Unavailable
from ravenwh.ports import Gap
from ravenwh.schema import FEED_GAPS
from ravenwh.warehouse.gaps import FeedGaps
from tests.conftest import engine_on
from tests.warehouse.conftest import MINUTE, START

NUMBERS = Gap(
    feed="main",
    topic=b"BINANCE_SPOT:CANDLE:BTCUSDT ",
    epoch=START,
    first_seq=8,
    last_seq=11,
    missing=4,
    reason="not received",
    detected_at=START + 5,
)
CADENCE = Gap(
    feed="foreign",
    topic=b"BINANCE-candles-BTC-USDT",
    start_time=START,
    end_time=START + 3 * MINUTE,
    missing=3,
    reason="expected by its interval",
    detected_at=START + 5 * MINUTE,
)


async def kept(engine: AsyncEngine) -> Sequence[sa.Row[Any]]:
    async with engine.connect() as connection:
        return (await connection.execute(sa.select(FEED_GAPS).order_by("feed", "first_seq"))).all()


async def test_a_gap_of_each_kind_is_kept_once(mart: AsyncEngine) -> None:
    ledger = FeedGaps(engine=mart)
    await ledger.note([NUMBERS, CADENCE])
    await ledger.note([CADENCE, NUMBERS])
    foreign, numbers = await kept(mart)
    assert (numbers.topic, numbers.epoch) == ("BINANCE_SPOT:CANDLE:BTCUSDT", START)
    assert (numbers.first_seq, numbers.last_seq, numbers.missing) == (8, 11, 4)
    assert numbers.start_time is None
    assert numbers.repaired_at is None
    assert (foreign.epoch, foreign.first_seq) == (None, None)
    assert foreign.start_time == datetime(2024, 1, 1, tzinfo=UTC)
    assert foreign.end_time == datetime(2024, 1, 1, 0, 3, tzinfo=UTC)


async def test_what_is_known_later_stands(mart: AsyncEngine) -> None:
    ledger = FeedGaps(engine=mart)
    await ledger.note([NUMBERS])
    await ledger.note([attrs.evolve(NUMBERS, last_seq=9, missing=2, reason="ring outrun")])
    ((row),) = await kept(mart)
    assert (row.last_seq, row.missing, row.reason) == (9, 2, "ring outrun")


@pytest.mark.parametrize("gap", [NUMBERS, CADENCE], ids=["numbers", "cadence"])
async def test_a_repair_is_dated_and_a_gap_never_kept_is_not_made(
    mart: AsyncEngine, gap: Gap
) -> None:
    ledger = FeedGaps(engine=mart)
    other = attrs.evolve(gap, topic=b"another", repaired_at=START + 9 * MINUTE)
    await ledger.note([gap])
    await ledger.repaired([attrs.evolve(gap, repaired_at=START + 9 * MINUTE), other])
    (row,) = await kept(mart)
    assert row.repaired_at == datetime(2024, 1, 1, 0, 9, tzinfo=UTC)


async def test_a_topic_that_is_no_text_is_shown_by_escapes(mart: AsyncEngine) -> None:
    await FeedGaps(engine=mart).note([attrs.evolve(NUMBERS, topic=b"\xffBTC\x00 ")])
    (row,) = await kept(mart)
    assert row.topic == r"\xffBTC\x00"


async def test_garbage_is_kept_as_far_as_a_table_takes_it(mart: AsyncEngine) -> None:
    topics = [b"\xff" * 9_000 + end for end in (b"a", b"b")]
    gaps = [attrs.evolve(NUMBERS, topic=topic, missing=2**64) for topic in topics]
    await FeedGaps(engine=mart).note(gaps)
    one, other = await kept(mart)
    assert one.topic != other.topic
    assert len(one.topic) < 500
    assert one.missing == 2**63 - 1


async def test_a_database_that_is_away_says_so() -> None:
    async with engine_on("postgresql+asyncpg://nobody@127.0.0.1:1/none", schema="mart") as engine:
        with pytest.raises(Unavailable):
            await FeedGaps(engine=engine).note([NUMBERS])
