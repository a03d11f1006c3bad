"""The collections of a runner, where publishers refuse what is asked of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import attrs
import pytest
from loguru import logger

from ravenwh.app import telling
from ravenwh.app.collecting import Collecting
from ravenwh.app.feeds import resending
from ravenwh.app.instruments import OwnSymbols, any_symbols, own_symbols, register_of
from ravenwh.app.work import upstreams_of
from ravenwh.domain.errors import UnknownSymbol
from ravenwh.domain.settings import Settings
from ravenwh.feed.collecting import Fixed, collection_handlers
from ravenwh.feed.control import Changed, Collected, Collection, ControlError
from ravenwh.feed.control_client import ControlClient
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
async def bench(
    folder: Path,
    handlers: Handlers,
    *types: str,
    own_symbols: OwnSymbols = own_symbols,
    given: frozenset[Collection] = frozenset({BTC}),
    **routing: object,
) -> AsyncIterator[Bench]:
    """Collections of BTC, with a publisher that answers so; ``types`` are taken beside klines."""
    with closing(free_ports()) as free:
        answers = f"tcp://127.0.0.1:{next(free)}"
    feed = {"endpoint": f"ipc://{folder}/feed", "control": answers}
    settings = Settings(feeds={"default": feed}, routing=routing)  # type: ignore[arg-type]  # as a file has it
    register = register_of(settings)
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
            data_types=frozenset({"CANDLE", *types}),
            given=given,
            own_symbols=own_symbols,
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
    try:
        async with bench(tmp_path, {}) as world:
            telling = asyncio.create_task(world.collecting.keep_told())
            assert await world.collecting.start(ETH) == Changed(changed=True)
            assert world.collecting.wanted == {BTC, ETH}
            assert await world.collecting.stop(ETH) == Changed(changed=True)
            telling.cancel()
            await asyncio.wait([telling])
    finally:
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
    given = frozenset(Collection("BINANCE_SPOT", "CANDLE", f"C{n}USDT") for n in range(300))
    async with bench(tmp_path, collection_handlers(publisher), given=given) as world:
        done = await world.collecting.start(BTC)
        assert done.changed
        assert "not answered for 0.2 s" in done.note
        async with asyncio.timeout(300 * 0.2):  # it is waited for once, and not for each of them
            stopped = await world.collecting.stop_all()
        assert len(stopped.collections) == 301
        assert "not answered" in stopped.note
        await world.collecting.start(ETH)
        publisher.goes.set()
        keeping = asyncio.create_task(world.collecting.keep_told())
        async with asyncio.timeout(60):
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


@asynccontextmanager
async def asked(folder: Path, collecting: Collecting) -> AsyncIterator[ControlClient]:
    """Who asks these collections at a control socket."""
    address = f"ipc://{folder}/asked"
    there = Endpoint(address=address, mode="bind")
    with (
        ControlServer(endpoint=there, handlers=collection_handlers(collecting)) as server,
        ControlClient(endpoint=Endpoint(address=address)) as client,
    ):
        serving = asyncio.create_task(server.serve())
        try:
            yield client
        finally:
            serving.cancel()
            await asyncio.wait([serving])


async def test_a_pair_is_started_and_stopped_as_the_symbol_of_its_venue(tmp_path: Path) -> None:
    async with (
        bench(tmp_path, {}, "TRADE", own_symbols=any_symbols) as world,
        asked(tmp_path, world.collecting) as client,
    ):
        for venue, pair, symbol in (
            ("BINANCE_FUTURES", "BTC/USDT", "BTCUSDT"),
            ("OKX_PERP", "BTC/USDT", "BTC-USDT-SWAP"),
            ("KRAKEN_SPOT", "BTC/USD", "BTC/USD"),
            ("KRAKEN_SPOT", "XBT/USD", "XBT/USD"),  # an older spelling of its own
        ):
            resolved = Collection(venue, "TRADE", symbol)
            assert (await client.start_collection(Collection(venue, "TRADE", pair))).changed
            assert world.collecting.wanted == {BTC, resolved}
            topic = f"{venue}:TRADE:{symbol} ".encode()
            assert topic in world.source.wanted("default")
            assert not (await client.start_collection(resolved)).changed
            assert (await client.stop_collection(Collection(venue, "TRADE", pair))).changed
            assert world.collecting.wanted == {BTC}
            assert topic not in world.source.wanted("default")
        stopped = await client.stop_collection(Collection("BINANCE_SPOT", "CANDLE", "BTC/USDT"))
        assert stopped.changed
        assert world.collecting.wanted == frozenset()


REFUSED = (
    (("BINANCE_FUTURES", "BTC/XXX"), "UNKNOWN_SYMBOL", "its quotes are USDT, USDC, BUSD, BTC"),
    (("BINANCE_OPTIONS", "BTC/USDT"), "UNKNOWN_SYMBOL", "it has options only"),
    (("BINANCE_FUTURES", "btcusdt"), "UNKNOWN_SYMBOL", "did you mean 'BTCUSDT'?"),
    (("BINANCE_FUTURES", "foo"), "UNKNOWN_SYMBOL", "in capitals and digits, as in BTCUSDT"),
    (("BITSTAMP_SPOT", "BTCUSD"), "UNKNOWN_SYMBOL", "did you mean 'btcusd'?"),
    (("OKX_SPOT", "BTCUSDT"), "UNKNOWN_SYMBOL", "the venue writes BTC-USDT"),
    (("BINANCE", "BTCUSDT"), "UNKNOWN_VENUE", "found 'BINANCE', allowed are BINANCE_COIN_FUTURES,"),
    (("BINANCE", "BTC/USDT"), "UNKNOWN_VENUE", "found 'BINANCE', allowed are"),
    (("BINANCE", "*"), "UNKNOWN_VENUE", "found 'BINANCE', allowed are"),
)


@pytest.mark.parametrize(("names", "code", "told"), REFUSED)
async def test_what_can_be_no_symbol_of_a_venue_is_refused_and_not_remembered(
    tmp_path: Path, names: tuple[str, str], code: str, told: str
) -> None:
    venue, symbol = names
    wrong = Collection(venue, "TRADE", symbol)
    async with (
        bench(tmp_path, {}, "TRADE", own_symbols=any_symbols) as world,
        asked(tmp_path, world.collecting) as client,
    ):
        for ask in (client.start_collection, client.stop_collection):
            with pytest.raises(ControlError) as raised:
                await ask(wrong)
            assert (raised.value.code, told in str(raised.value)) == (code, True), raised.value
        assert world.collecting.wanted == {BTC}
        assert world.collecting.journal.collections() == {}


async def test_what_has_no_series_is_refused_where_klines_are_taken(tmp_path: Path) -> None:
    async with (
        bench(tmp_path, {}) as world,
        asked(tmp_path, world.collecting) as client,
    ):
        with pytest.raises(ControlError, match="have no series in the mart") as raised:
            await client.start_collection(Collection("BINANCE_FUTURES", "CANDLE", "BTCUSDT_250328"))
        assert raised.value.code == "REFUSED"


async def test_what_no_rule_reads_is_taken_where_a_venue_may_have_it(tmp_path: Path) -> None:
    named = ("NOWHERE", "default", "BINANCE_SPOT:CANDLE", "DERIBIT:PRICE_INDEX")
    upstreams = dict.fromkeys(named, "default")
    async with bench(
        tmp_path, {}, "TRADE", "PRICE_INDEX", own_symbols=any_symbols, upstreams=upstreams
    ) as world:
        for one in (
            Collection("BINANCE_OPTIONS", "TRADE", "BTC-250328-60000-C"),
            Collection("BINANCE_FUTURES", "TRADE", "BTCUSDT_250328"),
            Collection("NOWHERE", "TRADE", "anything"),
            Collection("DERIBIT", "PRICE_INDEX", "an_index"),
        ):
            assert (await world.collecting.start(one)).changed
            assert one in world.collecting.wanted
        with pytest.raises(UnknownSymbol, match="'BTC/USD'"):  # of an index there is no pair
            await world.collecting.start(Collection("DERIBIT", "PRICE_INDEX", "BTC/USD"))


async def test_what_was_remembered_is_stopped_however_it_is_written(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "j.sqlite")) as store:
        store.set_collection("BINANCE_FUTURES", "TRADE", "foo", wanted=True)
    wrong = Collection("BINANCE_FUTURES", "TRADE", "foo")
    async with bench(tmp_path, {}, "TRADE", own_symbols=any_symbols) as world:
        assert world.collecting.wanted == {BTC, wrong}
        assert (await world.collecting.stop(wrong)).changed
        assert world.collecting.journal.collections() == {}
