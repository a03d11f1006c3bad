"""All recorded trades: each of them is a point, however often and in whatever order they come."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from ravenwh.domain.messages import Trade
from ravenwh.staging.encoder import Encoder
from ravenwh.staging.identity import venue_time
from ravenwh.staging.reading import Ticks
from ravenwh.staging.sink import TickSink
from tests.engines.influx import InfluxBucket
from tests.real_trades import COUNT, SHARED, archived_trades, checksum, live_trades


@pytest.fixture(scope="session")
def archived(shared_data: Path) -> list[Trade]:
    """The trades of the archive, in its order."""
    return archived_trades(shared_data)


@pytest.fixture(scope="session")
def live(shared_data: Path) -> list[Trade]:
    """The trades of the frames of a live feed."""
    return live_trades(shared_data)


def batches_of(trades: list[Trade], size: int) -> Iterable[list[Trade]]:
    return (trades[i : i + size] for i in range(0, len(trades), size))


async def write(influx: InfluxBucket, trades: list[Trade], size: int) -> None:
    with closing(influx.server()) as server:
        sink = TickSink(server=server)
        for batch in batches_of(trades, size):
            result = await sink.write(batch)
            assert result.written == len(batch)
        assert sink.encoder.ambiguous == 0


async def test_every_trade_is_one_point(
    influx: InfluxBucket, archived: list[Trade], live: list[Trade]
) -> None:
    """Two writers at once, then in another order, then those of a live feed: the same points."""
    shuffled = archived.copy()
    random.Random(4).shuffle(shuffled)
    await asyncio.gather(write(influx, archived, 5000), write(influx, archived, 3571))
    await write(influx, shuffled, 4999)
    await write(influx, live, 5000)
    assert influx.count() == COUNT
    with closing(influx.server()) as server:
        ticks = Ticks(server=server)
        read = [m for part in ticks.parts("trades") for m in part]
        assert checksum(read) == checksum(archived)
        spot = ticks.read("trades", "BTCUSDT", "BINANCE_SPOT").arrow()
    times = [trade.event_time for trade in archived if trade.venue == "BINANCE_SPOT"]
    assert spot["event_time"].cast("int64").to_pylist() == sorted(times)


def test_a_live_and_an_archived_copy_are_one_point(
    archived: list[Trade], live: list[Trade]
) -> None:
    encoder = Encoder()
    known = set(encoder.encode(archived).lines)
    assert len(known) == COUNT
    assert len(set(encoder.encode(live).lines) & known) == SHARED
    assert encoder.ambiguous == 0


def test_how_many_would_be_lost_without_slots(archived: list[Trade]) -> None:
    """What the original does: the point of a trade is its millisecond, symbol and side."""
    points = {(t.venue, t.symbol, t.side, venue_time(t.event_time)) for t in archived}
    assert len(points) == COUNT - 29_283
