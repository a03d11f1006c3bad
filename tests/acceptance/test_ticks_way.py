"""Ticks on their whole way, through real programs: sockets, journal, InfluxDB; hurt on the way."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from random import Random

import attrs
import psycopg
import pytest
import zmq
from msgspec.structs import replace

from ravenwh.app.tick import tick_collections
from ravenwh.app.work import upstreams_of
from ravenwh.config import load
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
from ravenwh.domain.register import Register
from ravenwh.feed import wire
from ravenwh.feed.control_server import ControlServer
from ravenwh.feed.cryptofeed.decoder import CryptofeedDecoder
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.resending import resend_handlers
from ravenwh.journal import Reader, Status, Store
from ravenwh.ports import Position, Stream
from ravenwh.staging.books import BestPrices
from ravenwh.staging.encoder import Encoder
from ravenwh.staging.measurements import MEASUREMENTS, STREAMS
from ravenwh.staging.reading import Ticks
from tests.chaos.watch import frames, imbalance, page, resident_most, samples
from tests.cryptofeed import cryptofeed_to, until_wanted
from tests.engines.influx import InfluxBucket, bucket_on
from tests.engines.influx_shim import ALL, Fault
from tests.engines.influxd import Influxd
from tests.feed.tcp import Cable
from tests.programs import Programs, Runner, free_ports
from tests.real_trades import COUNT, archived_trades, checksum, live_frames
from tests.recorded import frame_of, messages_of
from tests.warehouse.conftest import candle

SOON_S = 60.0
AT = 1_723_161_255_342_000_000
MS = 1_000_000
MIB = 2**20
LARGEST = 500
"""Lines of a request at most, where a test says so."""


@attrs.define(kw_only=True)
class Ticking:
    """A tick runner's programs, and what is in its journal."""

    programs: Programs
    port: int

    @property
    def journal(self) -> Path:
        return self.programs.folder / "journal" / "tick.sqlite"

    async def metrics(self) -> dict[str, float]:
        return samples((await page(self.port + 1000, "/metrics"))[1])

    async def ready(self) -> tuple[int, str]:
        return await page(self.port + 1000, "/readyz")

    async def ready_with(self, status: int, words: str = "") -> None:
        """Until it says so."""
        async with asyncio.timeout(SOON_S):
            while True:
                found, said = await self.ready()
                if found == status and words in said:
                    return
                await asyncio.sleep(0.05)

    async def until(self, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """Until its metrics say so."""
        async with asyncio.timeout(SOON_S):
            while True:
                found = await self.metrics()
                if "ravenwh_frames_in_journal" in found and holds(found):
                    return found
                await asyncio.sleep(0.05)

    async def settled(self, positions: dict[bytes, Position]) -> None:
        """Until all that was published is in the journal, and all of that is written."""
        async with asyncio.timeout(SOON_S):
            while True:
                status, at = await asyncio.to_thread(looked_at, self.journal)
                here = {topic: at.get(("default", topic)) for topic in positions}
                if here == positions and not status.waiting and not status.gaps:
                    assert status.dead_letters == 0
                    return
                await asyncio.sleep(0.1)


def looked_at(journal: Path) -> tuple[Status, dict[Stream, Position]]:
    """How a journal is, and how far each stream came, while its runner works."""
    copy = journal.with_name("copy.sqlite")
    with Reader(journal) as reader:
        status = reader.status()
    for file in journal.parent.glob("copy.*"):
        file.unlink()
    with (
        closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as live,
        closing(sqlite3.connect(copy)) as taken,
    ):
        live.backup(taken)
    with closing(Store(copy)) as store:
        return status, store.positions()


@attrs.define(kw_only=True)
class Feed:
    """A publisher that sends again what did not arrive."""

    publisher: Publisher

    async def send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            await self.publisher.publish(message)

    async def wanted(self, *topics: str) -> None:
        """Until these are subscribed to."""
        names = [
            topic.encode() if topic.endswith(":") else f"{topic} ".encode() for topic in topics
        ]
        await self.publisher.wait_for_subscribers(names, timeout_s=SOON_S)

    @property
    def positions(self) -> dict[bytes, Position]:
        """How far each topic was sent."""
        epoch = self.publisher.epoch
        return {
            kept.topic: (epoch, kept.last) for kept in self.publisher.ring.topics(b"", b"", 999)
        }


@asynccontextmanager
async def publishing(endpoint: str, control: str) -> AsyncIterator[Feed]:
    """A publisher at the end that runners connect to."""
    async with Publisher(endpoint=Endpoint(address=endpoint, mode="bind")) as publisher:
        with ControlServer(
            endpoint=Endpoint(address=control, mode="bind"), handlers=resend_handlers(publisher)
        ) as server:
            task = asyncio.create_task(server.serve())
            try:
                yield Feed(publisher=publisher)
            finally:
                task.cancel()
                await asyncio.wait([task])


def ports(count: int) -> list[int]:
    with closing(free_ports()) as free:
        return [next(free) for _ in range(count)]


def ticking(
    folder: Path,
    influx: InfluxBucket,
    endpoint: str,
    control: str | None,
    *further: str,
    mart: str = "postgresql://nobody@127.0.0.1:1/nothing",
    **settings: str | None,
) -> Ticking:
    """The settings of a tick runner; where nothing else is said, there is no mart."""
    (port,) = ports(1)
    folder.mkdir(exist_ok=True)
    about = influx.keys | settings
    influx_keys = [f"influx.{name} = {json.dumps(value)}" for name, value in about.items() if value]
    programs = Programs(folder=folder).configure(
        f"""
        timescale.url = {json.dumps(mart)}
        journal.dir = "journal"
        ingest.retry_max_s = 0.3
        {chr(10).join(influx_keys)}
        influx.batch_interval_ms = 50
        influx.retention_days = 0
        feeds.default.endpoint = "{endpoint}"
        {"" if control is None else f'feeds.default.control = "{control}"'}
        {chr(10).join(further)}
        """,
        tick_port=port,
    )
    return Ticking(programs=programs, port=port)


def trade(number: int, symbol: str = "BTCUSDT", **changes: object) -> Trade:
    """The trades of a symbol, five a millisecond."""
    said: dict[str, object] = {
        "venue": "BINANCE_SPOT",
        "event_time": AT + number // 5 * MS,
        "price": 60_000.5 + number,
        "quantity": 0.25,
        "side": "buy",
        "trade_id": str(number),
    }
    return Trade(symbol=symbol, **said | changes)  # type: ignore[arg-type]


OF_TYPE: dict[str, Callable[..., Message]] = {
    "TRADE": lambda **k: Trade(price=1.0, quantity=2.0, side="sell", trade_id="7", **k),
    "ORDERBOOK": lambda **k: OrderBook(
        bids=((1.0, 2.0), (0.5, 9.0)), asks=((3.0, 6.0),), snapshot=True, **k
    ),
    "FUNDING": lambda **k: Funding(rate=0.0001, mark_price=5.0, **k),
    "LIQUIDATION": lambda **k: Liquidation(price=1.0, quantity=2.0, side="buy", **k),
    "OPEN_INTEREST": lambda **k: OpenInterest(open_interest=3.0, **k),
    "TICKER": lambda **k: Ticker(mark_iv=0.65, **k),
    "PRICE_INDEX": lambda **k: PriceIndex(price=4.0, **k),
}


async def test_what_starts_by_itself_and_what_is_started(
    tmp_path: Path, influx: InfluxBucket
) -> None:
    """Each stream of the table goes to its measurement; what nobody started goes nowhere."""
    endpoint, control = f"ipc://{tmp_path}/feed", f"tcp://127.0.0.1:{ports(1)[0]}"
    one = ticking(
        tmp_path, influx, endpoint, control, 'ticks.collect = ["OKX_PERP:FUNDING:BTC/USDT"]'
    )

    async def control_runner(*words: str) -> str:
        out, _ = await one.programs.run("ravenwh", "control", *words, "--service", "tick")
        return out

    by_themselves = {f"{s.venue}:{s.data_type}:" for s in STREAMS if s.starts_by_itself}
    started = {f"{s.venue}:{s.data_type}:BTCUSDT" for s in STREAMS if not s.starts_by_itself}
    async with publishing(endpoint, control) as feed, one.programs.runner("tick") as runner:
        await feed.wanted(*by_themselves, "OKX_PERP:FUNDING:BTC-USDT-SWAP")
        told = await control_runner("list")
        assert sorted(told.splitlines()) == sorted(
            [f"{name.replace(':', ' ')}*" for name in by_themselves]
            + ["OKX_PERP FUNDING BTC-USDT-SWAP"]
        )
        for name in sorted(started):
            await control_runner("start", *name.split(":"))
        await feed.wanted(*started)
        messages = [
            OF_TYPE[s.data_type](venue=s.venue, symbol=symbol, event_time=AT)
            for s in STREAMS
            for symbol in ("BTCUSDT", "BTCUSDT_261225", "OTHER")
        ]
        funding = OF_TYPE["FUNDING"](venue="OKX_PERP", symbol="BTC-USDT-SWAP", event_time=AT)
        await feed.send([*messages, funding, candle(0), funding])
        expected = {
            (s.measurement.name, s.venue, symbol)
            for s in STREAMS
            for symbol in ("BTCUSDT", "BTCUSDT_261225", "OTHER")
            if s.starts_by_itself or symbol == "BTCUSDT"
        } | {("funding_rate", "OKX_PERP", "BTC-USDT-SWAP")}
        found = await one.until(lambda m: frames(m, "written") == len(expected) + 1)
        assert frames(found, "dead") == frames(found, "ignored") == 0
        assert (found["ravenwh_books_unknown_total"], found["ravenwh_points_ambiguous_total"]) == (
            0,
            0,
        )
        await one.ready_with(200)
        with pytest.raises(AssertionError, match="CANDLE, this runner collects"):
            await control_runner("start", "BINANCE_SPOT", "CANDLE", "BTCUSDT")
        await control_runner("stop", "BINANCE_SPOT", "TRADE", "BTCUSDT")
        await runner.stop()
    stored = {
        (name, point["exchange"], point.get("symbol") or point["index_name"])
        for name in {s.measurement.name for s in STREAMS}
        for point in influx.points(name)
    }
    assert stored == expected
    (book,) = (p for p in influx.points("orderbook") if p["exchange"] == "BINANCE_SPOT")
    assert (book["bid_price"], book["ask_qty"], book["imbalance"]) == (1.0, 6.0, 0.25)
    async with one.programs.runner("tick"):  # what was asked for and called off is remembered
        told = await control_runner("list")
        assert "BINANCE_SPOT ORDERBOOK BTCUSDT" in told
        assert "BINANCE_SPOT TRADE" not in told


async def kill(runner: Runner) -> None:
    runner.process.kill()
    await runner.process.communicate()


async def test_every_recorded_trade_is_one_point_whatever_happens(
    tmp_path: Path, influx: InfluxBucket, shared_data: Path
) -> None:
    """Two runners at once, each killed on its way; in order, shuffled, and from a live feed."""
    archived = archived_trades(shared_data)
    shuffled = archived.copy()
    Random(4).shuffle(shuffled)
    endpoint, control = f"ipc://{tmp_path}/feed", f"tcp://127.0.0.1:{ports(1)[0]}"
    topics = ("BINANCE_SPOT:TRADE:BTCUSDT", "BINANCE_FUTURES:TRADE:BTCUSDT")
    collected = f"ticks.collect = {json.dumps(topics)}"
    pair = [ticking(tmp_path / n, influx, endpoint, control, collected) for n in ("one", "two")]
    async with publishing(endpoint, control) as feed:

        async def took(one: Ticking, kills_at: Sequence[int]) -> None:
            """Have a runner take all of it, killed when it has written so many."""
            for number in kills_at:
                async with one.programs.runner("tick") as runner:
                    await one.until(lambda m, n=number: frames(m, "written") >= n)  # type: ignore[misc]
                    await kill(runner)
            async with one.programs.runner("tick"):
                await sent.wait()
                await one.settled(feed.positions)

        sent = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for one, kills in zip(pair, ([9_000], [2_000, 15_000]), strict=True):
                tasks.create_task(took(one, kills))
            await feed.wanted(*topics)
            for messages in (archived, shuffled):
                for i in range(0, COUNT, 2000):
                    await feed.send(messages[i : i + 2000])
                    await asyncio.sleep(0.02)  # no faster than they are to be hurt
            sent.set()
    assert influx.count() == COUNT

    own = f"ipc://{tmp_path}/own"
    foreign = f'feeds.foreign = {{ endpoint = "{own}", mode = "bind", wire = "cryptofeed" }}'
    upstreams = {"BINANCE_SPOT": "foreign", "BINANCE_FUTURES": "foreign"}
    routed = f"""
        routing.venue_exclude = ["BINANCE_OPTIONS", "DERIBIT"]
        [routing.upstreams]
        {chr(10).join(f"{v}={json.dumps(f)}" for v, f in upstreams.items())}
        "BINANCE_FUTURES:FUNDING" = "default"
        "BINANCE_FUTURES:LIQUIDATION" = "default"
        "BINANCE_FUTURES:OPEN_INTEREST" = "default"
    """
    two = ticking(tmp_path / "two", influx, endpoint, control, collected, foreign, routed)
    lines = live_frames(shared_data)
    names = (b"BINANCE-trades-BTC-USDT ", b"BINANCE_FUTURES-trades-BTC-USDT-PERP ")
    for written, kills in ((10_000, True), (len(lines), False)):
        async with two.programs.runner("tick") as runner, cryptofeed_to(own, *names) as publisher:
            for line in lines:
                publisher.send(line)
            await two.until(lambda m, n=written: frames(m, "written") >= n)  # type: ignore[misc]
            if kills:
                await kill(runner)
    assert influx.count() == COUNT
    with closing(influx.server()) as server:
        read = [m for part in Ticks(server=server).parts("trades") for m in part]
    assert checksum(read) == checksum(archived)


@pytest.fixture
def influx_to_hurt(influxd_of_its_own: Influxd) -> Iterator[InfluxBucket]:
    with bucket_on(influxd_of_its_own, "strict") as found:
        yield found


def in_order(influx: InfluxBucket) -> int:
    """How many lines were taken; those of a series must have come in their order.

    A batch whose answer was lost is sent again, after a restart in other parts: only lines that
    were taken already may come after later ones.
    """
    last: defaultdict[bytes, int] = defaultdict(lambda: -1)
    taken: set[bytes] = set()
    for seen in influx.shim.seen:
        if seen.status != 204 or seen.body.startswith(b"#"):
            continue
        for line in seen.lines:
            if line in taken:
                continue
            series, fields, _ = line.split(b" ")
            number = int(fields.rpartition(b'="')[2].rstrip(b'"'))
            assert number > last[series], f"{line!r} came after {last[series]}"
            last[series] = number
            taken.add(line)
    return len(taken)


async def test_outages_of_every_kind_lose_nothing(
    tmp_path: Path, influx_to_hurt: InfluxBucket
) -> None:
    """Stopped, killed, locked out, full, slow, cut off; the feed sends on all the while."""
    influx, influxd, shim = influx_to_hurt, influx_to_hurt.influxd, influx_to_hurt.shim
    assert influxd is not None
    endpoint, control = f"ipc://{tmp_path}/feed", f"tcp://127.0.0.1:{ports(1)[0]}"
    token = tmp_path / "token"
    token.write_text("token\n")
    symbols = ("BTCUSDT", "ETHUSDT", "XRPUSDT")
    collected = json.dumps([f"BINANCE_SPOT:TRADE:{symbol}" for symbol in symbols])
    bucket = influx.settings.bucket
    influxd.query(f"DROP DATABASE {bucket}")  # it is made by hand, later
    async with AsyncExitStack() as stack:
        way = await stack.enter_async_context(Cable())
        url = (await way.to(shim.url.replace("http", "tcp"))).replace("tcp", "http")
        one = ticking(
            tmp_path,
            influx,
            endpoint,
            control,
            f"ticks.collect = {collected}",
            f"influx.batch_size = {LARGEST}",
            url=url,
            token=None,
            token_file=str(token),
        )
        feed = await stack.enter_async_context(publishing(endpoint, control))
        sent, ended = 0, asyncio.Event()

        async def send_on() -> None:
            nonlocal sent
            while not ended.is_set():
                await feed.send(trade(sent + i, symbols[i % 3]) for i in range(60))
                sent += 60
                await asyncio.sleep(0.01)

        async with one.programs.runner("tick") as runner, asyncio.TaskGroup() as tasks:
            await feed.wanted(*(f"BINANCE_SPOT:TRADE:{symbol}" for symbol in symbols))
            tasks.create_task(send_on())

            async def refused(status: int) -> None:
                """Trades are, several times over."""
                begun = len(shim.seen)
                async with asyncio.timeout(SOON_S):
                    while True:
                        found = [s for s in shim.seen[begun:] if s.status == status]
                        if sum(not seen.body.startswith(b"#") for seen in found) >= 5:
                            return
                        await asyncio.sleep(0.05)

            async def back() -> None:
                """It writes again, and has written all that waited."""
                await one.ready_with(200)
                await one.until(lambda m: m["ravenwh_oldest_unwritten_seconds"] < 0.5)

            await refused(404)
            await one.ready_with(503, f'404 bucket \\"{bucket}\\" not found; make the bucket')
            influxd.query(f"CREATE DATABASE {bucket}")
            await back()

            for how in (signal.SIGTERM, signal.SIGKILL):
                influxd.stop(how)
                await one.ready_with(503, "did not take the batch: 503")
                found = await one.until(lambda m: m["ravenwh_oldest_unwritten_seconds"] > 1)
                assert imbalance(found) == 0
                influxd.start()
                await back()

            shim.tokens = {"new": ALL}
            await refused(401)
            await one.ready_with(503, "401 unauthorized access; put a token")
            token.write_text("new\n")
            await back()

            full = "partial write: write: no space left on device dropped=1"
            shim.faults += [Fault(status=422, message=full), Fault(status=507)] * 2
            shim.faults += [Fault(status=500, message="engine: cache-max-memory-size exceeded")]
            shim.faults += [Fault(status=0), Fault(cut_after=100), Fault(is_stored=True)]
            await one.until(lambda m: not shim.faults)
            await back()

            way.bytes_per_s = 100_000.0
            await one.until(lambda m: m["ravenwh_frames_in_journal"] > 100)
            await way.cut()
            await one.ready_with(503, "NewConnectionError")
            way.bytes_per_s = None
            await way.mend()
            await back()

            await way.cut()
            await one.until(lambda m: m["ravenwh_frames_in_journal"] > 5_000)
            ended.set()
            assert resident_most(runner.process.pid) < 150 * MIB
            await runner.stop()  # what is not written stays in the journal
        await way.mend()
        async with one.programs.runner("tick"):
            await one.settled(feed.positions)
            assert frames(await one.metrics(), "recovered") > 5_000
    assert sent > 10_000
    shim.tokens["token"] = ALL  # the test's own
    assert influx.count() == in_order(influx) == sent
    assert max(len(seen.lines) for seen in shim.seen) == LARGEST


async def test_books_go_on_where_a_kill_left_them(tmp_path: Path, influx: InfluxBucket) -> None:
    """The changes that wait in the journal find the book that the process before had made."""
    endpoint, control = f"ipc://{tmp_path}/feed", f"tcp://127.0.0.1:{ports(1)[0]}"
    collected = 'ticks.collect = ["BINANCE_SPOT:ORDERBOOK:BTCUSDT"]'
    one = ticking(tmp_path, influx, endpoint, control, collected)
    book = OrderBook(
        venue="BINANCE_SPOT",
        symbol="BTCUSDT",
        event_time=AT,
        bids=((10.0, 1.0),),
        asks=((900.0, 1.0),),
        snapshot=True,
    )
    changes = [
        replace(book, event_time=AT + i * MS, bids=((10.0 + i, 1.0),), asks=(), snapshot=False)
        for i in range(1, 251)
    ]
    async with publishing(endpoint, control) as feed:
        async with one.programs.runner("tick") as runner:
            await feed.wanted("BINANCE_SPOT:ORDERBOOK:BTCUSDT")
            await feed.send([book, *changes[:50]])
            await one.until(lambda m: frames(m, "written") == 51)
            tokens, influx.shim.tokens = influx.shim.tokens, {}
            await feed.send(changes[50:])
            await one.until(lambda m: m["ravenwh_frames_in_journal"] == 200)
            await kill(runner)
        influx.shim.tokens = tokens
        async with one.programs.runner("tick"):
            found = await one.until(lambda m: frames(m, "written") == 200)
            assert found["ravenwh_books_unknown_total"] == 0
    points = sorted(influx.points("orderbook"), key=lambda point: point["time"])
    assert [point["bid_price"] for point in points] == [10.0 + i for i in range(251)]


async def test_recorded_frames_of_every_kind_become_points(
    tmp_path: Path, influx: InfluxBucket, shared_data: Path
) -> None:
    """What cryptofeed sent of two venues: the points are those that its messages say."""
    names = ("BINANCE_FUTURES", "DERIBIT", "INJ_BINANCE_FUTURES", "INJ_DERIBIT")
    files = [shared_data / "wire" / f"{name}.v2.5.0.frames.txt.gz" for name in names]
    lines = [line for file in files for line in messages_of(file)]
    own = f"ipc://{tmp_path}/own"
    feed = f'feeds.foreign = {{ endpoint = "{own}", mode = "bind", wire = "cryptofeed" }}'
    routed = "".join(f'"{s.venue}:{s.data_type}" = "foreign"\n' for s in STREAMS)
    collected = """
        ticks.collect = ["BINANCE_FUTURES:TRADE:*", "BINANCE_FUTURES:ORDERBOOK:*"]
        routing.venue_include = ["BINANCE_FUTURES", "DERIBIT"]
        [routing.upstreams]
    """
    one = ticking(tmp_path, influx, "ipc://none", "ipc://none", feed, collected, routed)
    wanted = {(s.venue, s.data_type) for s in STREAMS}
    best = BestPrices(decode=CryptofeedDecoder(register=Register()), position_of=wire.position)
    messages = [
        message
        for line in lines
        if (message := best(frame_of(line))) is not None
        and (message.venue, message.__struct_config__.tag) in wanted
    ]
    encoded = Encoder().encode(messages)
    points = Counter(
        line.partition(",")[0]
        for line in {
            f"{begin} {at}" for begin, _, at in (line.split(" ") for line in encoded.lines)
        }
    )
    assert set(points) >= {"trades", "orderbook", "funding_rate", "liquidation", "open_interest"}
    settings = load(one.programs.settings_file, {})
    (upstream,) = upstreams_of(settings, tick_collections(settings))
    async with one.programs.runner("tick"), cryptofeed_to(own, *upstream.topics) as publisher:
        for line in lines:
            publisher.send(line)
        settled = (len(encoded.lines), len(encoded.rejected))  # tickers that say nothing
        await one.until(lambda m: (frames(m, "written"), frames(m, "dead")) == settled)
    fields = {name: measurement.fields for name, measurement in MEASUREMENTS.items()}
    counted = {
        name: max(influx.count(name, field.name) for field in fields[name]) for name in points
    }
    assert counted == points


async def test_a_gap_waits_for_the_mart_and_ticks_do_not(
    tmp_path: Path, influx: InfluxBucket, mart_url: str
) -> None:
    endpoint, topic = f"ipc://{tmp_path}/feed", b"BINANCE_SPOT:TRADE:BTCUSDT "
    collected = f"ticks.collect = {json.dumps(['BINANCE_SPOT:TRADE:BTCUSDT'])}"
    one = ticking(tmp_path, influx, endpoint, None, collected)
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.bind(endpoint)
        async with one.programs.runner("tick") as runner:
            await until_wanted(publisher, topic)
            for number in (1, 2, 6):
                _, payload = wire.encode(trade(number))
                publisher.send_multipart([topic, wire.header(AT, number), payload])
            found = await one.until(lambda m: frames(m, "written") == 3)
            await runner.until(lambda log: "GAPS_WAIT" in log)
            assert found["ravenwh_gaps_open"] == 1
    one = ticking(tmp_path, influx, endpoint, None, collected, mart=mart_url)
    async with one.programs.runner("tick") as runner:
        await one.until(lambda m: m["ravenwh_gaps_open"] == 0)
    assert "FEED_GAP" in runner.log
    with psycopg.connect(mart_url.replace("+asyncpg", "")) as connection:
        query = "SELECT topic, first_seq, last_seq, missing FROM mart.ops__feed_gap"
        assert connection.execute(query).fetchall() == [(topic.decode().strip(), 3, 5, 3)]
