"""Stored ticks sent again: a replay of what a replay brought into InfluxDB gives equal messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
import zmq.asyncio
from msgspec.structs import replace

from ravenwh.domain.errors import UnknownName
from ravenwh.domain.messages import (
    Funding,
    Liquidation,
    Message,
    OpenInterest,
    OrderBook,
    PriceIndex,
    Ticker,
    Trade,
)
from ravenwh.sources.catalog import find_files
from ravenwh.sources.replay import Replay, Subject
from ravenwh.sources.report import Report
from ravenwh.staging.measurements import MEASUREMENTS
from ravenwh.staging.reading import Ticks
from ravenwh.staging.sink import TickSink
from ravenwh.staging.track import TickTrack
from tests.app.test_ticks import settings_of
from tests.engines.influx import InfluxBucket
from tests.programs import Programs, ended

MS = 1_000_000
AT = 1_723_161_255_342 * MS
FUTURES: dict[str, Any] = {"venue": "BINANCE_FUTURES", "symbol": "BTCUSDT", "event_time": AT}
OPTION: dict[str, Any] = {"venue": "DERIBIT", "symbol": "BTC-7JUN24-70000-C", "event_time": AT}
MESSAGES: list[Message] = [
    Trade(**FUTURES, price=1.5, quantity=2.0, side="buy", trade_id="999999"),
    Trade(**FUTURES, price=1.5, quantity=2.0, side="buy", trade_id="1000000"),
    Trade(**FUTURES, price=1.6, quantity=1.0, side="sell", trade_id="a-b c"),
    Trade(**FUTURES, price=1.6, quantity=1.0, side="sell"),
    OrderBook(**FUTURES, bids=((1.0, 3.0),), asks=((2.0, 1.0),), snapshot=True),
    OrderBook(
        **FUTURES | {"event_time": AT + 7}, bids=((1.1, 3.0),), asks=((2.0, 1.0),), snapshot=True
    ),
    Funding(**FUTURES, rate=1e-4, mark_price=7.0, next_funding_time=AT + 5 * MS),
    Funding(**FUTURES | {"event_time": AT + 1}, rate=-1e-4, index_price=6.5),
    Liquidation(**FUTURES, price=1.0, quantity=2.0, side="sell"),
    OpenInterest(**FUTURES, open_interest=5.0, open_interest_value=7.5),
    Ticker(**OPTION, mark_iv=0.5),
    Ticker(**OPTION | {"symbol": "ETH-7JUN24-3500-P"}, bid_iv=0.25, last_price=0.125),
    PriceIndex(**OPTION | {"symbol": "btc_usd"}, price=3.0),
]
"""Of every measurement, with all that it can hold."""


async def write(influx: InfluxBucket, messages: Iterable[Message]) -> None:
    """As the tick runner does."""
    messages = list(messages)
    with closing(influx.server()) as server:
        result = await TickSink(server=server).write(messages)
    assert result.written == len(messages)


def bad(*told: object) -> None:
    raise AssertionError(told)


async def sent_of(tracks: list[TickTrack], **how: Any) -> tuple[list[Message], Report]:
    """What a replay of the tracks publishes."""
    sent: list[Message] = []

    async def publish(message: Message) -> None:
        sent.append(message)

    async def subscribed(subjects: object) -> None:
        pass

    replay = Replay(
        tracks=tracks, publish=publish, wait_for_subscribers=subscribed, on_bad=bad, **how
    )
    return sent, await replay.run(asyncio.Event())


def tracks_of(ticks: Ticks, venues: Iterable[str]) -> list[TickTrack]:
    """Of each measurement and venue that has points."""
    found = []
    for name in MEASUREMENTS:
        for venue in venues:
            try:
                found.append(TickTrack.of(ticks, name, venue, None, None, None))
            except UnknownName:
                continue
    return found


def encoded(messages: Iterable[Message]) -> list[bytes]:
    return sorted(msgspec.json.encode(message) for message in messages)


async def test_every_measurement_comes_back_as_it_was(influx: InfluxBucket) -> None:
    await write(influx, MESSAGES)
    with closing(influx.server()) as server:
        ticks = Ticks(server=server)
        tracks = tracks_of(ticks, ("BINANCE_FUTURES", "DERIBIT"))
        sent, report = await sent_of(tracks)
        assert encoded(sent) == encoded(MESSAGES)
        again, _ = await sent_of(tracks, speed=1e9)  # merged by time
        assert encoded(again) == encoded(MESSAGES)
        assert [message.event_time for message in again] == sorted(
            message.event_time for message in sent
        )
    assert report.exit_code == 0
    assert report.lines() == [
        "sent 4 trades points of BTCUSDT from InfluxDB, 0 bad rows",
        "sent 2 orderbook points of BTCUSDT from InfluxDB, 0 bad rows",
        "sent 2 funding_rate points of BTCUSDT from InfluxDB, 0 bad rows",
        "sent 1 liquidation point of BTCUSDT from InfluxDB, 0 bad rows",
        "sent 1 open_interest point of BTCUSDT from InfluxDB, 0 bad rows",
        "sent 2 options_ticker points of 2 symbols from InfluxDB, 0 bad rows",
        "sent 1 price_index point of btc_usd from InfluxDB, 0 bad rows",
        "sent 13 messages of 7 series, 0 bad rows",
    ]


async def test_what_a_measurement_does_not_hold(influx: InfluxBucket) -> None:
    """As the page about replays says it."""
    await write(
        influx,
        [
            Trade(
                **FUTURES | {"event_time": AT + 999, "producer": "p"},
                price=1.0,
                quantity=1.0,
                side="buy",
            ),
            OrderBook(
                **FUTURES,
                bids=((1.0, 3.0), (0.5, 1.0)),
                asks=((2.0, 1.0), (3.0, 1.0)),
                snapshot=True,
                sequence=7,
            ),
            Funding(**FUTURES, rate=1e-4, next_funding_time=AT + 999),
        ],
    )
    with closing(influx.server()) as server:
        sent, _ = await sent_of(tracks_of(Ticks(server=server), ("BINANCE_FUTURES",)))
    assert encoded(sent) == encoded(
        [
            Trade(**FUTURES, price=1.0, quantity=1.0, side="buy"),
            OrderBook(**FUTURES, bids=((1.0, 3.0),), asks=((2.0, 1.0),), snapshot=True),
            Funding(**FUTURES, rate=1e-4, next_funding_time=AT),
        ]
    )


async def test_of_one_symbol_and_a_range(influx: InfluxBucket) -> None:
    first = Trade(**FUTURES, price=1.0, quantity=1.0, side="buy", trade_id="1")
    trades = [
        replace(first, event_time=AT + i * MS, trade_id=str(i), symbol=symbol)
        for i in range(10)
        for symbol in ("BTCUSDT", "ETHUSDT")
    ]
    await write(influx, trades)
    start = datetime.fromtimestamp(AT // 10**9, UTC).replace(microsecond=344_000)
    with closing(influx.server()) as server:
        ticks = Ticks(server=server)
        of = ("trades", "BINANCE_FUTURES")
        one = TickTrack.of(ticks, *of, "ETHUSDT", start, start.replace(microsecond=347_000))
        both = TickTrack.of(ticks, *of, None, None, None)
        sent, _ = await sent_of([one])
        all_of_them, _ = await sent_of([both])
        with pytest.raises(UnknownName, match="did you mean ETHUSDT"):
            TickTrack.of(ticks, *of, "ETHUSD", None, None)
        with pytest.raises(UnknownName, match="did you mean BINANCE_FUTURES"):
            TickTrack.of(ticks, "trades", "BINANCE_FUTURE", None, None, None)
    wanted: set[Subject] = {("BINANCE_FUTURES", "TRADE", s) for s in ("BTCUSDT", "ETHUSDT")}
    assert set(both.subjects) == wanted
    assert set(one.subjects) == {("BINANCE_FUTURES", "TRADE", "ETHUSDT")}
    assert [m.event_time for m in sent] == [AT + i * MS for i in (2, 3, 4)]
    assert encoded(all_of_them) == encoded(trades)
    assert [m.event_time for m in all_of_them] == [t.event_time for t in trades]


@asynccontextmanager
async def listening(endpoint: str) -> AsyncIterator[zmq.asyncio.Socket]:
    with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.rcvhwm = 0
        socket.connect(endpoint)
        socket.subscribe(b"")
        yield socket


async def replayed(world: Programs, *arguments: str, count: int) -> tuple[list[Message], str]:
    """What ``runners.replay`` publishes, and what it prints."""
    decoder = msgspec.msgpack.Decoder(Message)
    endpoint = f"ipc://{world.folder}/feed"
    process = await world.start("runners.replay", *arguments, "--endpoint", endpoint)
    async with ended(process), listening(endpoint) as socket, asyncio.timeout(60):
        messages = [decoder.decode((await socket.recv_multipart())[2]) for _ in range(count)]
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
    return messages, out.decode()


async def test_a_file_replayed_stored_and_replayed_from_there(
    tmp_path: Path, influx: InfluxBucket, shared_data: Path
) -> None:
    (file,) = (shared_data / "trades_vision" / "um").rglob("*.zip")
    (known,), _ = find_files([file], venue="BINANCE_FUTURES")
    lines = len(list(known.messages(bad)))
    world = Programs(folder=tmp_path).configure(settings_of(influx, "postgresql://h/d"))
    venue = ("--venue", "BINANCE_FUTURES")
    first, _ = await replayed(world, str(file), *venue, count=lines)
    for i in range(0, len(first), 5000):
        await write(influx, first[i : i + 5000])
    second, out = await replayed(
        world, "--from-influx", *venue, "--symbol", first[0].symbol, count=lines
    )
    symbol = first[0].symbol
    assert out == f"sent {lines} trades points of {symbol} from InfluxDB, 0 bad rows\n"
    assert encoded(second) == encoded(replace(message, producer="") for message in first)
    times = [message.event_time for message in second]
    assert times == sorted(times)
    await write(influx, second)  # and written once more, they are the same points
    assert influx.count() == lines
