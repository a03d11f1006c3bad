"""Frames that nobody would send: against the decoders, and against a runner over its socket."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import psycopg
import zmq

from ravenwh.domain.errors import DecodeError, Rejected
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.domain.series import to_ns
from ravenwh.domain.settings.server import METRICS_OFFSET
from ravenwh.feed import wire
from ravenwh.feed.cryptofeed.decoder import CryptofeedDecoder
from ravenwh.ports import Frame
from ravenwh.warehouse.rows import kline_values
from tests.chaos.bare import line
from tests.chaos.garbled import cryptofeed_frames, raven_frames
from tests.chaos.numbers import SYMBOLS, kline
from tests.chaos.parts import Runner
from tests.chaos.watch import frames, imbalance, metrics_when
from tests.programs import free_ports, server_table

PREFIX = b"BINANCE_SPOT:CANDLE:"
FOREIGN = b"OKX-candles-"
"""What the runner asks of the raven feed, and of cryptofeed's."""

GOOD_EVERY = 50
KLINES = 10
"""So that what is told at a socket which asks for klines is one in every other message."""

JOURNAL_BYTES = 64 << 20
DEAD_BYTES = 4 << 20
MOST_FILE = JOURNAL_BYTES + DEAD_BYTES + (16 << 20)
"""The file of a journal with these bounds: topics, gaps and pages that are not full take more."""

MOST_WAL = 256 << 20
"""Its write-ahead log, as ``docs/why/journal.md`` promises."""

LOG_BYTES = 1 << 20
"""The log of a few minutes: there are two dozen names, of each warning and error of which 60 lines
are written in a minute, and a line for each batch."""


def decoded(count: int, seed: int) -> Counter[str]:
    """What became of so many frames of each wire, as far as the values of a row.

    Raises whatever a decoder raises that is none of our errors.
    """
    rng, register = random.Random(seed), Register()
    foreign = CryptofeedDecoder(register=register)
    outcomes = Counter[str]()
    for parts, text in itertools.islice(
        zip(raven_frames(rng), cryptofeed_frames(rng), strict=True), count
    ):
        ours = Frame("f", *parts, 1_723_161_255_000_000_000)
        topic, _, payload = text.partition(b" ")
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

    mutated: int
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
    journal_bytes: int
    """The largest that the file of the journal was, and its write-ahead log."""
    wal_bytes: int
    log_bytes: int
    most_lines: int
    """How many warnings or errors of one name there are in the log, of the name with most."""
    gap_rows: int

    @property
    def allowed_lines(self) -> int:
        """How many of one name may be written: 60 in each minute, two of which are not whole."""
        return 60 * (2 + int(self.seconds // 60))


Parts = list[bytes]


def raven_flood(rng: random.Random) -> Iterator[Parts]:
    """Mutated messages of the raven wire that the runner has asked for, without end."""
    for topic, header, payload in raven_frames(rng, KLINES):
        if not topic.startswith(PREFIX):
            topic = PREFIX + topic[-12:]
        parts = [topic, header, payload]
        yield [topic, *rng.choices(parts, k=rng.randrange(5))] if rng.random() < 0.01 else parts


def cryptofeed_flood(rng: random.Random) -> Iterator[Parts]:
    """The same of cryptofeed's wire."""
    for text in cryptofeed_frames(rng, KLINES):
        if text.startswith(FOREIGN):
            yield [text]
        else:
            topic, _, payload = text.partition(b" ")
            yield [FOREIGN + topic[-8:] + b" " + payload]


def good_raven() -> Iterator[Parts]:
    """Klines by their numbers, as the raven wire has them."""
    for number in itertools.count():
        topic, payload = wire.encode(kline(number))
        seq = 1 + number // len(SYMBOLS)
        yield [topic, wire.header(1_704_067_200_000_000_000, seq), payload]


def good_cryptofeed() -> Iterator[Parts]:
    """The same, as cryptofeed has them."""
    for number in itertools.count():
        yield [line(number, exchange="OKX")]


def flood(raven: str, cryptofeed: str, mutations: int, seed: int) -> int:
    """Send so many mutated messages, half on each wire, and good ones; how many those were."""
    rng, good = random.Random(seed), 0
    with (
        zmq.Context() as context,
        context.socket(zmq.XPUB) as ours,
        context.socket(zmq.XPUB) as theirs,
    ):
        for socket in (ours, theirs):
            socket.set(zmq.XPUB_NODROP, 1)
            socket.set(zmq.LINGER, 60_000)
            socket.set(zmq.SNDTIMEO, 60_000)
            socket.set(zmq.RCVTIMEO, 60_000)
        ours.bind(raven)
        assert ours.recv() == b"\x01" + PREFIX
        theirs.connect(cryptofeed)
        assert {theirs.recv(), theirs.recv()} == {b"\x01candles ", b"\x01" + FOREIGN}
        ways = (
            (ours, raven_flood(rng), good_raven()),
            (theirs, cryptofeed_flood(rng), good_cryptofeed()),
        )
        for number in range(mutations // 2):
            for socket, bad, whole in ways:
                if number % GOOD_EVERY == 0:
                    socket.send_multipart(next(whole))
                    good += 1
                socket.send_multipart(next(bad))
    return good


@attrs.define
class Sizes:
    """What a runner takes, looked at now and then: memory, and the files of its journal."""

    memory: list[int] = attrs.field(factory=list)
    journal: int = 0
    wal: int = 0

    def look(self, pid: int, journal: Path) -> None:
        self.memory.append(resident(pid))
        self.journal = max(self.journal, _size(journal))
        self.wal = max(self.wal, _size(journal.with_name(f"{journal.name}-wal")))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def flooded(folder: Path, url: str, dsn: str, *, count: int, seed: int) -> Flooded:
    """A runner in the folder, on this mart, while it is flooded."""
    with closing(free_ports()) as free:
        port, ours, theirs = next(free), *(f"tcp://127.0.0.1:{next(free)}" for _ in range(2))
    (folder / "ravenwh.toml").write_text(f"""
        timescale.url = {json.dumps(url)}
        binance_klines.venues = ["BINANCE_SPOT", "OKX_SPOT"]
        [feeds]
        default = {{ endpoint = "{ours}", rcvhwm = 5000 }}
        foreign = {{ endpoint = "{theirs}", mode = "bind", wire = "cryptofeed", rcvhwm = 5000 }}
        [routing.upstreams]
        "BINANCE_SPOT:CANDLE" = "default"
        "OKX_SPOT:CANDLE" = "foreign"
        [journal]
        dir = "journal"
        max_bytes = {JOURNAL_BYTES}
        max_dead_bytes = {DEAD_BYTES}
        {server_table(kline_port=port)}
    """)
    runner = Runner(folder=folder, metrics_port=port + METRICS_OFFSET)
    journal = folder / "journal" / "kline.sqlite"
    await runner.start()
    assert runner.process is not None
    pid = runner.process.pid
    began = time.monotonic()
    sizes = Sizes()
    try:
        sending = asyncio.create_task(asyncio.to_thread(flood, ours, theirs, count, seed))
        while not sending.done():
            await asyncio.wait([sending], timeout=0.5)
            sizes.look(pid, journal)
        good = await sending
        found = await metrics_when(
            runner.metrics_port, lambda found: is_through(found, count + good)
        )
        sizes.look(pid, journal)
        seconds = time.monotonic() - began
        await runner.stop()
    except TimeoutError:
        raise AssertionError(f"it ended, or stands still:\n{runner.log[-4000:]}") from None
    finally:
        if runner.process is not None and runner.process.returncode is None:
            await runner.kill()
    there, gap_rows = await asyncio.to_thread(stored, dsn)
    log = runner.log
    return Flooded(
        mutated=count,
        good=good,
        seconds=seconds,
        received=frames(found, "received"),
        lost=frames(found, "lost"),
        dead=frames(found, "dead"),
        imbalance=imbalance(found),
        written_good=sum(
            there.get((venue, one.symbol, one.open_time)) == one.volume
            for one in map(kline, range(good // 2))
            for venue in ("BINANCE_SPOT", "OKX_SPOT")
        ),
        bytes_early=max(sizes.memory[: max(1, len(sizes.memory) // 2)]),
        bytes_late=max(sizes.memory),
        dead_letter_bytes=int(found["ravenwh_dead_letter_bytes"]),
        journal_bytes=sizes.journal,
        wal_bytes=sizes.wal,
        log_bytes=len(log.encode()),
        most_lines=max(Counter(re.findall(r"(?:WARNING|ERROR) +([A-Z_]+)", log)).values()),
        gap_rows=gap_rows,
    )


def is_through(found: dict[str, float], count: int) -> bool:
    """Whether so many frames have come, and nothing of them waits."""
    came = frames(found, "received") + frames(found, "lost")
    return came >= count and not found["ravenwh_frames_in_journal"]


def stored(dsn: str) -> tuple[dict[tuple[str, str, int], float], int]:
    """The volume of each kline that was written, and how many gaps were noted."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT exchange, coin || quote, open_time, volume FROM mart.kline_1m"
        ).fetchall()
        gaps = connection.execute("SELECT count(*) FROM mart.ops__feed_gap").fetchone()
    assert gaps is not None
    return {(venue, symbol, to_ns(at)): volume for venue, symbol, at, volume in rows}, gaps[0]


def resident(pid: int) -> int:
    """Bytes of a process in memory now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
