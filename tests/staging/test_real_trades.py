"""All recorded trades: each of them is a point, however often and in whatever order they come."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from ravenwh.app.wires import WIRES
from ravenwh.domain.messages import Message, Trade
from ravenwh.domain.register import Register
from ravenwh.sources.catalog import find_files
from ravenwh.staging.encoder import Encoder
from ravenwh.staging.identity import venue_time
from ravenwh.staging.reading import Ticks
from ravenwh.staging.sink import TickSink
from tests.engines.influx import InfluxBucket
from tests.recorded import frame_of, messages_of

COUNT = 43_218
SHARED = 31_070
"""Trades of the archive that are in the recorded frames too."""


def complain(*told: object) -> None:
    raise AssertionError(told)


@pytest.fixture(scope="session")
def archived(shared_data: Path) -> list[Trade]:
    """The trades of the archive, in its order."""
    found: list[Trade] = []
    for folder, venue in (("spot", "BINANCE_SPOT"), ("um", "BINANCE_FUTURES")):
        files, _ = find_files([shared_data / "trades_vision" / folder], venue=venue)
        for file in files:
            found += [m for m in file.messages(complain) if isinstance(m, Trade)]
    assert len(found) == COUNT
    return found


@pytest.fixture(scope="session")
def live(shared_data: Path) -> list[Trade]:
    """The trades of the frames of a live feed."""
    decode = WIRES["cryptofeed"].decoder(Register())
    files = sorted((shared_data / "wire").glob("HFT_*.frames.txt.gz"))
    assert len(files) == 2
    messages = (
        decode(frame_of(m)) for file in files for m in messages_of(file) if b"-trades-" in m[:40]
    )
    return [m for m in messages if isinstance(m, Trade)]


def checksum(trades: Iterable[Message]) -> str:
    """Of all that a venue says of the trades, whatever their order."""
    said = sorted(msgspec.json.encode(replace(trade, producer="")) for trade in trades)
    return hashlib.sha256(b"\n".join(said)).hexdigest()


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
        read = [m async for m in ticks.messages("trades")]
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
