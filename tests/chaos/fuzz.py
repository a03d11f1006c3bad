"""Frames that nobody would send: against the decoders, and against a runner over its socket."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import msgspec
import psycopg
import zmq

from ravenwh.domain.errors import DecodeError, Rejected
from ravenwh.domain.messages import DATA_TYPES, Candle, Message
from ravenwh.domain.register import Register
from ravenwh.domain.series import to_ns
from ravenwh.domain.settings.server import METRICS_OFFSET
from ravenwh.feed import wire
from ravenwh.feed.cryptofeed.decoder import CryptofeedDecoder
from ravenwh.ports import Frame
from ravenwh.warehouse.rows import kline_values
from tests.chaos.numbers import kline
from tests.chaos.parts import Runner
from tests.chaos.watch import frames, imbalance, page, samples
from tests.programs import free_ports, server_table

SOON_S = 60.0
PREFIX = b"BINANCE_SPOT:CANDLE:"
GOOD_EVERY = 50
OTHER = 10_000_000
OTHER_TIME = 1_577_836_800_000_000_000
"""A number and a time that are no good one's: a frame can be mutated into a better version."""
EXTREMES = (
    b"\x91" * 3_000,  # arrays in arrays
    b"[" * 3_000,
    b"\xdb\xff\xff\xff\xff",  # a text of 4 GiB
    b"\xdd\xff\xff\xff\xff",  # an array of as many
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # no number
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",  # infinity
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",  # 2^64 - 1
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",  # -2^63
    b"1e999",
    b"NaN",
    b"-99999999999999999999999999",
    b'"\\ud800"',
    b"\xff\xfe\x00",
    b"",
)
CRYPTOFEED = (
    b'BINANCE-trades-BTC-USDT {"exchange":"BINANCE","symbol":"BTC-USDT","side":"sell",'
    b'"amount":0.02,"price":61837.63,"id":"37","type":null,"timestamp":1723161255.342,'
    b'"receipt_timestamp":1723161254.08}',
    b'BINANCE-candles-BTC-USDT {"exchange":"BINANCE","symbol":"BTC-USDT","start":1723161240.0,'
    b'"stop":1723161299.999,"interval":"1m","trades":41,"open":2.0,"close":2.5,"high":3.0,'
    b'"low":1.0,"volume":7.0,"closed":true,"timestamp":1723161300.0,"receipt_timestamp":1.0}',
    b'BINANCE-book-NKN-USDT {"exchange":"BINANCE","symbol":"NKN-USDT","book":{"bid":{"0.3521":672},'
    b'"ask":{"0.3529":3}},"timestamp":1633998512.568,"receipt_timestamp":1633998512.56}',
    b'BINANCE-book-NKN-USDT {"exchange":"BINANCE","symbol":"NKN-USDT","delta":{"bid":[[0.35,4]],'
    b'"ask":[[0.36,1]]},"timestamp":1633998512.568,"receipt_timestamp":1633998512.56}',
    b'BYBIT-funding-BTC-USDT-PERP {"exchange":"BYBIT","symbol":"BTC-USDT-PERP","mark_price":null,'
    b'"rate":0.0001,"next_funding_time":1569916800,"predicted_rate":null,'
    b'"timestamp":1569888003.0,"receipt_timestamp":1.0}',
    b'BINANCE_FUTURES-liquidations-BTC-USDT-PERP {"exchange":"BINANCE_FUTURES","symbol":'
    b'"BTC-USDT-PERP","side":"buy","quantity":0.014,"price":4793.91,"id":null,"status":"filled",'
    b'"timestamp":1584059031.426,"receipt_timestamp":1.0}',
    b'DERIBIT-ticker-ETH-2800-21N30-call {"exchange":"DERIBIT","symbol":"ETH-2800-21N30-call",'
    b'"bid":0.0015,"ask":0.0025,"timestamp":1626993723.632,"receipt_timestamp":1.0}',
)


def examples() -> Iterator[Message]:
    """A message of every type, as full as it can be."""
    values: dict[str, object] = {
        "venue": "BINANCE_SPOT",
        "symbol": "ETHBTC",
        "side": "buy",
        "bids": ((1.0, 2.0), (0.5, 1.0)),
        "asks": ((1.5, 2.0),),
        "snapshot": True,
        "interval": "1m",
        "closed": True,
    }
    for cls in DATA_TYPES.values():
        given = {
            field.name: values.get(field.name, _filled(field.type))
            for field in msgspec.structs.fields(cls)
            if field.name in values or field.required
        }
        yield cls(**given)  # type: ignore[arg-type]  # by the types of the fields
    yield kline(OTHER)


def _filled(kind: object) -> object:
    text = str(kind)
    if "float" in text:
        return 1.25
    return OTHER_TIME if "int" in text else "text"


def mutated(rng: random.Random, seed: bytes, other: bytes) -> bytes:
    """The bytes with a few things done to them; sometimes the same."""
    data = bytearray(seed)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.randrange(1, 12))
        match rng.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 3:
                del data[at:]
            case 4:
                data[at:end] = rng.choice(EXTREMES)
            case 5:
                cut = rng.randrange(len(other) + 1)
                data[at:] = other[cut:]
            case _:
                data[at:end] = rng.randbytes(end - at)
    return bytes(data)


def raven_frames(rng: random.Random) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Topic, header and payload, each perhaps mutated, without end."""
    seeds = [wire.encode(message) for message in examples()]
    while True:
        (topic, payload), (other_topic, other) = rng.choice(seeds), rng.choice(seeds)
        header = wire.header(1_704_067_200_000_000_000, rng.randrange(1, 1_000))
        if rng.random() < 0.2:
            topic = mutated(rng, topic, other_topic)
        if rng.random() < 0.2:
            header = mutated(rng, header, other[:16])
        yield topic, header, mutated(rng, payload, other)


def decoded(count: int, seed: int) -> Counter[str]:
    """What became of so many frames of each wire, as far as the values of a row.

    Raises whatever a decoder raises that is none of our errors.
    """
    rng, register = random.Random(seed), Register()
    foreign = CryptofeedDecoder(register=register)
    outcomes = Counter[str]()
    made = raven_frames(rng)
    for _ in range(count):
        ours = Frame("f", *next(made), 1_723_161_255_000_000_000)
        line = mutated(rng, rng.choice(CRYPTOFEED), rng.choice(CRYPTOFEED))
        topic, _, payload = line.partition(b" ")
        theirs = Frame("f", topic, b"", payload, 1_723_161_255_000_000_000)
        for decode, frame in ((wire.decode, ours), (foreign, theirs)):
            try:
                message = decode(frame)
                if isinstance(message, Candle):
                    found = register.series_instrument(
                        message.venue, message.symbol, message.open_time
                    )
                    kline_values(message, found)
            except (DecodeError, Rejected) as error:
                outcomes[type(error).__name__] += 1
            else:
                outcomes["ignored" if message is None else "message"] += 1
    return outcomes


@attrs.frozen(kw_only=True)
class Flooded:
    """What a runner made of a flood."""

    sent: int
    good: int
    seconds: float
    received: int
    lost: int
    dead: int
    imbalance: int
    written_good: int
    bytes_early: int
    bytes_late: int
    dead_letter_bytes: int
    log_bytes: int
    gap_rows: int


def flood(endpoint: str, count: int, seed: int) -> tuple[int, int]:
    """Send so many garbled frames, and good ones among them; how many were for the runner."""
    rng = random.Random(seed)
    made = raven_frames(rng)
    sent = good = 0
    seqs = Counter[bytes]()
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.set(zmq.XPUB_NODROP, 1)
        socket.set(zmq.LINGER, 60_000)
        socket.set(zmq.SNDTIMEO, 60_000)
        socket.set(zmq.RCVTIMEO, 60_000)
        socket.bind(endpoint)
        assert socket.recv() == b"\x01" + PREFIX
        for number in range(count):
            if number % GOOD_EVERY == 0:
                topic, payload = wire.encode(kline(good))
                seqs[topic] += 1
                parts = [topic, wire.header(1_704_067_200_000_000_000, seqs[topic]), payload]
                good += 1
            else:
                parts = list(next(made))
                if rng.random() < 0.95 and not parts[0].startswith(PREFIX):
                    parts[0] = PREFIX + parts[0][-12:]
                if rng.random() < 0.01:
                    parts = [parts[0], *rng.choices(parts, k=rng.randrange(5))]
            sent += parts[0].startswith(PREFIX)
            socket.send_multipart(parts)
    return sent, good


async def flooded(folder: Path, url: str, dsn: str, *, count: int, seed: int) -> Flooded:
    """A runner in the folder, on this mart, while it is flooded."""
    with closing(free_ports()) as free:
        port, frames_port = next(free), next(free)
    endpoint = f"tcp://127.0.0.1:{frames_port}"
    (folder / "ravenwh.toml").write_text(f"""
        timescale.url = {json.dumps(url)}
        feeds.default.endpoint = "{endpoint}"
        feeds.default.rcvhwm = 10000
        binance_klines.venues = ["BINANCE_SPOT"]
        [journal]
        dir = "journal"
        max_bytes = 67108864
        max_dead_bytes = 4194304
        {server_table(kline_port=port)}
    """)
    runner = Runner(folder=folder, metrics_port=port + METRICS_OFFSET)
    await runner.start()
    assert runner.process is not None
    pid = runner.process.pid
    began = time.monotonic()
    sizes: list[int] = []
    try:
        sending = asyncio.create_task(asyncio.to_thread(flood, endpoint, count, seed))
        while not sending.done():
            await asyncio.wait([sending], timeout=0.5)
            sizes.append(resident(pid))
        sent, good = await sending
        async with asyncio.timeout(SOON_S):
            while True:
                _, text = await page(runner.metrics_port, "/metrics")
                found = samples(text)
                came = frames(found, "received") + frames(found, "lost")
                if came >= sent and not found["ravenwh_frames_in_journal"]:
                    break
                await asyncio.sleep(0.2)
        sizes.append(resident(pid))
        seconds = time.monotonic() - began
        await runner.stop()
    except OSError:
        raise AssertionError(f"it ended:\n{runner.log[-4000:]}") from None
    finally:
        if runner.process is not None and runner.process.returncode is None:
            await runner.kill()
    there, gap_rows = await asyncio.to_thread(stored, dsn)
    return Flooded(
        sent=sent,
        good=good,
        seconds=seconds,
        received=frames(found, "received"),
        lost=frames(found, "lost"),
        dead=frames(found, "dead"),
        imbalance=imbalance(found),
        written_good=sum(
            there.get((one.symbol, one.open_time)) == one.volume for one in map(kline, range(good))
        ),
        bytes_early=max(sizes[: max(1, len(sizes) // 2)]),
        bytes_late=max(sizes),
        dead_letter_bytes=int(found["ravenwh_dead_letter_bytes"]),
        log_bytes=len(runner.log),
        gap_rows=gap_rows,
    )


def stored(dsn: str) -> tuple[dict[tuple[str, int], float], int]:
    """The volume of each kline that was written, and how many gaps were noted."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT coin || quote, open_time, volume FROM mart.kline_1m"
        ).fetchall()
        gaps = connection.execute("SELECT count(*) FROM mart.ops__feed_gap").fetchone()
    assert gaps is not None
    return {(symbol, to_ns(at)): volume for symbol, at, volume in rows}, gaps[0]


def resident(pid: int) -> int:
    """Bytes of a process in memory now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
