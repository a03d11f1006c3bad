"""The collections of a runner, where publishers refuse what is asked of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import attrs
import pytest
from loguru import logger

from ravenwh.app import telling
from ravenwh.app.collecting import Collecting
from ravenwh.app.feeds import resending
from ravenwh.app.instruments import register_of
from ravenwh.app.work import upstreams_of
from ravenwh.domain.settings import Settings
from ravenwh.feed.collecting import Fixed, collection_handlers
from ravenwh.feed.control import Changed, Collected, Collection, ControlError
from ravenwh.feed.control_server import ControlServer, Handlers
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.subscriber import ZmqSource
from ravenwh.journal import Store
from ravenwh.ports import Stream
from tests.programs import free_ports

BTC = Collection("BINANCE_SPOT", "CANDLE", "BTCUSDT")
ETH = Collection("BINANCE_SPOT", "CANDLE", "ETHUSDT")
STREAMS = [("default", b"BINANCE_SPOT:CANDLE:%bUSDT%b" % (c, e)) for c in (b"BTC", b"ETH", b"XRP")
           for e in (b" ", b" 1m")]  # fmt: skip


@attrs.define
class Bench:
    collecting: Collecting
    source: ZmqSource
    forgotten: list[Stream] = attrs.field(factory=list)


@asynccontextmanager
async def bench(folder: Path, handlers: Handlers) -> AsyncIterator[Bench]:
    """Collections of BTC, with a publisher that answers so."""
    with closing(free_ports()) as free:
        answers = f"tcp://127.0.0.1:{next(free)}"
    feed = {"endpoint": f"ipc://{folder}/feed", "control": answers}
    settings = Settings(feeds={"default": feed})  # type: ignore[arg-type]  # as a file has it
    register, given = register_of(settings), frozenset({BTC})
    endpoint = Endpoint(address=answers, mode="bind")
    with (
        closing(Store(folder / "j.sqlite")) as store,
        ControlServer(endpoint=endpoint, handlers=handlers) as server,
        ZmqSource(upstreams=upstreams_of(settings, given)) as source,
        resending(settings, source) as resender,
    ):
        serving = asyncio.create_task(server.serve())
        collecting = Collecting(
            settings=settings,
            register=register,
            journal=store,
            data_types=frozenset({"CANDLE"}),
            given=given,
        )
        found = Bench(collecting, source)
        collecting.attach(
            source,
            resender.clients,
            lambda is_forgotten: found.forgotten.extend(filter(is_forgotten, STREAMS)),
        )
        try:
            yield found
        finally:
            serving.cancel()
            await asyncio.wait([serving])


async def test_what_a_publisher_refuses_to_stop_is_not_taken_all_the_same(tmp_path: Path) -> None:
    async with bench(tmp_path, collection_handlers(Fixed([ETH]))) as world:
        with pytest.raises(ControlError, match="UNKNOWN_SYMBOL"):
            await world.collecting.start(Collection("BINANCE_SPOT", "CANDLE", "XRPUSDT"))
        done = await world.collecting.stop(BTC)
        assert done.changed
        assert "UNKNOWN_SYMBOL" in done.note
        assert world.collecting.wanted == frozenset()
        assert world.source.wanted("default") == frozenset()


async def test_a_publisher_that_takes_no_requests_is_none_that_refuses(tmp_path: Path) -> None:
    lines: list[str] = []
    handler = logger.add(lambda line: lines.append(str(line)), format="{message}")
    async with bench(tmp_path, {}) as world:
        telling = asyncio.create_task(world.collecting.keep_told())
        assert await world.collecting.start(ETH) == Changed(changed=True)
        assert world.collecting.wanted == {BTC, ETH}
        assert await world.collecting.stop(ETH) == Changed(changed=True)
        telling.cancel()
        await asyncio.wait([telling])
    logger.remove(handler)
    assert "COLLECTIONS_REFUSED\n" not in lines


@attrs.define
class Slow:
    """A publisher that begins what it is asked for when it is let."""

    collected: set[Collection] = attrs.field(factory=set)
    asked: asyncio.Event = attrs.field(factory=asyncio.Event)
    goes: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def start(self, wanted: Collection) -> Changed:
        self.asked.set()
        await self.goes.wait()
        self.collected.add(wanted)
        return Changed(changed=True)

    async def stop(self, unwanted: Collection) -> Changed:
        self.collected.discard(unwanted)
        return Changed(changed=True)

    async def list_all(self) -> Collected:
        return Collected(collections=tuple(sorted(self.collected)))

    async def stop_all(self) -> Collected:
        return Collected(collections=())


async def test_what_is_stopped_while_a_publisher_is_told_is_not_started_after_it(
    tmp_path: Path,
) -> None:
    publisher = Slow()
    publisher.goes.set()
    async with bench(tmp_path, collection_handlers(publisher)) as world:
        await world.collecting.start(ETH)
        publisher.goes.clear()
        publisher.asked.clear()
        telling = asyncio.create_task(world.collecting.keep_told())
        await publisher.asked.wait()  # for BTC, the first of the two
        stopping = asyncio.create_task(world.collecting.stop(ETH))
        await asyncio.sleep(0)  # it begins
        publisher.goes.set()
        assert (await stopping).changed
        await world.collecting.stop(BTC)  # behind whatever else was to be told
        assert publisher.collected == set()
        telling.cancel()
        await asyncio.wait([telling])


async def test_a_publisher_that_does_not_answer_holds_nobody_up_and_is_told_when_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "PATIENCE_S", 0.2)
    monkeypatch.setattr(telling, "AGAIN_S", 0.01)
    publisher = Slow()
    async with bench(tmp_path, collection_handlers(publisher)) as world:
        wanted = [Collection("BINANCE_SPOT", "CANDLE", f"C{n}USDT") for n in range(3)]
        done = await world.collecting.start(wanted[0])
        assert done.changed
        assert "not answered for 0.2 s" in done.note
        for one in wanted[1:]:
            await world.collecting.start(one)
        began = time.monotonic()
        stopped = await world.collecting.stop_all()
        assert time.monotonic() - began < 4 * 0.2  # it is waited for once
        assert len(stopped.collections) == 4
        assert "not answered" in stopped.note
        await world.collecting.start(ETH)
        publisher.goes.set()
        keeping = asyncio.create_task(world.collecting.keep_told())
        async with asyncio.timeout(20):
            while ETH not in publisher.collected:  # noqa: ASYNC110  a turn of the loop
                await asyncio.sleep(0)
        keeping.cancel()
        await asyncio.wait([keeping])


async def test_streams_are_forgotten_that_nobody_wanted(tmp_path: Path) -> None:
    async with bench(tmp_path, {}) as world:
        assert world.forgotten == STREAMS[2:]  # those of the settings are not
        world.forgotten.clear()
        await world.collecting.start(ETH)
        assert world.forgotten == STREAMS[2:4]
        world.forgotten.clear()
        await world.collecting.start(ETH)
        await world.collecting.start(BTC)
        assert world.forgotten == []  # it is wanted already
        await world.collecting.start(Collection("BINANCE_SPOT", "CANDLE", "*"))
        assert world.forgotten == STREAMS[4:]
