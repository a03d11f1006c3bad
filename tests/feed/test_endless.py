"""Peers that begin a message and never end it, and peers that only look like it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest
from loguru import logger

from ravenwh.domain.messages import Message, PriceIndex
from ravenwh.feed import wire
from ravenwh.feed.collecting import Fixed, collection_handlers
from ravenwh.feed.control import Collection
from ravenwh.feed.control_client import ControlClient
from ravenwh.feed.control_server import ControlServer
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.subscriber import Upstream, ZmqSource
from ravenwh.ports import Frame

pytestmark = pytest.mark.usefixtures("no_socket_left")

SOON_S = 60.0
MIB = 2**20
ANY_PORT = Endpoint(address="tcp://127.0.0.1:0", mode="bind")
TOPIC = wire.topic("DERIBIT", "PRICE_INDEX", "btc_usd")
MOST = 4 * MIB
"""The longest frame that a feed may send."""

LAST = 10**9
"""The number of the last message."""

ATTACK = 1024 * MIB
"""Bytes of a message without end: what would be in memory if nothing ended it."""

HELD = 256 * MIB
"""What it may take of it: some messages' length, and what comes in until it is seen."""


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@attrs.frozen
class Peer:
    """An end of a connection that speaks ZeroMQ's protocol, version 3.0, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def greet(self, kind: bytes) -> None:
        """Shake hands as a socket of this kind."""
        self.writer.write(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0"))
        self.writer.write(bytes(32))
        ready = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
        self.writer.write(b"\x04" + bytes([len(ready)]) + ready)
        await self.reader.readexactly(64)
        _, size = await self.reader.readexactly(2)
        await self.reader.readexactly(size)

    async def send(self, *parts: bytes) -> None:
        """A whole message."""
        for part in parts[:-1]:
            self.writer.write(part_of(part, more=True))
        self.writer.write(part_of(parts[-1], more=False))
        await self.writer.drain()

    async def send_without_end(self, size: int) -> int:
        """Parts of this size, and after each another one, until the other end hangs up.

        How many bytes that were.
        """
        part = part_of(bytes(size), more=True) * max(1, 2**16 // (size + 2))
        sent = 0
        with suppress(ConnectionError):
            while sent < ATTACK:
                self.writer.write(part)
                await self.writer.drain()
                sent += len(part)
        return sent


def part_of(body: bytes, *, more: bool) -> bytes:
    """A part as it is on the wire."""
    if len(body) < 256:
        return bytes([more, len(body)]) + body
    return bytes([2 + more]) + len(body).to_bytes(8, "big") + body


@asynccontextmanager
async def calling(address: str, kind: bytes) -> AsyncIterator[Peer]:
    """A peer that connects."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    peer = Peer(*await asyncio.open_connection(host, int(port)))
    try:
        await peer.greet(kind)
        yield peer
    finally:
        peer.writer.transport.abort()


def index(number: int) -> PriceIndex:
    return PriceIndex(venue="DERIBIT", symbol="btc_usd", event_time=number, price=1.0)


def parts() -> tuple[bytes, bytes, bytes]:
    """A message as a publisher sends it."""
    topic, payload = wire.encode(index(1))
    return topic, wire.header(1, 1), payload


def feed(endpoint: Endpoint = ANY_PORT) -> Upstream:
    return Upstream(feed="spot", endpoint=endpoint, topics=(TOPIC,), max_frame_bytes=MOST)


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """The fields of the lines about messages without end."""
    found: list[dict[str, Any]] = []
    sink = logger.add(
        lambda line: found.append(dict(line.record["extra"])),
        filter=lambda record: record["message"] == "MESSAGE_WITHOUT_END",
    )
    yield found
    logger.remove(sink)


@pytest.mark.parametrize("size", [0, 60_000])
async def test_a_message_without_end_is_ended_and_good_frames_come_meanwhile(
    size: int, lines: list[dict[str, Any]]
) -> None:
    with ZmqSource(upstreams=[feed()]) as source:
        address = source.addresses["spot"]
        before = resident()

        async def publish(ended: asyncio.Event) -> None:
            numbers = count(1)
            async with Publisher(endpoint=Endpoint(address=address)) as publisher:
                await publisher.wait_for_subscribers([TOPIC], timeout_s=SOON_S)
                while not ended.is_set():
                    await publisher.publish(index(next(numbers)))
                    await asyncio.sleep(0)
                await publisher.publish(index(LAST))

        async def attack(ended: asyncio.Event) -> list[int]:
            sent = []
            for _ in range(3):
                async with calling(address, b"PUB") as peer:
                    sent.append(await peer.send_without_end(size))
            ended.set()
            return sent

        ended = asyncio.Event()
        async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as tasks:
            attacks = tasks.create_task(attack(ended))
            tasks.create_task(publish(ended))
            messages: list[Message] = []
            while index(LAST) not in messages[-1:]:
                messages += map(wire.decode, await source.receive(1_000))
        assert all(sent < HELD for sent in attacks.result())
        assert resident() - before < HELD
        assert source.endless == len(lines) == 3
        assert lines[0]["endpoint"] == address
        assert lines[0]["bytes"] > MOST
    assert messages == [*map(index, range(1, len(messages))), index(LAST)]


async def test_a_publisher_that_we_connect_to_is_found_again_afterwards(
    lines: list[dict[str, Any]],
) -> None:
    sent: list[int] = []
    calls: list[asyncio.Task[None]] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(asyncio.create_task(answer(reader, writer)))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        await peer.greet(b"PUB")
        if not sent:
            sent.append(await peer.send_without_end(60_000))
        else:
            await peer.send(*parts())
            await reader.read()  # until the other end closes
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        endpoint = Endpoint(address=f"tcp://127.0.0.1:{port}")
        with ZmqSource(upstreams=[feed(endpoint)]) as source:
            async with asyncio.timeout(SOON_S):
                (frame,) = await source.receive(10)
            assert source.endless == 1
        async with asyncio.timeout(SOON_S):
            await asyncio.gather(*calls)
    assert wire.decode(frame) == index(1)
    assert sent[0] < HELD
    assert [line["peer"] for line in lines] == [f"127.0.0.1:{port}"]


async def test_a_request_without_end_is_ended_and_others_are_answered(
    lines: list[dict[str, Any]],
) -> None:
    handlers = collection_handlers(Fixed([Collection("DERIBIT", "PRICE_INDEX", "btc_usd")]))
    before = resident()
    with ControlServer(endpoint=ANY_PORT, handlers=handlers) as server:
        serving = asyncio.create_task(server.serve())
        with ControlClient(endpoint=Endpoint(address=server.address), timeout_s=SOON_S) as client:
            async with asyncio.timeout(SOON_S), calling(server.address, b"DEALER") as peer:
                attack = asyncio.create_task(peer.send_without_end(0))
                while not attack.done():
                    assert (await client.list_collections()).collections
                assert attack.result() < HELD // 32
            assert (await client.list_collections()).collections
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    assert resident() - before < HELD
    assert [line["endpoint"] for line in lines] == [server.address]


async def test_a_message_without_end_is_ended_while_good_ones_always_wait(
    lines: list[dict[str, Any]],
) -> None:
    backlog = 90_000
    with ZmqSource(upstreams=[feed()]) as source:
        async with (
            asyncio.timeout(SOON_S),
            calling(source.addresses["spot"], b"PUB") as good,
            calling(source.addresses["spot"], b"PUB") as bad,
        ):
            whole = b"".join(
                part_of(part, more=last)
                for part, last in zip(parts(), (True, True, False), strict=True)
            )
            good.writer.write(whole * backlog)
            await good.writer.drain()
            attack = asyncio.create_task(bad.send_without_end(60_000))
            taken = 0
            while not attack.done():
                taken += len(await source.receive(20))
            assert attack.result() < HELD
            assert len(lines) == 1
            assert taken < backlog  # so the queue was never empty
            while taken < backlog:
                taken += len(await source.receive(1_000))


async def test_who_sends_whole_messages_is_left_alone_though_they_come_slowly_or_wait(
    lines: list[dict[str, Any]],
) -> None:
    """The longest message that may be, in 200 pieces, and then 12 of them that nobody takes."""
    topic, header, _ = parts()
    longest = part_of(bytes(MOST), more=False)
    with ZmqSource(upstreams=[feed()]) as source:
        async with asyncio.timeout(SOON_S), calling(source.addresses["spot"], b"PUB") as peer:
            peer.writer.write(part_of(topic, more=True) + part_of(header, more=True))
            piece = len(longest) // 200 + 1
            taking = asyncio.create_task(source.receive(10))
            for start in range(0, len(longest), piece):
                peer.writer.write(longest[start : start + piece])
                await peer.writer.drain()
                await asyncio.sleep(0.005)  # which makes it slow
            assert [len(frame.payload) for frame in await taking] == [MOST]
            for _ in range(12):
                await peer.send(topic, header, bytes(MOST))
                await asyncio.sleep(0.05)  # in which they are looked at
            frames: list[Frame] = []
            while len(frames) < 12:
                frames += await source.receive(10)
            await peer.send(topic, header, b"")
            assert await source.receive(10)  # on the same connection
        assert source.endless == 0
    assert not lines


async def test_what_came_before_a_reconnect_and_still_waits_makes_nobody_a_suspect(
    lines: list[dict[str, Any]],
) -> None:
    backlog, large = 20_000, 6
    topic, header, payload = parts()
    calls: list[asyncio.Task[None]] = []
    all_sent = asyncio.Event()
    taken: list[int] = []  # so that the next connection has another descriptor

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(asyncio.create_task(answer(reader, writer)))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        await peer.greet(b"PUB")
        if len(calls) == 1:
            for _ in range(backlog):
                await peer.send(topic, header, payload)
            writer.write_eof()
            await reader.read()  # until the other end closes
            taken.extend(os.dup(writer.get_extra_info("socket").fileno()) for _ in range(8))
        else:
            for _ in range(large):
                await peer.send(topic, header, bytes(MOST - 1_000))
                await asyncio.sleep(0.05)  # in which it is looked at
            all_sent.set()
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with ZmqSource(upstreams=[feed(Endpoint(address=f"tcp://127.0.0.1:{port}"))]) as source:
            async with asyncio.timeout(SOON_S):
                await all_sent.wait()
                sizes: list[int] = []
                while len(sizes) < backlog + large:
                    sizes += [len(frame.payload) for frame in await source.receive(20)]
            assert source.endless == 0
        async with asyncio.timeout(SOON_S):
            await asyncio.gather(*calls)
    for descriptor in taken:
        os.close(descriptor)
    assert sizes == [len(payload)] * backlog + [MOST - 1_000] * large
    assert not lines
