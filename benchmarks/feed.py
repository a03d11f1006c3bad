"""How fast frames come in: one process that receives, another that publishes, over the loopback.

Run it with ``python -m benchmarks.feed [FRAMES]``. The measure is the ratio to the first line, a
loop that does nothing but receive, in the same run; the figures themselves are the machine's.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import zmq

from ravenwh.domain.messages import Candle, Message
from ravenwh.feed import wire
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.subscriber import Upstream, ZmqSource

ROUNDS = 5
BATCH = 5_000
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


def publish(frames: int) -> None:
    """Send prepared frames as fast as the socket takes them, so as not to be the limit."""
    topic, payload = wire.encode(KLINE)
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.set(zmq.XPUB_NODROP, 1)
        socket.set(zmq.SNDHWM, 100_000)
        print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
        socket.recv()
        for seq in range(1, frames + 1):
            socket.send(topic, zmq.SNDMORE)
            socket.send(wire.header(1, seq), zmq.SNDMORE)
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


async def _source(address: str, frames: int, decode: bool) -> float:
    upstream = Upstream(
        feed="benchmark",
        endpoint=Endpoint(address=address),
        topics=wire.subscriptions("CANDLE", {"BINANCE_SPOT": ["BTCUSDT"]}),
    )
    with ZmqSource(upstreams=[upstream]) as source:
        count = len(await source.receive(1))
        start = time.perf_counter()
        while count < frames:
            batch = await source.receive(BATCH)
            count += len(batch)
            if decode:
                messages: list[Message] = [wire.decode(frame) for frame in batch]
                assert messages[0] == KLINE
        took = time.perf_counter() - start
    assert count == frames
    return took


def receive(address: str, frames: int) -> float:
    """``ZmqSource.receive`` alone."""
    return asyncio.run(_source(address, frames, decode=False))


def receive_and_decode(address: str, frames: int) -> float:
    """``ZmqSource.receive``, then every frame decoded."""
    return asyncio.run(_source(address, frames, decode=True))


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
    measures = (bare, receive, receive_and_decode)
    rates: dict[str, list[float]] = {measure.__name__: [] for measure in measures}
    rates["publish"] = []
    for _ in range(ROUNDS):
        for measure in measures:
            rates[measure.__name__].append(one_round(measure, frames))
        rates["publish"].append(frames / asyncio.run(_publisher(frames)))
    ceiling = statistics.median(rates["bare"])
    print(f"{frames:,} klines of {sum(map(len, wire.encode(KLINE))) + 16} bytes, {ROUNDS} rounds")
    for name, values in rates.items():
        middle = statistics.median(values)
        print(f"{name:20} {middle:>10,.0f} frames/s  {middle / ceiling:5.2f} of bare")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--publish", count]:
            publish(int(count))
        case ["--swallow", address, count]:
            bare(address, int(count))
        case arguments:
            main(int(arguments[0]) if arguments else 200_000)
