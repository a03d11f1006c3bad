"""A runner as its operator meets it: several feeds, control, a database that is not there yet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import attrs
import psycopg
import pytest
from psycopg import sql

from ravenwh.domain.messages import Candle
from ravenwh.feed import wire
from ravenwh.feed.collecting import collection_handlers
from ravenwh.feed.control import Changed, Collected, Collection
from ravenwh.feed.control_server import ControlServer
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.resending import resend_handlers
from tests.chaos.bare import line
from tests.chaos.watch import imbalance, page, samples
from tests.cryptofeed import cryptofeed_to
from tests.feed.tcp import Cable
from tests.programs import Programs, free_ports
from tests.warehouse.conftest import candle

SOON_S = 60.0
ENDED_WITHIN_S = 45.0
"""Of a runner that need not wait for its database. A statement is waited for 60 seconds."""


async def until(holds: Callable[[], bool]) -> None:
    """Look again and again: it is another process that does it."""
    async with asyncio.timeout(SOON_S):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def ready_with(port: int, status: int) -> str:
    """What ``/readyz`` says, once it says it with this status."""
    async with asyncio.timeout(SOON_S):
        while (said := await page(port, "/readyz"))[0] != status:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return said[1]


@attrs.frozen(kw_only=True)
class Mart:
    """The mart as psql sees it."""

    dsn: str

    def count(self, table: str = "fact__kline") -> int:
        with psycopg.connect(self.dsn) as connection:
            named = sql.Identifier("mart", table)
            row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(named)).fetchone()
        assert row is not None
        return int(row[0])

    def coins(self) -> dict[str, int]:
        """How many klines each coin has."""
        with psycopg.connect(self.dsn) as connection:
            return dict(
                connection.execute("SELECT coin, count(*) FROM mart.kline_1m GROUP BY 1").fetchall()
            )


@pytest.fixture
def mart_at(mart_url: str) -> Mart:
    return Mart(dsn=mart_url.replace("+asyncpg", ""))


@attrs.define
class Asked:
    """The collections of a publisher that collects what it is asked for."""

    collected: set[Collection] = attrs.field(factory=set)

    async def start(self, wanted: Collection) -> Changed:
        is_new = wanted not in self.collected
        self.collected.add(wanted)
        return Changed(changed=is_new)

    async def stop(self, unwanted: Collection) -> Changed:
        self.collected.discard(unwanted)
        return Changed(changed=True)

    async def list_all(self) -> Collected:
        return Collected(collections=tuple(sorted(self.collected)))

    async def stop_all(self) -> Collected:
        self.collected.clear()
        return Collected(collections=())


@asynccontextmanager
async def publishing(endpoint: str, control: str) -> AsyncIterator[tuple[Publisher, Asked]]:
    """A publisher that resends, and can be told what to collect."""
    asked = Asked()
    async with Publisher(endpoint=Endpoint(address=endpoint, mode="bind")) as publisher:
        handlers = {**resend_handlers(publisher), **collection_handlers(asked)}
        with ControlServer(
            endpoint=Endpoint(address=control, mode="bind"), handlers=handlers
        ) as server:
            task = asyncio.create_task(server.serve())
            try:
                yield publisher, asked
            finally:
                task.cancel()
                await asyncio.wait([task])


def symbol(name: str) -> Collection:
    return Collection("BINANCE_SPOT", "CANDLE", name)


async def test_what_is_collected_is_changed_while_it_runs_and_stays_changed(
    tmp_path: Path, mart_url: str, mart_at: Mart
) -> None:
    with closing(free_ports()) as free:
        answers = f"tcp://127.0.0.1:{next(free)}"
    endpoint = f"ipc://{tmp_path}/feed"
    programs = Programs(folder=tmp_path).configure(f"""
        timescale.url = {json.dumps(mart_url)}
        journal.dir = "journal"
        feeds.default = {{ endpoint = "{endpoint}", control = "{answers}" }}
        binance_klines = {{ venues = ["BINANCE_SPOT"], symbols = ["BTC/USDT"] }}
    """)
    sent = dict.fromkeys(("BTCUSDT", "ETHUSDT", "XRPUSDT"), 0)

    async def control(*words: str) -> str:
        out, err = await programs.run("ravenwh", "control", *words)
        assert err == ""
        return out

    async with publishing(endpoint, answers) as (publisher, asked):

        async def publish(count: int) -> None:
            """So many klines more of each symbol."""
            for _ in range(count):
                for name in sent:
                    await publisher.publish(candle(sent[name], symbol=name))
                    sent[name] += 1

        async with programs.kline_runner():
            await until(lambda: asked.collected == {symbol("BTCUSDT")})
            await publish(3)
            await until(lambda: mart_at.coins() == {"BTC": 3})

            told = await control("start", "BINANCE_SPOT", "CANDLE", "ETHUSDT")
            assert told == "BINANCE_SPOT:CANDLE:ETHUSDT: is collected from now on\n"
            assert asked.collected == {symbol("BTCUSDT"), symbol("ETHUSDT")}
            await publisher.wait_for_subscribers(
                [wire.topic("BINANCE_SPOT", "CANDLE", "ETHUSDT")], timeout_s=SOON_S
            )
            await publish(2)  # what is there of it is sent again, the three before too
            await until(lambda: mart_at.coins() == {"BTC": 5, "ETH": 5})

            assert "longer" in await control("stop", "BINANCE_SPOT", "CANDLE", "BTCUSDT")
            assert asked.collected == {symbol("ETHUSDT")}
            await publish(4)
            await until(lambda: mart_at.coins()["ETH"] == 9)
            assert await control("list") == "BINANCE_SPOT CANDLE ETHUSDT\n"

        asked.collected.clear()  # as a publisher that was restarted
        async with programs.kline_runner():
            await until(lambda: asked.collected == {symbol("ETHUSDT")})
            assert await control("list") == "BINANCE_SPOT CANDLE ETHUSDT\n"
            await publish(1)
            await until(lambda: mart_at.coins() == {"BTC": 5, "ETH": 10})

            await control("start", "BINANCE_SPOT", "CANDLE", "BTCUSDT")
            await publisher.wait_for_subscribers(
                [wire.topic("BINANCE_SPOT", "CANDLE", "BTCUSDT")], timeout_s=SOON_S
            )
            await publish(1)
            await until(lambda: mart_at.coins()["ETH"] == 11)
            out, _ = await programs.run("ravenwh", "control", "stop-all")
            assert out == "BINANCE_SPOT CANDLE BTCUSDT\nBINANCE_SPOT CANDLE ETHUSDT\n"
            assert asked.collected == set()
            assert await control("list") == ""
    assert mart_at.count("ops__feed_gap") == 0  # what nobody wanted is not missing


async def test_a_collection_whose_feed_is_gone_is_left_out_and_told(
    tmp_path: Path, mart_url: str
) -> None:
    def configure(upstreams: str) -> Programs:
        return Programs(folder=tmp_path).configure(f"""
            timescale.url = {json.dumps(mart_url)}
            journal.dir = "journal"
            feeds.default.endpoint = "ipc://{tmp_path}/feed"
            binance_klines = {{ venues = ["BINANCE_SPOT"], symbols = ["BTC/USDT"] }}
            routing.upstreams = {{ "BINANCE_SPOT:CANDLE" = "default"{upstreams} }}
        """)

    programs = configure(', "OKX_SPOT:CANDLE" = "default"')
    async with programs.kline_runner():
        await programs.run("ravenwh", "control", "start", "OKX_SPOT", "CANDLE", "BTC-USDT")
    programs = configure("")
    async with programs.kline_runner() as runner:
        assert "COLLECTION_LEFT_OUT collection='OKX_SPOT:CANDLE:BTC-USDT'" in runner.log
        assert 'routing.upstreams."OKX_SPOT:CANDLE"' in runner.log
        out, _ = await programs.run("ravenwh", "control", "list")
        assert out == "BINANCE_SPOT CANDLE BTCUSDT\n"


async def test_frames_are_taken_before_the_database_is_there(
    tmp_path: Path, mart_url: str, mart_at: Mart
) -> None:
    with closing(free_ports()) as free:
        port = next(free)
    endpoint = f"ipc://{tmp_path}/feed"
    there = mart_url.rpartition("@")[2].partition("/")[0]
    async with Cable() as way:
        here = (await way.to(f"tcp://{there}")).removeprefix("tcp://")
        await way.cut()
        programs = Programs(folder=tmp_path).configure(
            f"""
            timescale.url = {json.dumps(mart_url.replace(there, here))}
            journal.dir = "journal"
            ingest.retry_max_s = 0.2
            feeds.default.endpoint = "{endpoint}"
            binance_klines.venues = ["BINANCE_SPOT"]
            """,
            kline_port=port,
        )
        async with programs.kline_runner() as runner:
            async with Publisher(endpoint=Endpoint(address=endpoint, mode="bind")) as publisher:
                topic = wire.topic("BINANCE_SPOT", "CANDLE", "BTCUSDT")
                await publisher.wait_for_subscribers([topic], timeout_s=SOON_S)
                for minute in range(50):
                    await publisher.publish(candle(minute))
            await runner.until(lambda log: "SINK_UNAVAILABLE" in log)
            await runner.received(50)
            found = samples((await page(port + 1000, "/metrics"))[1])
            assert found["ravenwh_frames_in_journal"] == 50
            assert found["ravenwh_ready"] == 0
            assert imbalance(found) == 0
            status, body = await page(port + 1000, "/readyz")
            assert status == 503
            assert json.loads(body)["troubles"][0].startswith("starting: the database cannot be")
            assert (await page(port + 1000, "/livez"))[0] == 200
            await way.mend()
            await until(lambda: mart_at.count() == 50)
            await ready_with(port + 1000, 200)
            await way.cut()  # and nothing comes that would have to be written
            assert "the database is away" in await ready_with(port + 1000, 503)
            await way.mend()
            await ready_with(port + 1000, 200)


async def test_several_feeds_at_once_connected_and_bound_on_both_wires(
    tmp_path: Path, mart_url: str, mart_at: Mart
) -> None:
    with closing(free_ports()) as free:
        foreign, bound, connected = (f"tcp://127.0.0.1:{next(free)}" for _ in range(3))
    programs = Programs(folder=tmp_path).configure(f"""
        timescale.url = {json.dumps(mart_url)}
        journal.dir = "journal"
        [feeds]
        ours = {{ endpoint = "{connected}" }}
        theirs = {{ endpoint = "{bound}", mode = "bind" }}
        foreign = {{ endpoint = "{foreign}", mode = "bind", wire = "cryptofeed" }}
        [binance_klines]
        venues = ["BINANCE_SPOT", "BINANCE_FUTURES", "OKX_SPOT"]
        [routing.upstreams]
        "BINANCE_SPOT:CANDLE" = "foreign"
        "BINANCE_FUTURES:CANDLE" = "ours"
        "OKX_SPOT:CANDLE" = "theirs"
    """)
    async with programs.kline_runner() as runner:
        assert "feeds=['foreign', 'ours', 'theirs']" in runner.log

        async def publish(endpoint: Endpoint, kline: Candle) -> None:
            topic = wire.topic(kline.venue, "CANDLE", kline.symbol)
            async with Publisher(endpoint=endpoint) as publisher:
                await publisher.wait_for_subscribers([topic], timeout_s=SOON_S)
                await publisher.publish(kline)

        await publish(
            Endpoint(address=connected, mode="bind"),
            candle(0, venue="BINANCE_FUTURES", symbol="ETHUSDT"),
        )
        await publish(
            Endpoint(address=bound, mode="connect"),
            candle(0, venue="OKX_SPOT", symbol="XRP-USDT"),
        )
        async with cryptofeed_to(foreign, b"BINANCE-candles-") as publisher:
            publisher.send(line(0))
            await until(lambda: mart_at.coins() == {"ETH": 1, "XRP": 1, "ADA": 1})


@pytest.mark.parametrize("waiting", [0, 1])
async def test_a_runner_ends_in_time_while_its_way_to_the_database_swallows_everything(
    tmp_path: Path, mart_url: str, mart_at: Mart, waiting: int
) -> None:
    endpoint = f"ipc://{tmp_path}/feed"
    there = mart_url.rpartition("@")[2].partition("/")[0]
    async with Cable() as way:
        here = (await way.to(f"tcp://{there}")).removeprefix("tcp://")
        programs = Programs(folder=tmp_path).configure(f"""
            timescale.url = {json.dumps(mart_url.replace(there, here))}
            journal.dir = "journal"
            ingest.shutdown_grace_s = 1.0
            feeds.default.endpoint = "{endpoint}"
            binance_klines.venues = ["BINANCE_SPOT"]
        """)
        async with (
            Publisher(endpoint=Endpoint(address=endpoint, mode="bind")) as publisher,
            programs.kline_runner() as runner,
        ):
            topic = wire.topic("BINANCE_SPOT", "CANDLE", "BTCUSDT")
            await publisher.wait_for_subscribers([topic], timeout_s=SOON_S)
            await publisher.publish(candle(0))
            await runner.until(lambda log: "BATCH_WRITTEN written=1" in log)  # it has the answer
            way.stall()
            for minute in range(waiting):
                await publisher.publish(candle(1 + minute))
            await runner.received(1 + waiting)
            async with asyncio.timeout(ENDED_WITHIN_S):
                await runner.stop()
        assert runner.log.count("SHUTDOWN_GRACE_OVER") == waiting
        await way.cut()
        await way.mend()
        async with programs.kline_runner():
            await until(lambda: mart_at.count() == 1 + waiting)
