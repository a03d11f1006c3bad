"""Source and publisher on real sockets: order, back-pressure, reconnects, cancellation, ends."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
import zmq
from loguru import logger

from ravenwh.domain.errors import DecodeError, Refused, Rejected, SettingsError, Unavailable
from ravenwh.domain.messages import PriceIndex
from ravenwh.feed import wire
from ravenwh.feed.endpoint import Endpoint, Mode
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.subscriber import Upstream, ZmqSource
from ravenwh.ports import Frame

pytestmark = pytest.mark.usefixtures("no_socket_left")

SOON_S = 60.0  # far more than anything here takes; what hangs fails
ANY_PORT = Endpoint(address="tcp://127.0.0.1:0", mode="bind")
Raw = zmq.Socket[bytes]


def index(number: int, symbol: str = "btc_usd") -> PriceIndex:
    return PriceIndex(venue="DERIBIT", symbol=symbol, event_time=number, price=float(number))


def topic_of(symbol: str = "btc_usd") -> bytes:
    return wire.topic("DERIBIT", "PRICE_INDEX", symbol)


def upstream(address: str, *symbols: str, feed: str = "spot", rcvhwm: int = 1000) -> Upstream:
    return Upstream(
        feed=feed,
        endpoint=Endpoint(address=address),
        topics=wire.subscriptions("PRICE_INDEX", {"DERIBIT": symbols or ("btc_usd",)}),
        rcvhwm=rcvhwm,
        max_frame_bytes=100_000,
    )


def listening(address: str, *symbols: str, rcvhwm: int = 1000) -> ZmqSource:
    return ZmqSource(upstreams=[upstream(address, *symbols, rcvhwm=rcvhwm)])


async def frames_of(source: ZmqSource, count: int, limit: int = 1000) -> list[Frame]:
    frames: list[Frame] = []
    async with asyncio.timeout(SOON_S):
        while len(frames) < count:
            batch = await source.receive(min(limit, count - len(frames)))
            assert 1 <= len(batch) <= limit
            frames += batch
    return frames


def numbers(frames: Sequence[Frame]) -> list[int]:
    return [wire.parse_header(frame.header).seq for frame in frames]


async def subscribed(raw: Raw, topic: bytes) -> None:
    await until(lambda: raw.poll(0) != 0 and raw.recv() == b"\x01" + topic)


async def until(condition: Callable[[], bool]) -> None:
    """Wait, bounded, for what ZeroMQ's own thread brings about."""
    async with asyncio.timeout(SOON_S):
        while not condition():  # noqa: ASYNC110  # nothing there could set an event of ours
            await asyncio.sleep(0.01)


async def fill(publisher: Publisher) -> asyncio.Task[None]:
    """A task that publishes until it must wait for room; it is waiting when this returns."""

    async def publish() -> None:
        while True:
            await publisher.publish(index(publisher.sent + 1))

    task = asyncio.create_task(publish(), name="fill")
    looks, sent = 0, -1
    while looks < 5:  # at each of them ZeroMQ's own thread had time to make room, if there were any
        looks, sent = (looks + 1, sent) if sent == publisher.sent else (0, publisher.sent)
        await asyncio.sleep(0.1)
    assert not task.done()
    return task


async def cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_frames_come_whole_and_in_order() -> None:
    before = time.time_ns()
    async with Publisher(endpoint=ANY_PORT) as publisher:
        with listening(publisher.address, "btc_usd", "eth_usd") as source:
            await publisher.wait_for_subscribers(
                [topic_of("btc_usd"), topic_of("eth_usd")], timeout_s=SOON_S
            )

            async def publish() -> None:
                for number in range(1, 10_001):
                    await publisher.publish(index(number))
                    await publisher.publish(index(number, "eth_usd"))

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(publish())
                frames = await frames_of(source, 20_000, limit=777)

        assert publisher.sent == 20_000
        for symbol in ("btc_usd", "eth_usd"):
            mine = [frame for frame in frames if frame.topic == topic_of(symbol)]
            assert numbers(mine) == list(range(1, 10_001))
            assert [wire.decode(frame) for frame in mine] == [
                index(number, symbol) for number in range(1, 10_001)
            ]
        assert {wire.parse_header(frame.header).epoch for frame in frames} == {publisher.epoch}
        assert before <= publisher.epoch <= frames[0].received_at
        received = [frame.received_at for frame in frames]
        assert received == sorted(received)
        assert received[-1] <= time.time_ns()
        assert {frame.feed for frame in frames} == {"spot"}


async def test_an_exact_subscription_never_matches_a_longer_symbol() -> None:
    async with Publisher(endpoint=ANY_PORT) as publisher:
        with listening(publisher.address, "BTCUSD") as source:
            await publisher.wait_for_subscribers([topic_of("BTCUSD")], timeout_s=SOON_S)
            for symbol in ("BTCUSDT", "BTCUSD_PERP", "BTC", "BTCUSD-1", "BTCUSD"):
                await publisher.publish(index(1, symbol))
            (frame,) = await frames_of(source, 1)
            assert frame.topic == topic_of("BTCUSD")


async def test_a_prefix_brings_all_symbols_of_one_venue_and_type() -> None:
    async with Publisher(endpoint=ANY_PORT) as publisher:
        everything = Upstream(
            feed="spot",
            endpoint=Endpoint(address=publisher.address),
            topics=wire.subscriptions("PRICE_INDEX", {"DERIBIT": None}),
        )
        with ZmqSource(upstreams=[everything]) as source:
            await publisher.wait_for_subscribers([topic_of("x"), topic_of("y")], timeout_s=SOON_S)
            other = PriceIndex(venue="DERIBIT_TEST", symbol="x", event_time=1, price=1.0)
            for message in (other, index(1, "x"), index(1, "y")):
                await publisher.publish(message)
            frames = await frames_of(source, 2)
            assert [frame.topic for frame in frames] == [topic_of("x"), topic_of("y")]


async def test_a_slow_subscriber_loses_nothing() -> None:
    total = 100_000
    async with Publisher(endpoint=ANY_PORT, sndhwm=10) as publisher:
        with listening(publisher.address, rcvhwm=10) as source:
            await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)

            async def publish() -> None:
                for number in range(publisher.sent + 1, total + 1):
                    await publisher.publish(index(number))

            await cancel(await fill(publisher))
            held_up_at = publisher.sent
            assert held_up_at < total  # queues and buffers are full: a PUB socket would drop now

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(publish())
                frames = await frames_of(source, total, limit=100)
    assert numbers(frames) == list(range(1, total + 1))


async def test_a_subscriber_that_is_gone_holds_nobody_up() -> None:
    async with Publisher(endpoint=ANY_PORT, sndhwm=10) as publisher:
        with listening(publisher.address, rcvhwm=10) as gone:
            await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)
            task = await fill(publisher)
            gone.close()
        sent = publisher.sent
        await until(lambda: publisher.sent > sent + 1000)
        await cancel(task)
        await until(lambda: not publisher.subscriptions)


async def test_a_cancelled_publish_sends_nothing() -> None:
    async with Publisher(endpoint=ANY_PORT, sndhwm=10) as publisher:
        with listening(publisher.address, rcvhwm=10) as source:
            await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)
            await cancel(await fill(publisher))
            sent = publisher.sent
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(publisher.publish(index(-1)), 0.01)
            assert publisher.sent == sent

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(publisher.publish(index(sent + 1)))
                frames = await frames_of(source, sent + 1)
    assert [wire.decode(frame) for frame in frames] == [index(n) for n in range(1, sent + 2)]
    assert numbers(frames) == list(range(1, sent + 2))


async def test_tasks_that_publish_at_once_share_the_numbers() -> None:
    async with Publisher(endpoint=ANY_PORT, sndhwm=5) as publisher:
        with listening(publisher.address, rcvhwm=5) as source:
            await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)

            async def publish(writer: int) -> None:
                for number in range(5_000):
                    await publisher.publish(index(writer * 5_000 + number))

            async with asyncio.TaskGroup() as tasks:
                for writer in range(4):
                    tasks.create_task(publish(writer))
                frames = await frames_of(source, 20_000, limit=50)
    assert numbers(frames) == list(range(1, 20_001))
    assert sorted(wire.decode(frame).event_time for frame in frames) == list(range(20_000))


async def test_a_cancelled_receive_loses_nothing() -> None:
    rng = random.Random(7)
    total = 20_000
    frames: list[Frame] = []
    cancelled = 0
    async with Publisher(endpoint=ANY_PORT) as publisher:
        with listening(publisher.address) as source:
            await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)

            async def publish() -> None:
                for number in range(1, total + 1):
                    await publisher.publish(index(number))
                    if rng.random() < 0.05:
                        await asyncio.sleep(rng.choice([0, 0, 0.001]))

            async with asyncio.TaskGroup() as tasks, asyncio.timeout(SOON_S):
                tasks.create_task(publish())
                while len(frames) < total:
                    receiving = asyncio.create_task(source.receive(rng.randint(1, 20)))
                    for _ in range(rng.randint(0, 3)):
                        await asyncio.sleep(0)
                    if rng.random() < 0.5:
                        receiving.cancel()
                    try:
                        frames += await receiving
                    except asyncio.CancelledError:
                        cancelled += 1
    assert cancelled > 100
    assert numbers(frames) == list(range(1, total + 1))


@pytest.mark.parametrize("late", ["publisher", "source"])
async def test_either_side_may_bind_and_either_may_come_late(late: str) -> None:
    async with Publisher(endpoint=ANY_PORT) as probe:
        address = probe.address  # free once the probe is closed
    here = Upstream(
        feed="spot",
        endpoint=Endpoint(address=address, mode="bind"),
        topics=(topic_of(),),
    )
    there = Endpoint(address=address, mode="connect")
    if late == "publisher":
        source, publisher = ZmqSource(upstreams=[here]), Publisher(endpoint=there)
    else:
        publisher, source = Publisher(endpoint=there), ZmqSource(upstreams=[here])
    async with publisher:
        with source:
            assert source.addresses == {"spot": address}
            await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)
            await publisher.publish(index(1))
            assert numbers(await frames_of(source, 1)) == [1]


async def test_nobody_subscribes() -> None:
    async with Publisher(endpoint=ANY_PORT) as publisher:
        with listening(publisher.address, "eth_usd"):
            await publisher.wait_for_subscribers([topic_of("eth_usd")], timeout_s=SOON_S)
            with pytest.raises(
                Unavailable, match=r"nobody subscribed to DERIBIT\S+:btc_usd at tcp"
            ):
                await publisher.wait_for_subscribers(
                    [topic_of("eth_usd"), topic_of("btc_usd")], timeout_s=0.5
                )
            assert publisher.subscriptions == {topic_of("eth_usd")}


async def test_subscriptions_change_while_it_runs() -> None:
    async with Publisher(endpoint=ANY_PORT) as publisher:
        with listening(publisher.address, "btc_usd") as source:
            await publisher.wait_for_subscribers([topic_of("btc_usd")], timeout_s=SOON_S)
            source.subscribe("spot", topic_of("eth_usd"))
            await publisher.wait_for_subscribers([topic_of("eth_usd")], timeout_s=SOON_S)
            source.unsubscribe("spot", topic_of("btc_usd"))
            await until(lambda: publisher.subscriptions == {topic_of("eth_usd")})
            await publisher.publish(index(1, "btc_usd"))
            await publisher.publish(index(1, "eth_usd"))
            (frame,) = await frames_of(source, 1)
            assert frame.topic == topic_of("eth_usd")
            with pytest.raises(SettingsError, match="found 'futures', allowed are spot"):
                source.subscribe("futures", topic_of())


async def test_a_subscriber_is_seen_while_another_holds_the_publisher_up() -> None:
    async with Publisher(endpoint=ANY_PORT, sndhwm=10) as publisher:
        with listening(publisher.address, rcvhwm=10):
            await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)
            task = await fill(publisher)
            waiting = asyncio.create_task(
                publisher.wait_for_subscribers([topic_of("eth_usd")], timeout_s=SOON_S)
            )
            await asyncio.sleep(0)
            with listening(publisher.address, "eth_usd"):
                await waiting
            await cancel(task)


async def test_what_is_no_three_frames_comes_too(raw: Raw) -> None:
    topic, payload = wire.encode(index(1))
    good = [topic, wire.header(1, 1), payload]
    sent = [
        good,
        [topic],
        good,
        good[:2],
        [topic, b""],
        good,
        [*good, b""],
        [*good, b"one", b"two"],
        good,
        [topic, b"", b""],
        [topic, wire.header(1, 1), b""],
        good,
    ]
    port = raw.bind_to_random_port("tcp://127.0.0.1")
    with listening(f"tcp://127.0.0.1:{port}") as source:
        await subscribed(raw, topic)
        for parts in sent:
            raw.send_multipart(parts)
        frames = await frames_of(source, len(sent))

    for parts, frame in zip(sent, frames, strict=True):
        kept = b"".join((frame.topic, frame.header, frame.payload))
        assert all(part in kept for part in parts)  # a dead letter shows all that came
        if parts is good:
            assert wire.decode(frame) == index(1)
        else:
            with pytest.raises(DecodeError):
                wire.decode(frame)


@pytest.mark.parametrize("mode", ["connect", "bind"])
async def test_a_frame_above_the_limit_costs_its_connection_and_no_more(
    mode: Mode, raw: Raw, events: list[str]
) -> None:
    topic, payload = wire.encode(index(1))
    if mode == "connect":
        here = Endpoint(address=f"tcp://127.0.0.1:{raw.bind_to_random_port('tcp://127.0.0.1')}")
    else:
        here = ANY_PORT
    feed = Upstream(feed="spot", endpoint=here, topics=(topic,), max_frame_bytes=100_000)
    with ZmqSource(upstreams=[feed]) as source:
        if mode == "bind":
            raw.connect(source.addresses["spot"])
        receiving = asyncio.create_task(frames_of(source, 3))
        for seq in (1, 2, 3):
            await subscribed(raw, topic)
            raw.send_multipart([topic, wire.header(1, seq), payload])
            if seq < 3:
                raw.send_multipart([topic, wire.header(1, 0), b"x" * 100_001])
        assert numbers(await receiving) == [1, 2, 3]
        await until(lambda: events.count("FEED_CONNECTED") == 3)
    assert events.count("FEED_DISCONNECTED") >= 2
    assert events.count("FEED_ATTACHED_AGAIN") == (2 if mode == "connect" else 0)


async def test_a_publisher_that_starts_again_is_found(events: list[str]) -> None:
    async with Publisher(endpoint=ANY_PORT) as first:
        source = listening(first.address)
        await first.wait_for_subscribers([topic_of()], timeout_s=SOON_S)
        await first.publish(index(1))
        frames = await frames_of(source, 1)
    with source:
        receiving = asyncio.create_task(frames_of(source, 1))
        again = Endpoint(address=first.address, mode="bind")
        async with Publisher(endpoint=again) as second:
            await second.wait_for_subscribers([topic_of()], timeout_s=SOON_S)
            await second.publish(index(2))
            frames += await receiving
    headers = [wire.parse_header(frame.header) for frame in frames]
    assert headers == [(first.epoch, 1), (second.epoch, 1)]
    assert first.epoch < second.epoch
    assert "FEED_ATTACHED_AGAIN" not in events  # ZeroMQ does this by itself


async def test_a_publisher_that_ends_is_no_warning() -> None:
    lines: list[tuple[str, str]] = []
    sink = logger.add(
        lambda line: lines.append((line.record["level"].name, line.record["message"]))
    )
    gone, came = list[str](), list[str]()
    try:
        async with Publisher(endpoint=ANY_PORT) as publisher:
            source = listening(publisher.address)
            source.watch(connected=came.append, disconnected=gone.append)
            await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)
        with source:
            await until(lambda: gone == ["spot"])
    finally:
        logger.remove(sink)
    assert came == ["spot"]
    assert lines == [("INFO", "FEED_CONNECTED"), ("INFO", "FEED_DISCONNECTED")]


async def test_what_is_wanted_is_told_and_may_be_said_twice() -> None:
    async with Publisher(endpoint=ANY_PORT) as publisher:
        with listening(publisher.address, "btc_usd") as source:
            assert source.wanted("spot") == {topic_of("btc_usd")}
            for _ in range(2):
                source.subscribe("spot", topic_of("eth_usd"))
            assert source.wanted("spot") == {topic_of("btc_usd"), topic_of("eth_usd")}
            await publisher.wait_for_subscribers([topic_of("eth_usd")], timeout_s=SOON_S)
            for _ in range(2):
                source.unsubscribe("spot", topic_of("eth_usd"))
            assert source.wanted("spot") == {topic_of("btc_usd")}
            async with asyncio.timeout(SOON_S):
                while publisher.subscriptions != {topic_of("btc_usd")}:
                    # A publisher that does nothing reads nothing of what subscribers say.
                    await publisher.wait_for_subscribers([topic_of("btc_usd")], timeout_s=SOON_S)
                    await asyncio.sleep(0.01)


async def test_full_feeds_take_turns_and_leave_turns_to_other_tasks() -> None:
    async with Publisher(endpoint=ANY_PORT) as one, Publisher(endpoint=ANY_PORT) as two:
        feeds = [upstream(one.address, feed="one"), upstream(two.address, feed="two")]
        with ZmqSource(upstreams=feeds) as source:
            assert source.addresses == {"one": one.address, "two": two.address}
            for publisher in (one, two):
                await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)
                await cancel(await fill(publisher))  # so the queue at our end is full too
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            other_task = asyncio.create_task(other())
            batches = [await source.receive(10) for _ in range(20)]
            await cancel(other_task)
    assert [[frame.feed for frame in batch] for batch in batches] == [
        ["one"] * 10,
        ["two"] * 10,
    ] * 10
    assert turns >= 20


async def test_close_delivers_what_is_queued() -> None:
    publisher = Publisher(endpoint=ANY_PORT, sndhwm=10_000)
    with listening(publisher.address, rcvhwm=10) as source:
        await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)
        await cancel(await fill(publisher))
        closing = asyncio.create_task(publisher.close(linger_s=SOON_S))
        frames = await frames_of(source, publisher.sent)
        await closing
        await publisher.close()
    assert numbers(frames) == list(range(1, publisher.sent + 1))
    assert publisher.sent > 10_000


async def test_close_does_not_wait_for_ever(events: list[str]) -> None:
    publisher = Publisher(endpoint=ANY_PORT, sndhwm=10)
    with listening(publisher.address, rcvhwm=10):
        await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)
        await cancel(await fill(publisher))
        start = time.monotonic()
        await publisher.close(linger_s=0.3)
        assert 0.3 <= time.monotonic() - start < SOON_S
    assert events.count("PUBLISHER_LINGER_OVER") == 1


async def test_after_close_there_is_nothing_more() -> None:
    publisher = Publisher(endpoint=ANY_PORT)
    source = listening(publisher.address)
    receiving = asyncio.create_task(source.receive(1))
    waiting = asyncio.create_task(
        publisher.wait_for_subscribers([topic_of("nobody's")], timeout_s=SOON_S)
    )
    for _ in range(3):
        await asyncio.sleep(0)
    source.close()
    source.close()
    await publisher.close()
    with pytest.raises(Refused, match="closed"):  # in the wait, or on its way there
        await receiving
    with pytest.raises(Refused, match="closed"):
        await waiting
    with pytest.raises(Refused, match="closed"):
        await source.receive(1)
    with pytest.raises(Refused, match="closed"):
        await publisher.publish(index(1))
    assert publisher.sent == 0


async def test_a_publish_that_waits_ends_with_the_publisher() -> None:
    publisher = Publisher(endpoint=ANY_PORT, sndhwm=10)
    with listening(publisher.address, rcvhwm=10):
        await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)
        filling = await fill(publisher)
        second = asyncio.create_task(publisher.publish(index(1)))
        await asyncio.sleep(0)
        await publisher.close(linger_s=0)
        for task in (filling, second):
            with pytest.raises(Refused, match="closed"):
                await task


async def test_what_cannot_be_encoded_uses_up_no_number() -> None:
    async with Publisher(endpoint=ANY_PORT) as publisher:
        with listening(publisher.address) as source:
            await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)
            with pytest.raises(Rejected):
                await publisher.publish(index(2**63))
            with pytest.raises(Rejected):
                await publisher.publish(index(1, "btc usd"))
            await publisher.publish(index(1))
            assert numbers(await frames_of(source, 1)) == [1]
            assert publisher.sent == 1


async def test_one_task_receives_from_a_source() -> None:
    async with Publisher(endpoint=ANY_PORT) as publisher:
        with listening(publisher.address) as source:
            first = asyncio.create_task(source.receive(1))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(Refused, match="two tasks"):
                await source.receive(1)
            with pytest.raises(Refused, match="at least 1"):
                await source.receive(0)
            await publisher.wait_for_subscribers([topic_of()], timeout_s=SOON_S)
            await publisher.publish(index(1))
            assert numbers(await first) == [1]


async def test_a_source_needs_feeds_that_differ() -> None:
    with pytest.raises(SettingsError, match="one or more"):
        ZmqSource(upstreams=[])
    same = upstream("tcp://127.0.0.1:1")
    with pytest.raises(SettingsError, match="each once"):
        ZmqSource(upstreams=[same, same])
