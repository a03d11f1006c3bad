"""Nothing is lost on the wire: what went by while nobody listened is had again, and what is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import zmq

from ravenwh.domain.errors import Unavailable
from ravenwh.domain.messages import PriceIndex
from ravenwh.feed import wire
from ravenwh.feed.collecting import Fixed, collection_handlers
from ravenwh.feed.control import Collection
from ravenwh.feed.control_client import ControlClient
from ravenwh.feed.control_server import ControlServer
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.resender import FeedResender
from ravenwh.feed.resending import resend_handlers
from ravenwh.feed.ring import MESSAGE_BYTES
from ravenwh.feed.subscriber import Upstream, ZmqSource
from ravenwh.ports import Frame, Resender
from tests.feed.tcp import Cable

pytestmark = pytest.mark.usefixtures("no_socket_left")

SOON_S = 60.0
ANY_PORT = Endpoint(address="tcp://127.0.0.1:0", mode="bind")
TOPIC = wire.topic("DERIBIT", "PRICE_INDEX", "btc_usd")
EACH = len(
    wire.encode(PriceIndex(venue="DERIBIT", symbol="btc_usd", event_time=2**40, price=1.0))[1]
)


def index(number: int, symbol: str = "btc_usd") -> PriceIndex:
    """Messages of equal size, so that a ring holds a known number of them."""
    return PriceIndex(venue="DERIBIT", symbol=symbol, event_time=2**40 + number, price=1.0)


def numbers(frames: list[Frame]) -> list[int]:
    return [wire.parse_header(frame.header).seq for frame in frames]


@asynccontextmanager
async def published(at: str = "tcp://127.0.0.1:0", **how: Any) -> AsyncIterator[Publisher]:
    async with Publisher(endpoint=Endpoint(address=at, mode="bind"), **how) as publisher:
        yield publisher


@asynccontextmanager
async def answering(publisher: Publisher, at: str = "tcp://127.0.0.1:0") -> AsyncIterator[str]:
    """The control endpoint of a publisher."""
    endpoint = Endpoint(address=at, mode="bind")
    with ControlServer(endpoint=endpoint, handlers=resend_handlers(publisher)) as server:
        task = asyncio.create_task(server.serve())
        try:
            yield server.address
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def client_of(address: str, timeout_s: float = SOON_S) -> ControlClient:
    return ControlClient(
        endpoint=Endpoint(address=address, key="feeds.spot.control"), timeout_s=timeout_s
    )


def resender_of(client: ControlClient, *wanted: bytes) -> Resender:
    return FeedResender(clients={"spot": client}, wanted=lambda _: wanted or (TOPIC,))


async def all_of(resender: Resender, epoch: int, first: int, last: int) -> list[Frame]:
    """What comes of a range, asked for until no more comes."""
    frames: list[Frame] = []
    while first <= last and (more := await resender.resend("spot", TOPIC, epoch, first, last)):
        frames += more
        first = numbers(more)[-1] + 1
    return frames


def listening(address: str, topics: tuple[bytes, ...] = (TOPIC,)) -> ZmqSource:
    endpoint = Endpoint(address=address)
    return ZmqSource(upstreams=[Upstream(feed="spot", endpoint=endpoint, topics=topics)])


async def received(source: ZmqSource, last: int) -> list[Frame]:
    """What arrives, up to the message of this number."""
    frames: list[Frame] = []
    async with asyncio.timeout(SOON_S):
        while not frames or numbers(frames)[-1] != last:
            frames += await source.receive(1_000)
    return frames


async def test_what_was_published_while_the_connection_was_cut_is_had_again() -> None:
    connected, disconnected = asyncio.Queue[str](), asyncio.Queue[str]()
    async with published() as publisher, answering(publisher) as control, Cable() as cable:
        address = await cable.to(publisher.address)
        with listening(address) as source, client_of(control) as client:
            source.watch(connected=connected.put_nowait, disconnected=disconnected.put_nowait)
            resender = FeedResender(clients={"spot": client}, wanted=source.wanted)
            assert await resender.positions("spot") == {}  # nothing was published yet
            receiving = asyncio.create_task(received(source, 10))
            assert await asyncio.wait_for(connected.get(), SOON_S) == "spot"
            await publisher.wait_for_subscribers([TOPIC], timeout_s=SOON_S)
            for number in range(1, 11):
                await publisher.publish(index(number))
            assert numbers(await receiving) == list(range(1, 11))

            await cable.cut()
            assert await asyncio.wait_for(disconnected.get(), SOON_S) == "spot"
            while publisher.subscriptions:
                with pytest.raises(Unavailable):
                    await publisher.wait_for_subscribers([b"nobody"], timeout_s=0.01)
            for number in range(11, 3_001):
                await publisher.publish(index(number))
            receiving = asyncio.create_task(received(source, 3_001))
            await cable.mend()
            assert await asyncio.wait_for(connected.get(), SOON_S) == "spot"
            await publisher.wait_for_subscribers([TOPIC], timeout_s=SOON_S)
            await publisher.publish(index(3_001))
            assert numbers(await receiving) == [3_001]

            position = (publisher.epoch, 1, 3_001)
            assert await resender.positions("spot") == {TOPIC: position}
            frames = await all_of(resender, publisher.epoch, 11, 3_000)
    assert numbers(frames) == list(range(11, 3_001))
    assert [wire.decode(frame) for frame in frames] == [index(n) for n in range(11, 3_001)]
    assert {(frame.feed, frame.topic) for frame in frames} == {("spot", TOPIC)}


async def test_a_ring_that_was_outrun_gives_what_it_has() -> None:
    room = 100 * (EACH + MESSAGE_BYTES)
    async with published(ring_bytes=room) as publisher, answering(publisher) as control:
        with client_of(control) as client:
            resender = resender_of(client)
            for number in range(1, 1_001):
                await publisher.publish(index(number))
            assert await resender.positions("spot") == {TOPIC: (publisher.epoch, 901, 1_000)}
            frames = await all_of(resender, publisher.epoch, 11, 1_000)
            assert numbers(frames) == list(range(901, 1_001))
            assert await resender.resend("spot", TOPIC, publisher.epoch, 11, 900) == []
            assert await resender.resend("spot", TOPIC, publisher.epoch, 1_001, 2_000) == []


async def test_a_publisher_that_starts_again_has_nothing_of_the_epoch_before() -> None:
    async with published() as first, answering(first) as control:
        await first.publish(index(1))
        client = client_of(control)
        resender = resender_of(client)
        assert numbers(await resender.resend("spot", TOPIC, first.epoch, 1, 1)) == [1]
    with client:
        async with published() as second, answering(second, at=control):
            assert await resender.positions("spot") == {}  # the same client finds the new one
            assert await resender.resend("spot", TOPIC, second.epoch, 1, 1) == []
            await second.publish(index(2))
            assert await resender.positions("spot") == {TOPIC: (second.epoch, 1, 1)}
            assert await resender.resend("spot", TOPIC, first.epoch, 1, 1) == []
            (frame,) = await resender.resend("spot", TOPIC, second.epoch, 1, 1)
            assert wire.decode(frame) == index(2)


async def test_only_what_is_wanted_is_told() -> None:
    async with published() as publisher, answering(publisher) as control:
        symbols = ["btc", "btc_usd", "eth_usd", *(f"s{number:04}" for number in range(1_500))]
        for symbol in symbols:
            await publisher.publish(index(1, symbol))
        await publisher.publish(
            PriceIndex(venue="DERIBIT_TEST", symbol="x", event_time=1, price=1.0)
        )
        with client_of(control) as client:

            async def told(*wanted: bytes) -> int:
                return len(await resender_of(client, *wanted).positions("spot"))

            assert await told(TOPIC) == 1
            assert await told(TOPIC, wire.topic("DERIBIT", "PRICE_INDEX", "x")) == 1
            assert await told(b"DERIBIT:PRICE_INDEX:") == 1_503
            assert await told(b"DERIBIT:PRICE_INDEX:", b"DERIBIT_TEST:PRICE_INDEX:") == 1_504
            assert await told(b"") == 1_504
            nobody = FeedResender(clients={"spot": client}, wanted=lambda _: ())
            assert await nobody.positions("spot") == {}


async def test_where_nobody_can_be_asked() -> None:
    resender = FeedResender(clients={}, wanted=lambda _: (TOPIC,))
    assert await resender.positions("spot") == {}
    assert await resender.resend("spot", TOPIC, 1, 1, 2) == []


async def test_where_nobody_answers_and_then_somebody_does() -> None:
    async with published() as publisher:
        async with answering(publisher) as address:
            pass
        with client_of(address, timeout_s=0.2) as client:
            resender = resender_of(client)
            for _ in range(2):
                with pytest.raises(
                    Unavailable, match=r"^feeds.spot.control: nobody answered at tcp"
                ):
                    await resender.positions("spot")
            with pytest.raises(Unavailable, match="nobody answered"):
                await resender.resend("spot", TOPIC, 1, 1, 2)
            async with answering(publisher, at=address):
                async with asyncio.timeout(SOON_S):
                    while True:
                        try:
                            assert await resender.positions("spot") == {}
                            break
                        except Unavailable:  # so short a timeout may be over before it is connected
                            continue


@asynccontextmanager
async def liar(
    *replies: Callable[[dict[str, Any]], list[bytes]], timeout_s: float = SOON_S
) -> AsyncIterator[Resender]:
    """A resender whose publisher answers each request as the next of these says."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")

        def answer() -> None:
            while socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                client, request = socket.recv_multipart()
                socket.send_multipart([client, *left.pop(0)(json.loads(request))])

        left = list(replies)
        loop = asyncio.get_running_loop()
        loop.add_reader(socket.fileno(), answer)
        try:
            with client_of(f"tcp://127.0.0.1:{port}", timeout_s=timeout_s) as client:
                yield resender_of(client)
        finally:
            loop.remove_reader(socket.fileno())
            context.destroy(linger=0)


def said(request: dict[str, Any], result: object = None, **more: object) -> bytes:
    reply = {"reply": request["request"], "id": request["id"], "ok": True, "result": result}
    return json.dumps(reply | more).encode()


def resent(first: int, last: int) -> dict[str, object]:
    topic = TOPIC.decode()
    return {"epoch": 7, "topic": topic, "first": first, "last": last, "complete": True}


def pieces(*seqs: int, epoch: int = 7) -> list[bytes]:
    return [part for seq in seqs for part in (wire.header(epoch, seq), b"x")]


@pytest.mark.parametrize(
    "reply",
    [
        lambda request: [b"no JSON"],
        lambda request: [b"[]"],
        lambda request: [said(request, {"epoch": "now"})],
        lambda request: [said(request, resent(1, 3)), *pieces(1, 2)],
        lambda request: [said(request, resent(1, 2)), *pieces(1, 2)[:-1]],
        lambda request: [said(request, resent(1, 2)), *pieces(1, 3)],
        lambda request: [said(request, resent(1, 2)), *pieces(1, 2, epoch=8)],
        lambda request: [said(request, resent(1, 4)), *pieces(1, 2, 3, 4)],
        lambda request: [said(request, resent(2, 1))],
        lambda request: [said(request, resent(1, 2**62)), *pieces(1)],
    ],
)
async def test_an_answer_that_cannot_be_right_is_not_taken(
    reply: Callable[[dict[str, Any]], list[bytes]],
) -> None:
    async with liar(reply, lambda r: [said(r, resent(1, 2)), *pieces(1, 2)]) as resender:
        with pytest.raises(Unavailable, match="answers what is no reply") as caught:
            await resender.resend("spot", TOPIC, 7, 1, 3)
        assert caught.value.needs_person
        assert numbers(await resender.resend("spot", TOPIC, 7, 1, 3)) == [1, 2]


async def test_a_reply_to_another_request_is_passed_over() -> None:
    def twice(request: dict[str, Any]) -> list[bytes]:
        return [said(request | {"id": "another's"}, resent(1, 1)), *pieces(1)]

    replies = (twice, lambda r: [said(r, resent(1, 2)), *pieces(1, 2)])
    async with liar(*replies, timeout_s=3.0) as resender:
        with pytest.raises(Unavailable, match="nobody answered"):
            await resender.resend("spot", TOPIC, 7, 1, 3)
        assert numbers(await resender.resend("spot", TOPIC, 7, 1, 3)) == [1, 2]


async def test_pages_without_end_are_not_followed() -> None:
    def page(request: dict[str, Any]) -> list[bytes]:
        topics = [{"topic": f"x{n}", "oldest": 1, "last": 1} for n in range(1_000)]
        return [said(request, {"epoch": 7, "topics": topics, "complete": False})]

    async with liar(*[page] * 100) as resender:
        with pytest.raises(Unavailable, match="topics, and no end of them"):
            await resender.positions("spot")


async def test_a_publisher_that_starts_again_between_two_pages_is_asked_again() -> None:
    def page(epoch: int) -> Callable[[dict[str, Any]], list[bytes]]:
        topics = [{"topic": TOPIC.decode(), "oldest": 1, "last": epoch}]
        return lambda request: [
            said(request, {"epoch": epoch, "topics": topics, "complete": epoch > 7})
        ]

    async with liar(page(7), page(8), page(8)) as resender:
        with pytest.raises(Unavailable, match="started again"):
            await resender.positions("spot")
        assert await resender.positions("spot") == {TOPIC: (8, 1, 8)}


async def test_who_cannot_resend_is_for_a_person_and_loses_nothing() -> None:
    fixed = Fixed([Collection("DERIBIT", "PRICE_INDEX", "btc_usd")])
    with ControlServer(endpoint=ANY_PORT, handlers=collection_handlers(fixed)) as runner:
        task = asyncio.create_task(runner.serve())
        with client_of(runner.address) as client:
            resender = resender_of(client)
            for asked in (resender.positions("spot"), resender.resend("spot", TOPIC, 7, 1, 1)):
                with pytest.raises(Unavailable, match="NOT_SERVED") as caught:
                    await asked
                assert caught.value.needs_person
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_requests_of_several_tasks_and_cancelled_ones_each_get_their_own_answer() -> None:
    async with published() as publisher, answering(publisher) as control:
        for number in range(1, 101):
            await publisher.publish(index(number))
        with client_of(control) as client:
            resender = resender_of(client)

            async def one(number: int) -> list[int]:
                return numbers(
                    await resender.resend("spot", TOPIC, publisher.epoch, number, number)
                )

            tasks = [asyncio.create_task(one(number)) for number in range(1, 101)]
            for number, task in enumerate(tasks, 1):
                if number % 7 == 0:
                    await asyncio.sleep(0)
                    task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
    for number, result in enumerate(results, 1):
        assert result == [number] or (
            number % 7 == 0 and isinstance(result, asyncio.CancelledError)
        )


async def test_a_topic_that_no_raven_publisher_has() -> None:
    async with published() as publisher, answering(publisher) as control:
        with client_of(control) as client:
            assert await resender_of(client).resend("spot", b"\xff ", 7, 1, 1) == []
