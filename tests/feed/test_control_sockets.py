"""The control socket: every request good and bad, from any client, and what a flood may not do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import zmq

from ravenwh.domain.errors import Refused, Unavailable
from ravenwh.domain.messages import PriceIndex
from ravenwh.feed import wire
from ravenwh.feed.collecting import Collections, Fixed, collection_handlers
from ravenwh.feed.control import (
    Changed,
    Collected,
    Collection,
    ControlError,
    Position,
    Positions,
    Resend,
    Resent,
    Sequences,
)
from ravenwh.feed.control_client import ControlClient
from ravenwh.feed.control_server import ControlServer, Handlers
from ravenwh.feed.descriptor import news
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.resending import resend_handlers

pytestmark = pytest.mark.usefixtures("no_socket_left")

SOON_S = 60.0
ANY_PORT = Endpoint(address="tcp://127.0.0.1:0", mode="bind")
BTC = Collection("DERIBIT", "PRICE_INDEX", "btc_usd")
ETH = Collection("DERIBIT", "PRICE_INDEX", "eth_usd")
TOPIC = wire.topic("DERIBIT", "PRICE_INDEX", "btc_usd")


class Remembered:
    """Collections as a runner has them, in memory; of Deribit only."""

    def __init__(self) -> None:
        self.wanted: list[Collection] = []

    async def start(self, wanted: Collection) -> Changed:
        if wanted.venue != "DERIBIT":
            raise ControlError("UNKNOWN_VENUE", f"venue: found {wanted.venue}, allowed is DERIBIT")
        if wanted.data_type == "TRADE":
            raise Refused("trades are another runner's")
        if wanted.data_type == "TICKER":
            raise Unavailable("the feed is away")
        changed = wanted not in self.wanted
        self.wanted += [wanted] * changed
        return Changed(changed=changed)

    async def stop(self, unwanted: Collection) -> Changed:
        changed = unwanted in self.wanted
        self.wanted = [one for one in self.wanted if one != unwanted]
        return Changed(changed=changed)

    async def list_all(self) -> Collected:
        return Collected(collections=tuple(self.wanted))

    async def stop_all(self) -> Collected:
        stopped, self.wanted = tuple(self.wanted), []
        return Collected(collections=stopped)


@asynccontextmanager
async def serving(handlers: Handlers) -> AsyncIterator[ControlServer]:
    with ControlServer(endpoint=ANY_PORT, handlers=handlers) as server:
        task = asyncio.create_task(server.serve())
        try:
            yield server
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def asking(handlers: Handlers, timeout_s: float = SOON_S) -> AsyncIterator[ControlClient]:
    async with serving(handlers) as server:
        with ControlClient(
            endpoint=Endpoint(address=server.address, key="feeds.spot.control"), timeout_s=timeout_s
        ) as client:
            yield client


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context
        context.destroy(linger=0)


async def reply_to(socket: zmq.Socket[bytes]) -> list[bytes]:
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                return socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                await news(socket)


def index(number: int, symbol: str = "btc_usd") -> PriceIndex:
    return PriceIndex(venue="DERIBIT", symbol=symbol, event_time=number, price=1.0)


async def published(count: int, **how: Any) -> Publisher:
    publisher = Publisher(endpoint=ANY_PORT, **how)
    for number in range(1, count + 1):
        await publisher.publish(index(number))
    return publisher


async def test_collections_are_started_listed_and_stopped() -> None:
    async with asking(collection_handlers(Remembered())) as client:
        assert (await client.list_collections()).collections == ()
        assert await client.start_collection(BTC) == Changed(changed=True)
        assert await client.start_collection(BTC) == Changed(changed=False)
        assert await client.start_collection(ETH) == Changed(changed=True)
        assert (await client.list_collections()).collections == (BTC, ETH)
        assert await client.stop_collection(BTC) == Changed(changed=True)
        assert await client.stop_collection(BTC) == Changed(changed=False)
        assert (await client.stop_all_collections()).collections == (ETH,)
        assert (await client.list_collections()).collections == ()


@pytest.mark.parametrize(
    ("collection", "code", "told"),
    [
        (Collection("OKX", "TICKER", "x"), "UNKNOWN_VENUE", "found OKX, allowed is DERIBIT"),
        (Collection("DERIBIT", "TRADE", "x"), "REFUSED", "another runner's"),
        (Collection("DERIBIT", "KLINE", "x"), "UNKNOWN_DATA_TYPE", "allowed are TRADE, "),
        (Collection("DERIBIT", "CANDLE", "x y"), "BAD_NAME", "without a space"),
    ],
)
async def test_what_a_runner_refuses_comes_with_its_code(
    collection: Collection, code: str, told: str, events: list[str]
) -> None:
    async with asking(collection_handlers(Remembered())) as client:
        with pytest.raises(
            ControlError, match=f"^feeds.spot.control: .* says {code}: .*{told}"
        ) as e:
            await client.start_collection(collection)
        assert e.value.code == code
        with pytest.raises(Unavailable, match="the feed is away"):
            await client.start_collection(Collection("DERIBIT", "TICKER", "x"))
        assert (await client.list_collections()).collections == ()
    assert events.count("CONTROL_REFUSED") == 2


async def test_refusals_of_one_kind_are_few_lines_and_hide_none_of_another(
    events: list[str],
) -> None:
    async with asking(collection_handlers(Fixed([BTC]))) as client:
        for number in range(50):
            with pytest.raises(ControlError, match="UNKNOWN_SYMBOL"):
                await client.start_collection(Collection(BTC.venue, BTC.data_type, f"C{number}"))
        assert events.count("CONTROL_REFUSED") == 3
        with pytest.raises(ControlError, match="UNKNOWN_VENUE"):
            await client.start_collection(Collection("OKX", BTC.data_type, BTC.symbol))
    assert events.count("CONTROL_REFUSED") == 4


async def test_a_client_that_waits_for_each_reply_loses_none(events: list[str]) -> None:
    async with asking(collection_handlers(Fixed([BTC]))) as client:
        for _ in range(1_000):
            assert (await client.list_collections()).collections == (BTC,)
    assert "CONTROL_REPLY_DROPPED" not in events


async def test_a_publisher_that_sends_everything_says_so() -> None:
    collections: Collections = Fixed([BTC, ETH, BTC])
    async with asking(collection_handlers(collections)) as client:
        assert (await client.list_collections()).collections == (BTC, ETH)
        everything = Collection("DERIBIT", "PRICE_INDEX", "*")
        for change in (client.start_collection, client.stop_collection):
            for collection in (BTC, everything):
                answer = await change(collection)
                assert not answer.changed
                assert "sends all that it has" in answer.note
            for wrong, code in (
                (Collection("OKX", "PRICE_INDEX", "btc_usd"), "UNKNOWN_VENUE"),
                (Collection("DERIBIT", "CANDLE", "btc_usd"), "UNKNOWN_DATA_TYPE"),
                (Collection("DERIBIT", "PRICE_INDEX", "btc"), "UNKNOWN_SYMBOL"),
            ):
                with pytest.raises(ControlError, match="allowed here are") as caught:
                    await change(wrong)
                assert caught.value.code == code
        assert (await client.stop_all_collections()).collections == ()
        assert (await client.list_collections()).collections == (BTC, ETH)


async def test_a_runner_says_who_resends_and_a_publisher_who_collects() -> None:
    async with asking(collection_handlers(Remembered())) as client:
        with pytest.raises(ControlError, match="answered by publishers") as caught:
            await client.ask(Sequences(), Positions)
        assert caught.value.code == "NOT_SERVED"
    async with await published(0) as publisher, asking(resend_handlers(publisher)) as client:
        with pytest.raises(ControlError, match="allowed here are Sequences, Resend") as caught:
            await client.start_collection(BTC)
        assert caught.value.code == "NOT_SERVED"


async def test_sequences_come_page_by_page() -> None:
    async with await published(3) as publisher:
        for number in range(2_500):
            await publisher.publish(index(1, f"s{number:04}"))
        async with asking(resend_handlers(publisher)) as client:
            found, after, pages = list[Position](), "", 0
            while True:
                page, _ = await client.ask(Sequences(prefix="DERIBIT:", after=after), Positions)
                assert page.epoch == publisher.epoch
                found += page.topics
                pages += 1
                if page.complete:
                    break
                after = page.topics[-1].topic
            assert (len(found), pages) == (2_501, 3)
            assert [one.topic for one in found] == sorted(one.topic for one in found)
            assert (found[0].topic, found[0].oldest, found[0].last) == (TOPIC.decode(), 1, 3)
            nothing, _ = await client.ask(Sequences(prefix="OKX"), Positions)
            assert (nothing.topics, nothing.complete) == ((), True)


async def test_resend_comes_piece_by_piece_as_it_was_sent() -> None:
    async with await published(2_500) as publisher, asking(resend_handlers(publisher)) as client:

        async def resend(first: int, last: int) -> tuple[Resent, list[bytes]]:
            request = Resend(topic=TOPIC.decode(), epoch=publisher.epoch, first=first, last=last)
            result, frames = await client.ask(request, Resent)
            return result, list(frames)

        result, frames = await resend(1, 9_999)
        assert (result.first, result.last, result.complete) == (1, 1_000, False)
        result, frames = await resend(2_001, 9_999)
        assert (result.first, result.last, result.complete) == (2_001, 2_500, True)
        result, frames = await resend(7, 8)
        assert (result.first, result.last, result.complete) == (7, 8, True)
        assert frames == [
            wire.header(publisher.epoch, 7),
            wire.encode(index(7))[1],
            wire.header(publisher.epoch, 8),
            wire.encode(index(8))[1],
        ]
        result, frames = await resend(2_501, 2_600)
        assert (result.first, result.last, result.complete, frames) == (None, None, True, [])
        for change, code in (
            ({"epoch": publisher.epoch + 1}, "UNKNOWN_EPOCH"),
            ({"topic": "DERIBIT:PRICE_INDEX:btc "}, "UNKNOWN_TOPIC"),
        ):
            good = {"topic": TOPIC.decode(), "epoch": publisher.epoch, "first": 1, "last": 2}
            with pytest.raises(ControlError, match=r"found .*, allowed is") as caught:
                await client.ask(Resend(**good | change), Resent)  # type: ignore[arg-type]  # from a table
            assert caught.value.code == code


async def test_a_reply_is_bounded_in_bytes_but_never_empty() -> None:
    async with Publisher(endpoint=ANY_PORT) as publisher:
        for size in (700_000, 700_000, 2_000_000, 10):
            name = f"s{publisher.sent}"
            await publisher.publish(
                PriceIndex(
                    venue="DERIBIT",
                    symbol="x",
                    event_time=1,
                    price=1.0,
                    producer=name * (size // 2),
                )
            )
        async with asking(resend_handlers(publisher)) as client:
            first, lasts = 1, []
            while first <= 4:
                request = Resend(
                    topic="DERIBIT:PRICE_INDEX:x ", epoch=publisher.epoch, first=first, last=4
                )
                result, frames = await client.ask(request, Resent)
                assert result.first == first
                assert result.last is not None
                assert len(frames) == 2 * (result.last - first + 1)
                lasts.append(result.last)
                first = result.last + 1
            assert lasts == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER])
async def test_any_client_of_zeromq_is_answered_in_its_way(
    kind: int, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    async with await published(2) as publisher, serving(resend_handlers(publisher)) as server:
        with context.socket(kind) as socket:
            socket.connect(server.address)
            socket.send(b'{"request": "Sequences", "id": "4"}')
            (reply,) = await reply_to(socket)
            assert json.loads(reply) == {
                "reply": "Sequences",
                "id": "4",
                "ok": True,
                "result": {
                    "epoch": publisher.epoch,
                    "topics": [{"topic": TOPIC.decode(), "oldest": 1, "last": 2}],
                    "complete": True,
                },
            }
            request = {"request": "Resend", "topic": TOPIC.decode(), "from": 1, "to": 2}
            socket.send(json.dumps(request | {"epoch": publisher.epoch}).encode())
            reply, *frames = await reply_to(socket)
            assert json.loads(reply)["id"] == ""
            assert len(frames) == 4


@pytest.mark.parametrize(
    ("frames", "code", "id_"),
    [
        ([b""], "BAD_REQUEST", None),
        ([b"GET / HTTP/1.1"], "BAD_REQUEST", None),
        ([b"{}"], "BAD_REQUEST", None),
        ([b"x" * 60_000], "BAD_REQUEST", None),
        ([b'{"request": "ListCollections"}', b""], "BAD_REQUEST", None),
        ([b'{"request": "ListCollections"}'] * 1_000, "BAD_REQUEST", None),
        ([b'{"request": "Shutdown", "id": "9"}'], "UNKNOWN_REQUEST", "9"),
        ([b'{"request": "StartCollection", "id": "9", "venue": 1}'], "BAD_REQUEST", "9"),
    ],
    ids=["empty", "http", "no name", "large", "two frames", "many", "unknown", "types"],
)
async def test_bad_requests_are_answered_and_the_next_is_too(
    frames: list[bytes], code: str, id_: str | None, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    async with serving(collection_handlers(Fixed([BTC]))) as server:
        with context.socket(zmq.DEALER) as socket:
            socket.connect(server.address)
            socket.send_multipart(frames)
            (reply,) = await reply_to(socket)
            failure = json.loads(reply)
            assert (failure["ok"], failure["error"]["code"], failure["id"]) == (False, code, id_)
            assert "allowed" in failure["error"]["reason"] or "found" in failure["error"]["reason"]
            assert "result" not in failure
            socket.send(b'{"request": "ListCollections"}')
            (reply,) = await reply_to(socket)
            assert json.loads(reply)["ok"] is True


async def test_a_frame_above_the_limit_costs_its_connection(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    async with serving(collection_handlers(Fixed([BTC]))) as server:
        with context.socket(zmq.DEALER) as large, context.socket(zmq.DEALER) as good:
            monitor = large.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            large.connect(server.address)
            good.connect(server.address)
            large.send(b"x" * 65_537)
            async with asyncio.timeout(SOON_S):
                while not monitor.poll(0):  # noqa: ASYNC110  # a socket of another library
                    await asyncio.sleep(0.01)
            large.disable_monitor()
            monitor.close()
            good.send(b'{"request": "ListCollections"}')
            (reply,) = await reply_to(good)
            assert json.loads(reply)["ok"] is True
