"""How fast frames come in: one process that receives, another that publishes, over the loopback.

Run it with ``python -m benchmarks.feed [FRAMES]``. What counts are the ratios in the same run: to
the first line, a loop that does nothing but receive, and to ``receive``, which is that of a runner.
The figures themselves are the machine's.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import zmq

from ravenwh.cli.terminal import collect_seldom
from ravenwh.domain.messages import Candle, Message
from ravenwh.feed import wire
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.subscriber import Upstream, ZmqSource
from ravenwh.ingest import Counts, Limits
from ravenwh.ingest.intake import Intake
from ravenwh.ingest.sequences import Sequences
from ravenwh.journal import Store

ROUNDS = 5
BATCH = Limits().receive_frames
SYMBOLS = 500
KLINE = Candle(
    venue="BINANCE_SPOT",
    symbol="BTCUSDT",
    event_time=1_723_161_255_342_000_000,
    producer="benchmark",
    interval="1m",
    open_time=1_723_161_240_000_000_000,
    close_time=1_723_161_299_999_000_000,
    open=61_837.63,
    high=61_850.0,
    low=61_800.01,
    close=61_848.5,
    volume=12.34567,
    quote_volume=763_500.25,
    trade_count=1_234,
    taker_buy_volume=6.1,
    taker_buy_quote_volume=377_210.5,
)


def klines() -> Iterator[Candle]:
    """One kline of each of many symbols, as a venue sends them at the end of a minute."""
    for number in range(SYMBOLS):
        yield msgspec.structs.replace(KLINE, symbol=f"C{number:03}USDT")


def publish(frames: int) -> None:
    """Send prepared frames as fast as the socket takes them, so as not to be the limit."""
    prepared = [wire.encode(kline) for kline in klines()]
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.set(zmq.XPUB_NODROP, 1)
        socket.set(zmq.SNDHWM, 100_000)
        print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
        socket.recv()
        for number in range(frames):
            topic, payload = prepared[number % SYMBOLS]
            socket.send(topic, zmq.SNDMORE)
            socket.send(wire.header(1, number // SYMBOLS + 1), zmq.SNDMORE)
            socket.send(payload)
        socket.setsockopt(zmq.LINGER, 10_000)


def bare(address: str, frames: int) -> float:
    """The ceiling: pyzmq's own multipart receive, in a loop without asyncio."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set(zmq.RCVHWM, 100_000)
        socket.set(zmq.SUBSCRIBE, b"")
        socket.connect(address)
        socket.recv_multipart()
        start = time.perf_counter()
        for _ in range(frames - 1):
            socket.recv_multipart()
        return time.perf_counter() - start


@contextmanager
def source_at(address: str) -> Iterator[ZmqSource]:
    """What a runner receives with."""
    upstream = Upstream(
        feed="benchmark",
        endpoint=Endpoint(address=address),
        topics=wire.subscriptions("CANDLE", {"BINANCE_SPOT": None}),
    )
    with ZmqSource(upstreams=[upstream]) as source:
        yield source


async def _receive(address: str, frames: int, decode: bool) -> float:
    with source_at(address) as source:
        count = len(await source.receive(1))
        start = time.perf_counter()
        while count < frames:
            batch = await source.receive(BATCH)
            count += len(batch)
            if decode:
                messages: list[Message] = [wire.decode(frame) for frame in batch]
                assert len(messages) == len(batch)
        took = time.perf_counter() - start
    assert count == frames
    return took


async def _journal(address: str, frames: int, folder: Path) -> float:
    store = Store(folder / "benchmark.sqlite", keep_s=3600)
    sequences = Sequences(store.positions(), position_of=wire.position)
    with source_at(address) as source:
        count = len(await source.receive(1))
        start = time.perf_counter()
        while count < frames:
            batch = await source.receive(BATCH)
            seen = sequences.look(batch)
            store.append(batch, positions=seen.positions)
            sequences.follow(seen.positions)
            count += len(batch)
            messages: list[Message] = [wire.decode(frame) for frame in batch]
            assert len(messages) == len(batch)
        took = time.perf_counter() - start
    assert store.last == frames - 1
    assert len(store.positions()) == SYMBOLS
    store.close()
    return took


async def _worker(address: str, frames: int, folder: Path) -> float:
    limits, counts = Limits(), Counts()
    store = Store(folder / "benchmark.sqlite", keep_s=3600)
    with source_at(address) as source:
        intake = Intake(
            source=source,
            journal=store,
            limits=limits,
            counts=counts,
            sequences=Sequences(store.positions(), position_of=wire.position),
        )
        task = asyncio.create_task(intake.run())
        await intake.arrived.wait()
        decoded, first, start = 0, counts.received, time.perf_counter()
        while decoded < frames:
            entries = store.read(decoded, limits.batch_rows, limits.batch_bytes)
            messages: list[Message] = [wire.decode(frame) for _, frame in entries]
            decoded += len(messages)
            if entries:
                store.acknowledge(decoded)
                await asyncio.sleep(0)
            elif decoded < frames:
                intake.arrived.clear()
                await intake.arrived.wait()
        took = time.perf_counter() - start
        task.cancel()
        await asyncio.wait([task])
    assert store.acknowledged == frames
    assert len(store.positions()) == SYMBOLS
    store.close()
    return took * frames / (frames - first)


def receive(address: str, frames: int) -> float:
    """``ZmqSource.receive`` alone."""
    return asyncio.run(_receive(address, frames, decode=False))


def receive_and_decode(address: str, frames: int) -> float:
    """``ZmqSource.receive``, then every frame decoded."""
    return asyncio.run(_receive(address, frames, decode=True))


def receive_journal_decode(address: str, frames: int) -> float:
    """Every frame received, its number followed, journaled with it, and decoded."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_journal(address, frames, Path(folder)))


def all_but_writing(address: str, frames: int) -> float:
    """What a worker does around it, too: portions, tasks, read back, acknowledged."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_worker(address, frames, Path(folder)))


async def _publisher(frames: int) -> float:
    """``Publisher.publish`` to a subscriber that only receives, in another process."""
    async with Publisher(endpoint=Endpoint(address="tcp://127.0.0.1:0", mode="bind")) as publisher:
        swallower = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.feed"),
            *("--swallow", publisher.address, str(frames)),
        )
        topic = wire.topic("BINANCE_SPOT", "CANDLE", "BTCUSDT")
        await publisher.wait_for_subscribers([topic], timeout_s=30)
        start = time.perf_counter()
        for _ in range(frames):
            await publisher.publish(KLINE)
        await swallower.wait()
        return time.perf_counter() - start


def one_round(measure: Callable[[str, int], float], frames: int) -> float:
    """Frames a second of one measure, with a fresh publisher."""
    command = [sys.executable, "-m", "benchmarks.feed", "--publish", str(frames)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as publisher:  # noqa: S603  # ourselves
        assert publisher.stdout is not None
        took = measure(f"tcp://127.0.0.1:{int(publisher.stdout.readline())}", frames)
    return frames / took


def main(frames: int) -> None:
    """Print the table; rounds take turns, so that the machine's other load falls on all alike."""
    collect_seldom()  # as runners do
    measures = (bare, receive, receive_and_decode, receive_journal_decode, all_but_writing)
    rates: dict[str, list[float]] = {measure.__name__: [] for measure in measures}
    rates["publish"] = []
    for _ in range(ROUNDS):
        for measure in measures:
            rates[measure.__name__].append(one_round(measure, frames))
        rates["publish"].append(frames / asyncio.run(_publisher(frames)))
    ceiling = statistics.median(rates["bare"])
    received = statistics.median(rates["receive"])
    size = sum(map(len, wire.encode(KLINE))) + wire.HEADER_BYTES
    print(f"{frames:,} klines of {size} bytes on {SYMBOLS} topics, medians of {ROUNDS} rounds")
    for name, values in rates.items():
        middle = statistics.median(values)
        of = f"{middle / ceiling:5.2f} of bare  {middle / received:5.2f} of receive"
        print(f"{name:24} {middle:>10,.0f} frames/s  {of}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--publish", count]:
            publish(int(count))
        case ["--swallow", address, count]:
            bare(address, int(count))
        case arguments:
            main(int(arguments[0]) if arguments else 200_000)
