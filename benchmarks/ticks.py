"""How fast ticks become points: encoding, posting, and the whole way but the socket.

    python -m benchmarks.ticks [--trades 100000] [--rounds 5]

What counts are the ratios in the same run. Times are the processor's, of this process alone, but
where wall says otherwise; each round takes its turn, so that the machine's other load falls on all
alike, and the median is told. The trades are of 20 symbols by turns. The last part needs Debian's
InfluxDB, which runs behind the shim of the tests in a process of its own, on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import re
import resource
import socketserver
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import attrs
from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS

from ravenwh.cli.terminal import collect_seldom
from ravenwh.domain.messages import Message, OrderBook, Trade
from ravenwh.domain.settings import Influx
from ravenwh.feed import wire
from ravenwh.ingest import Limits, Worker
from ravenwh.journal import Store
from ravenwh.ports import Frame
from ravenwh.staging.books import BestPrices
from ravenwh.staging.encoder import Encoder
from ravenwh.staging.identity import MILLISECOND
from ravenwh.staging.server import Server
from ravenwh.staging.sink import TickSink
from tests.engines.influxd import Influxd
from tests.engines.node import Missing
from tests.programs import free_ports
from tests.servers import open_folder

START = 1_723_161_255_342 * MILLISECOND
SYMBOLS = 20
BATCH = 5000
FEED = "benchmark"
BUCKET = "ticks"
TOKEN = "token"  # noqa: S105  the shim's, and no secret


def stream(number: int) -> Iterator[Trade]:
    """Three trades in a millisecond of a symbol and side, as in the recorded ones; one by one."""
    names = [f"C{i:02}USDT" for i in range(SYMBOLS)]
    for i in range(number):
        yield Trade(
            venue="BINANCE_FUTURES",
            symbol=names[i % SYMBOLS],
            event_time=START + i // (6 * SYMBOLS) * MILLISECOND,
            price=61_837.5 + i % 97 / 10,
            quantity=0.001 + i % 1013 / 1000,
            side="buy" if i // SYMBOLS % 2 else "sell",
            trade_id=str(3_712_345_678 + i),
        )


def trades(number: int) -> list[Trade]:
    """All of them."""
    return list(stream(number))


def books(number: int) -> list[OrderBook]:
    """Best prices with digits as they come out of a division."""
    return [
        OrderBook(
            venue="BINANCE_FUTURES",
            symbol=f"C{i % SYMBOLS:02}USDT",
            event_time=START + i * MILLISECOND,
            bids=((61_837.5 - i % 97 / 10, 1.234 + i % 1013 / 1000),),
            asks=((61_837.6 + i % 89 / 10, 0.567 + i % 1009 / 1000),),
            snapshot=True,
        )
        for i in range(number)
    ]


def batches(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """As a worker has them."""
    return (messages[i : i + BATCH] for i in range(0, len(messages), BATCH))


def encoded(messages: Sequence[Message]) -> list[bytes]:
    """The bodies of all batches."""
    encoder = Encoder()
    return ["\n".join(encoder.encode(batch).lines).encode() for batch in batches(messages)]


def points(messages: Sequence[Trade]) -> list[str]:
    """The same lines as the client's Point makes them."""
    return [
        Point("trades")
        .tag("symbol", m.symbol)
        .tag("exchange", m.venue)
        .tag("side", m.side)
        .field("price", m.price)
        .field("quantity", m.quantity)
        .field("trade_id", m.trade_id)
        .time(m.event_time + int((m.trade_id or "")[-6:]))
        .to_line_protocol()
        for m in messages
    ]


def book_points(messages: Sequence[OrderBook]) -> list[str]:
    """Best prices as the client's Point makes them."""
    return [book_point(m) for m in messages]


def book_point(m: OrderBook) -> str:
    """One of them."""
    ((bid, bid_qty),), ((ask, ask_qty),) = m.bids, m.asks
    point = Point("orderbook").tag("symbol", m.symbol).tag("exchange", m.venue)
    point.field("bid_price", bid).field("bid_qty", bid_qty)
    point.field("ask_price", ask).field("ask_qty", ask_qty)
    point.field("spread", ask - bid).field("mid_price", (bid + ask) / 2)
    point.field("imbalance", bid_qty / (bid_qty + ask_qty)).time(m.event_time)
    return str(point.to_line_protocol())


def cpu(work: Callable[[], object]) -> float:
    """Seconds of this process's processor time."""
    gc.collect()
    began = time.process_time()
    work()
    return time.process_time() - began


def in_turn(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median of each."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            took[name].append(cpu(work))
    return {name: statistics.median(seconds) for name, seconds in took.items()}


def repeated(work: Callable[[], object], times: int) -> Callable[[], object]:
    """The same so many times."""
    return lambda: [work() for _ in range(times)]


def server_at(url: str, **settings: str) -> Server:
    """The room's own way to InfluxDB."""
    return Server(settings=Influx(url=url, token=TOKEN, **settings))


class Swallower(socketserver.StreamRequestHandler):
    """Answers every request with 204 and nothing else."""

    def handle(self) -> None:
        """One connection."""
        while head := b"".join(iter(self.rfile.readline, b"\r\n")):
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            self.rfile.read(int(length[1]) if length else 0)
            self.wfile.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def swallow() -> None:
    """Serve on a free port, and print it."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Swallower) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of ours, killed at the end."""
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  ourselves
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@attrs.define(kw_only=True)
class Bucket:
    """InfluxDB with an empty bucket, and the process that forwards to it."""

    influxd: Influxd
    shim: subprocess.Popen[str]
    url: str
    folder: Path

    def require(self, number: int) -> None:
        """Stop where other than so many trades are in it."""
        (series,) = self.influxd.query("SELECT count(price) FROM trades", BUCKET)
        assert series["values"][0][1] == number, series

    def empty(self) -> None:
        """Begin anew."""
        self.influxd.query(f"DROP DATABASE {BUCKET}")
        self.influxd.query(f"CREATE DATABASE {BUCKET}")


@contextmanager
def influxdb() -> Iterator[Bucket]:
    """Debian's, behind the shim of the tests, each a process of its own."""
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        with closing(free_ports()) as ports:
            influxd = Influxd(folder=folder, http=next(ports), rpc=next(ports))
        influxd.start()
        stack.callback(influxd.stop)
        shim = stack.enter_context(program("tests.engines.influx_shim", influxd.url, "partial"))
        bucket = Bucket(influxd=influxd, shim=shim, url=told(shim), folder=folder)
        bucket.empty()
        yield bucket


def encoding(number: int, rounds: int) -> None:
    """Lines a second of a core, ours and Point's."""
    some, tops = trades(number), books(number // 2)
    few, few_tops = some[: number // 4], tops[: number // 8]
    ours = b"\n".join(encoded(few)).decode().split("\n")
    assert points(few) == [re.sub(r"\.0(?=[, ])", "", line) for line in ours]  # 5.0 is 5 to it
    took = in_turn(
        {
            "trades": lambda: encoded(some),
            "trades, Point": lambda: points(few),
            "books": lambda: encoded(tops),
            "books, Point": lambda: book_points(few_tops),
        },
        rounds,
    )
    counts = {"trades": len(some), "trades, Point": len(few)}
    counts |= {"books": len(tops), "books, Point": len(few_tops)}
    rates = {name: counts[name] / seconds for name, seconds in took.items()}
    print("\nencoding, all guards included, to bytes")
    for name, rate in rates.items():
        base = rates[f"{name.split(',')[0]}, Point"]
        print(f"  {name:20} {rate:>11,.0f} lines/s  {rate / base:5.2f} of Point")


def posting(rounds: int) -> None:
    """A request of 5,000 trades, ours and the client's, to somebody who swallows it."""
    (body,) = encoded(trades(BATCH))
    with ExitStack() as stack:
        swallower = stack.enter_context(program("benchmarks.ticks", "--swallow"))
        url = f"http://127.0.0.1:{told(swallower)}"
        plain, squeezed = (
            stack.enter_context(closing(server_at(url, compression=how)))
            for how in ("none", "gzip")
        )
        client = stack.enter_context(InfluxDBClient(url, token=TOKEN, org="o", enable_gzip=False))
        api = client.write_api(write_options=SYNCHRONOUS)
        works: dict[str, Callable[[], object]] = {
            "urllib3": lambda: plain.write(body),
            "urllib3, gzip": lambda: squeezed.write(body),
            "influxdb-client": lambda: api.write("b", "o", body),
        }
        many = {name: repeated(work, 50) for name, work in works.items()}
        took = in_turn(many, rounds)
    print(f"\nposting {BATCH:,} trades, {len(body):,} bytes")
    for name, seconds in took.items():
        print(f"  {name:20} {seconds / 50 * 1000:6.3f} ms of processor")
    for module in ("urllib3", "influxdb_client"):
        seconds, memory = imported(module)
        print(f"  import {module:15} {seconds:.2f} s of processor, {memory:.0f} MB more")


def imported(module: str) -> tuple[float, float]:
    """Seconds and megabytes of an import, in a process of its own."""
    program = (
        "import re, time\nSTATUS = '/proc/self/status'\n"
        "def held(): return int(re.search('VmRSS:[^0-9]+([0-9]+)', open(STATUS).read())[1])\n"
        f"began, before = time.process_time(), held()\nimport {module}\n"
        "print(time.process_time() - began, (held() - before) / 1024)"
    )
    done = subprocess.run(  # noqa: S603  this Python, on words of this file
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    seconds, memory = done.stdout.split()
    return float(seconds), float(memory)


class Given:
    """A source that has all frames at once."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames, self._next = frames, 0

    async def receive(self, limit: int) -> list[Frame]:
        """The next ones; then none for ever."""
        found = list(self._frames[self._next : self._next + limit])
        if not found:
            await asyncio.Event().wait()
        self._next += len(found)
        return found

    def close(self) -> None:
        """Nothing to give back."""


def frames_of(messages: Sequence[Message]) -> list[Frame]:
    """Frames of the raven wire, numbered by topic."""
    numbers: dict[bytes, Iterator[int]] = {}
    found = []
    for message in messages:
        topic, payload = wire.encode(message)
        number = next(numbers.setdefault(topic, itertools.count(1)))
        found.append(Frame(FEED, topic, wire.header(1, number), payload, START))
    return found


def parts(frames: Sequence[Frame], server: Server) -> dict[str, Callable[[], object]]:
    """What a runner does with each trade, each thing alone; receiving is in ``benchmarks.feed``."""
    messages = [wire.decode(frame) for frame in frames]
    bodies = encoded(messages)
    limits = Limits()

    def journal() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "benchmark.sqlite", keep_s=3600)
            for i in range(0, len(frames), limits.receive_frames):
                store.append(frames[i : i + limits.receive_frames])
            cursor = 0
            while entries := store.read(cursor, BATCH, limits.batch_bytes):
                cursor = entries[-1][0]
                store.acknowledge(cursor)
            store.close()

    return {
        "journal": journal,
        "decode": lambda: [wire.decode(frame) for frame in frames],
        "encode": lambda: encoded(messages),
        "post": lambda: [server.write(body) for body in bodies],
    }


def whole(frames: Sequence[Frame], server: Server) -> None:
    """A worker with its journal, all of it but the socket."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store, stop = Store(Path(folder) / "benchmark.sqlite", keep_s=3600), asyncio.Event()
            worker = Worker[Message](
                source=Given(frames),
                decode=BestPrices(decode=wire.decode, position_of=wire.position),
                wants=lambda message: True,
                sink=TickSink(server=server),
                journal=store,
                dead_letters=store,
                position_of=wire.position,
                limits=Limits(batch_rows=BATCH),
            )
            task = asyncio.create_task(worker.run(stop))
            while worker.counts.written < len(frames):  # noqa: ASYNC110  a look now and then
                await asyncio.sleep(0.01)
            stop.set()
            await task
            store.close()

    asyncio.run(run())


def into_influxdb(number: int, rounds: int) -> None:
    """Into a real InfluxDB, on the same cores."""
    frames = frames_of(trades(number))
    walls: list[float] = []
    with influxdb() as bucket, closing(server_at(bucket.url)) as server:

        def worker() -> None:
            began = time.perf_counter()
            whole(frames, server)
            walls.append(time.perf_counter() - began)

        took = in_turn({**parts(frames, server), "worker": worker}, rounds)
        bucket.require(number)
    total = sum(seconds for name, seconds in took.items() if name != "worker")
    print(f"\n{number:,} trades into InfluxDB 1, in requests of {BATCH:,}, all on the same cores")
    for name, seconds in took.items():
        print(f"  {name:20} {seconds / number * 1e6:6.2f} us of processor a trade")
    ratio = took["worker"] / total
    rate = number / statistics.median(walls)
    print(f"  the worker is {ratio:.2f} of the sum of its parts; {rate:,.0f} trades/s by the wall")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  at most {memory:.0f} MB of memory, the {number:,} frames and messages included")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trades", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--swallow", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.swallow:
        swallow()
    collect_seldom()  # as runners do
    encoding(options.trades, options.rounds)
    posting(options.rounds)
    try:
        into_influxdb(options.trades, options.rounds)
    except Missing as reason:
        print(f"\nnot measured: {reason}")


if __name__ == "__main__":
    main()
