"""The cryptofeed wire on sockets: every recorded frame, through the journal, into a sink."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import zmq

from ravenwh.domain.book import Books
from ravenwh.domain.errors import DecodeError
from ravenwh.domain.messages import Message, OrderBook, Trade
from ravenwh.domain.register import Register
from ravenwh.domain.symbols import RULES
from ravenwh.feed.cryptofeed import topics
from ravenwh.feed.cryptofeed.decoder import CryptofeedDecoder
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.subscriber import Upstream, ZmqSource
from ravenwh.ingest import Counts, Limits, Worker
from ravenwh.journal import Store
from ravenwh.ports import Frame, WriteResult
from tests.cryptofeed import until_wanted
from tests.recorded import frame_of, messages_of

pytestmark = pytest.mark.usefixtures("no_socket_left")

Raw = zmq.Socket[bytes]
SOON_S = 60.0  # far more than anything here takes; what hangs fails
FILES = (
    *(f"{name}.{version}" for version in ("v2.5.0", "v3.0.1") for name in (
        "BINANCE", "BINANCE_FUTURES", "DERIBIT", "INJ_BINANCE_FUTURES", "INJ_BYBIT", "INJ_DERIBIT",
    )),
    *(f"{name}.v2.5.0" for name in (
        "BITSTAMP", "HFT_BINANCE_BTC-USDT_20240808",
        "HFT_BINANCE_FUTURES_BTC-USDT-PERP_20240808", "KRAKEN", "OKX", "OKX_snap5", "OKX_static",
    )),
)  # fmt: skip


@attrs.define
class Kept:
    """A sink that keeps all messages."""

    messages: list[Message] = attrs.field(factory=list)

    async def write(self, messages: Sequence[Message]) -> WriteResult:
        self.messages += messages
        return WriteResult(written=len(messages))


async def frames_of(source: ZmqSource, count: int) -> list[Frame]:
    frames: list[Frame] = []
    async with asyncio.timeout(SOON_S):
        while len(frames) < count:
            frames += await source.receive(count - len(frames))
    return frames


async def until(condition: Callable[[], bool]) -> None:
    """Wait, bounded, for what another thread or task brings about."""
    async with asyncio.timeout(SOON_S):
        while not condition():  # noqa: ASYNC110  # nothing there could set an event of ours
            await asyncio.sleep(0.01)


def everything() -> tuple[bytes, ...]:
    """Subscriptions to all that the venues with a rule have."""
    venues: dict[str, None] = dict.fromkeys(RULES)
    found = {topic for kind in topics.KEYS for topic in topics.subscriptions(kind, venues)}
    return tuple(sorted(found))


def bound(folder: Path, wanted: tuple[bytes, ...]) -> Upstream:
    """Where cryptofeed connects to, as the settings' mode bind makes it."""
    endpoint = Endpoint(address=f"ipc://{folder}/feed", mode="bind")
    return Upstream(feed="cryptofeed", endpoint=endpoint, topics=wanted, one_part=True)


async def connect(publisher: Raw, upstream: Upstream) -> None:
    """Connect to us, and return when what we subscribe to is known at the other end."""
    publisher.set(zmq.SNDHWM, 0)
    publisher.connect(upstream.endpoint.address)
    await until_wanted(publisher, *upstream.topics)


async def received(folder: Path, publisher: Raw, messages: Sequence[bytes]) -> tuple[Kept, Counts]:
    """What a worker makes of the messages: cryptofeed connects, we bind."""
    upstream = bound(folder, everything())
    store = Store(folder / "journal.sqlite", max_bytes=1 << 30, keep_s=0)
    sink, stop = Kept(), asyncio.Event()
    with ZmqSource(upstreams=[upstream]) as source:
        worker = Worker[Message](
            source=source,
            decode=CryptofeedDecoder(register=Register()),
            wants=lambda message: True,
            sink=sink,
            journal=store,
            dead_letters=store,
            limits=Limits(),
        )
        running = asyncio.create_task(worker.run(stop), name="worker")
        await connect(publisher, upstream)
        for message in messages:
            publisher.send(message)
        await until(lambda: worker.counts.received == len(messages) or running.done())
        stop.set()
        counts = await running
    assert list(store.dead_letters()) == []
    store.close()
    return sink, counts


def table_of(readme: str) -> dict[str, Counter[str]]:
    """How many frames of each key a file has, by the data's README."""
    rows = re.findall(r"^\| (\S+)\.frames\.txt\.gz \| (\d+) \| ([^|]+) \|", readme, re.MULTILINE)
    table = {
        name: Counter({key: int(n) for key, n in re.findall(r"(\w+):(\d+)", keys)})
        for name, _, keys in rows
    }
    for name, count, _ in rows:
        assert table[name].total() == int(count)
    return table


def bodies(messages: Sequence[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and payload of each message, by a few lines that share nothing with the code."""
    for message in messages:
        topic, _, body = message.partition(b" ")
        parts = topic.decode().split("-", 2)
        yield parts[1] if len(parts) > 1 else parts[0], json.loads(body)


def plain_tops(messages: Sequence[bytes]) -> Iterator[tuple[float | None, ...]]:
    """Best bid and ask with their sizes after each book frame."""
    books: dict[str, list[dict[float, float]]] = {}
    for key, body in bodies(messages):
        if key != "book":
            continue
        if "book" in body:
            books[body["symbol"]] = [{}, {}]
        sides = books[body["symbol"]]
        for side, name in zip(sides, ("bid", "ask"), strict=True):
            changes = body["book"][name].items() if "book" in body else body["delta"][name]
            side.update((float(price), size) for price, size in changes)
            for price in [float(price) for price, size in changes if size == 0]:
                side.pop(price, None)
        bid, ask = max(sides[0], default=None), min(sides[1], default=None)
        yield (
            bid,
            None if bid is None else sides[0][bid],
            ask,
            None if ask is None else sides[1][ask],
        )


TYPES = {
    "trades": "Trade",
    "book": "OrderBook",
    "candles": "Candle",
    "funding": "Funding",
    "open_interest": "OpenInterest",
    "liquidations": "Liquidation",
    "index": "PriceIndex",
}


@pytest.mark.parametrize("name", FILES)
async def test_every_recorded_frame_arrives(
    name: str, shared_data: Path, tmp_path: Path, raw: Raw
) -> None:
    messages = messages_of(shared_data / "wire" / f"{name}.frames.txt.gz")
    keys = table_of((shared_data / "README.md").read_text(encoding="utf-8"))[name]
    sink, counts = await received(tmp_path, raw, messages)

    found = Counter(type(message).__name__ for message in sink.messages)
    options = found.pop("Ticker", 0)
    assert found == {TYPES[key]: count for key, count in keys.items() if key != "ticker"}
    assert options == sum(
        key == "ticker" and body["symbol"].endswith(("-call", "-put"))
        for key, body in bodies(messages)
    )
    assert (counts.received, counts.written, counts.ignored, counts.dead, counts.lost) == (
        keys.total(), keys.total() - keys["ticker"] + options, keys["ticker"] - options, 0, 0,
    )  # fmt: skip

    books = Books()
    tops = [books.apply(m) for m in sink.messages if isinstance(m, OrderBook)]
    assert tops == list(plain_tops(messages))
    assert (books.skipped, books.broken, books.evicted) == (0, 0, 0)

    prices = [
        (m.price, m.quantity, m.side, m.trade_id) for m in sink.messages if isinstance(m, Trade)
    ]
    assert prices == [
        (body["price"], body["amount"], body["side"], body["id"])
        for key, body in bodies(messages)
        if key == "trades"
    ]
    assert all(
        1_500_000_000 < message.event_time / 1e9 < 1_800_000_000 for message in sink.messages
    )


def test_every_file_of_the_folder_is_tested(shared_data: Path) -> None:
    names = {file.name.removesuffix(".frames.txt.gz") for file in (shared_data / "wire").iterdir()}
    assert names == set(FILES)


def test_both_versions_send_the_same_messages(shared_data: Path) -> None:
    for name in ("BINANCE", "BINANCE_FUTURES", "DERIBIT", "INJ_DERIBIT", "INJ_BINANCE_FUTURES"):
        decoded = []
        for version in ("v2.5.0", "v3.0.1"):
            decode = CryptofeedDecoder(register=Register())
            file = shared_data / "wire" / f"{name}.{version}.frames.txt.gz"
            decoded.append(Counter(repr(decode(frame_of(m))) for m in messages_of(file)))
        assert decoded[0] == decoded[1]


def test_static_keys_name_the_same_messages(shared_data: Path) -> None:
    decoded = []
    for name in ("OKX", "OKX_static"):
        decode = CryptofeedDecoder(register=Register())
        file = shared_data / "wire" / f"{name}.v2.5.0.frames.txt.gz"
        decoded.append(Counter(repr(decode(frame_of(m))) for m in messages_of(file)))
    assert decoded[0] == decoded[1]


async def test_an_exact_subscription_never_matches_a_longer_name(tmp_path: Path, raw: Raw) -> None:
    wanted = {"BINANCE_SPOT": ["BTCUSDT"], "BINANCE_US": None}
    upstream = bound(tmp_path, topics.subscriptions("TRADE", wanted))
    names = (
        *("BINANCE-trades-BTC-USDTX", "BINANCE-trades-BTC-USDT-PERP", "BINANCE-book-BTC-USDT"),
        *("BINANCE_FUTURES-trades-BTC-USDT", "BINANCE_DELIVERY-trades-BTC-USD", "tradesx"),
        *("BINANCE_US-trades-BTC-USD", "trades", "BINANCE-trades-BTC-USDT"),
    )
    with ZmqSource(upstreams=[upstream]) as source:
        await connect(raw, upstream)
        for name in names:
            raw.send(f"{name} {{}}".encode())
        frames = await frames_of(source, 3)
    assert [frame.topic.decode() for frame in frames] == list(names[-3:])
    assert {(frame.feed, frame.header, frame.payload) for frame in frames} == {
        ("cryptofeed", b"", b"{}")
    }


async def test_what_is_no_single_part_comes_too(tmp_path: Path, raw: Raw) -> None:
    good = b'BINANCE-trades-BTC-USDT {"exchange":"BINANCE","symbol":"BTC-USDT","timestamp":1,'
    good += b'"receipt_timestamp":1,"side":"buy","amount":1,"price":2,"id":null}'
    topic, _, payload = good.partition(b" ")
    sent = [
        [good],
        [topic + b" "],
        [topic, payload],
        [topic, b"", payload],
        [topic, b"header", payload],
        [good, b""],
        [topic + b" ", payload],
        [good, b"", b"one", b"two"],
        [good],
    ]
    upstream = bound(tmp_path, topics.subscriptions("TRADE", {"BINANCE_SPOT": None}))
    decode = CryptofeedDecoder(register=Register())
    with ZmqSource(upstreams=[upstream]) as source:
        await connect(raw, upstream)
        for parts in sent:
            raw.send_multipart(parts)
        frames = await frames_of(source, len(sent))
    for parts, frame in zip(sent, frames, strict=True):
        kept = b" ".join((frame.topic, frame.header, frame.payload))
        assert all(part.strip() in kept.replace(b"  ", b" ") for part in parts)
        if parts == [good]:
            assert isinstance(decode(frame), Trade)
        else:
            with pytest.raises(DecodeError):
                decode(frame)


def test_a_book_whose_start_was_lost_is_right_from_its_next_snapshot_on(shared_data: Path) -> None:
    """As after a reconnect, or as 3.0 begins: it loses what it sends first."""
    file = shared_data / "wire" / "OKX_snap5.v2.5.0.frames.txt.gz"
    messages = [m for m in messages_of(file) if b"-book-" in m]
    decode, books = CryptofeedDecoder(register=Register()), Books()
    known, lost = set(), 0
    expected = list(plain_tops(messages))
    for number, message in enumerate(messages):
        if number == 100:
            books.forget_all()
            known.clear()
        if number < 3:
            continue  # the first snapshots of all three symbols
        book = decode(frame_of(message))
        assert isinstance(book, OrderBook)
        if book.snapshot:
            known.add(book.symbol)
        top = books.apply(book)
        assert top == (expected[number] if book.symbol in known else None)
        lost += top is None
    assert books.skipped == lost > 3
    assert len(known) == 3
