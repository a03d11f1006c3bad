"""The program that makes bars: what it needs to start, and what it tells its subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from ravenwh.domain.messages import Candle, Trade
from ravenwh.feed import wire
from ravenwh.feed.control import Collected, Collection, ListCollections
from ravenwh.feed.control_client import ControlClient
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.resender import FeedResender
from tests.features.streams import trade
from tests.programs import Programs, free_ports

GOOD = {
    "bars": 'feed = "bars"\nsymbols = ["BTC/USDT"]\nvenues = ["BINANCE_FUTURES"]',
    "profiles": "trb_a = { expected_ticks = 10 }",
    "feed": "",
}
BARS = wire.topic("BINANCE_FUTURES", "CANDLE", "BTCUSDT")
TRADES = wire.topic("BINANCE_FUTURES", "TRADE", "BTCUSDT")


@attrs.frozen
class World:
    """A folder for the program, and the two ends of its sockets."""

    folder: Path
    port: int

    def programs(self, **changes: str) -> Programs:
        parts = GOOD | changes
        return Programs(folder=self.folder).configure(
            f"""
            journal.dir = "journal"
            routing.upstreams = {{ default = "trades" }}
            [feeds.trades]
            endpoint = "ipc://{self.folder}/trades"
            [feeds.bars]
            endpoint = "ipc://{self.folder}/bars"
            {parts["feed"]}
            [bars]
            {parts["bars"]}
            [bars.profiles]
            {parts["profiles"]}
            """,
            make_bars_port=self.port,
        )

    def control(self) -> ControlClient:
        return ControlClient(endpoint=Endpoint(address=f"tcp://127.0.0.1:{self.port}"))

    def publisher(self) -> Publisher:
        return Publisher(endpoint=Endpoint(address=f"ipc://{self.folder}/trades", mode="bind"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    with closing(free_ports()) as free:
        return World(tmp_path, next(free))


async def send(publisher: Publisher, trades: Sequence[Trade]) -> None:
    for one in trades:
        await publisher.publish(one)


async def published(world: World, count: int) -> list[Candle]:
    """The bars of this run, once there are so many, as the control socket sends them again."""
    with world.control() as client:
        resender = FeedResender(clients={"bars": client}, wanted=lambda _: [BARS])
        async with asyncio.timeout(60):
            last = 0
            while last < count:
                await asyncio.sleep(0.02)  # it is another process that comes to have them
                found = await resender.positions("bars")
                epoch, oldest, last = found.get(BARS, (0, 0, 0))
        frames = await resender.resend("bars", BARS, epoch, oldest, last)
    messages = [wire.decode(frame) for frame in frames]
    return [candle for candle in messages if isinstance(candle, Candle)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"profiles": ""}, "bars.profiles: found none; allowed: at least one"),
        (
            {"profiles": "tib_a = { expected_tick = 10 }"},
            "bars.profiles.tib_a: profile tib_a: found unknown expected_tick; allowed are",
        ),
        (
            {"profiles": "trb_a = { span = 0 }\nrenko_10 = {}"},
            "bars.profiles.trb_a: profile trb_a: span: found 0, allowed is a whole number",
        ),
        ({"profiles": "renko_10 = {}"}, "bars.profiles.renko_10: profile 'renko_10' is of no kind"),
        ({"bars": ""}, "bars.feed: found nothing; allowed: the name of a feed to publish"),
        ({"bars": 'feed = "trades"'}, 'bars.feed: found "trades", which BINANCE_FUTURES:TRADE:*'),
        ({"feed": 'mode = "bind"'}, "feeds.bars: found wire raven, mode bind; bars.feed needs"),
    ],
)
async def test_settings_that_make_no_bars_are_refused(
    world: World, changes: dict[str, str], told: str
) -> None:
    _, err = await world.programs(**changes).run("runners.make_bars", code=2)
    assert told in err
    assert "Traceback" not in err


async def test_changed_parameters_are_refused_until_they_have_another_name(world: World) -> None:
    async with world.programs().runner("make_bars") as runner, world.publisher() as publisher:
        await publisher.wait_for_subscribers([TRADES], timeout_s=60)
        await send(publisher, [trade(n) for n in range(5)])
        await runner.until(lambda log: "BATCH_WRITTEN" in log)
    other = world.programs(profiles="trb_a = { expected_ticks = 20 }")
    _, err = await other.run("runners.make_bars", code=1)
    assert "profile trb_a: the saved chain has parameters" in err
    assert "give changed parameters another name" in err
    again = world.programs(profiles="trb_b = { expected_ticks = 20 }")
    async with again.runner("make_bars"):
        pass


async def test_trades_that_nobody_has_any_more_are_told_by_the_bar(world: World) -> None:
    """The publisher has no control endpoint: what goes by while nobody listens is lost."""
    trades = [trade(n, trade_id=str(n)) for n in range(60)]
    async with world.publisher() as publisher:
        async with world.programs().runner("make_bars") as runner:
            await publisher.wait_for_subscribers([TRADES], timeout_s=60)
            await send(publisher, trades[:25])
            await runner.received(25)
            assert [one.after_gap for one in await published(world, 2)] == [False, False]
        await send(publisher, trades[25:38])
        async with world.programs().runner("make_bars") as runner:
            await publisher.wait_for_subscribers([TRADES], timeout_s=60)
            await send(publisher, trades[38:])
            bars = await published(world, 4)
            await runner.until(lambda log: "FEED_GAP" in log)
    # the two that were published before come again; the next has 5 of its trades from before
    assert [one.after_gap for one in bars] == [False, False, True, False]
    assert [one.total_ticks for one in bars] == [10, 10, 10, 10]
    assert bars[2].close_time == trades[42].event_time


async def test_subscribers_of_bars_ask_for_them_by_control(world: World) -> None:
    def collection(data_type: str, symbol: str) -> Collection:
        return Collection("BINANCE_FUTURES", data_type, symbol)

    async with world.programs().runner("make_bars"), world.publisher() as publisher:
        with world.control() as client:
            assert not (await client.start_collection(collection("CANDLE", "BTCUSDT"))).changed
            assert (await client.start_collection(collection("CANDLE", "ETHUSDT"))).changed
            stopped = await client.stop_collection(collection("CANDLE", "ETHUSDT"))
            assert (stopped.changed, "stop its TRADE" in stopped.note) == (False, True)
            listed, _ = await client.ask(ListCollections(), Collected)
            both = [collection("TRADE", symbol) for symbol in ("BTCUSDT", "ETHUSDT")]
            assert list(listed.collections) == both
            ether = wire.topic("BINANCE_FUTURES", "TRADE", "ETHUSDT")
            await publisher.wait_for_subscribers([TRADES, ether], timeout_s=60)
            await send(publisher, [trade(n) for n in range(10)])
            assert len(await published(world, 1)) == 1
            assert (await client.stop_collection(collection("TRADE", "ETHUSDT"))).changed
