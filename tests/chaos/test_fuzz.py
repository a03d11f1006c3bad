"""Garbage at the decoders and at a runner; a million of it with ``make chaos``."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import closing
from pathlib import Path

from ravenwh.domain.settings.server import METRICS_OFFSET
from ravenwh.feed import wire
from tests.chaos.fuzz import (
    DEAD_BYTES,
    LOG_BYTES,
    MOST_FILE,
    MOST_WAL,
    PREFIX,
    decoded,
    flooded,
    resident,
)
from tests.chaos.numbers import kline
from tests.chaos.peer import COMMAND, Peer
from tests.chaos.watch import frames, metrics_when, resident_most
from tests.programs import Programs, free_ports

MIB = 2**20
GIB = 2**30
SOON_S = 60.0


def test_decoders_know_all_errors_of_garbage() -> None:
    decoded(500, seed=1)  # what is loaded and remembered at first
    before = resident(os.getpid())
    outcomes = decoded(8_000, seed=2)
    assert outcomes.total() == 16_000
    assert min(outcomes[name] for name in ("message", "DecodeError", "Rejected", "ignored")) > 10
    assert resident(os.getpid()) - before < 30 * MIB


async def test_a_runner_accounts_for_every_frame_of_a_flood(tmp_path: Path, mart_url: str) -> None:
    dsn = mart_url.replace("+asyncpg", "")
    found = await flooded(tmp_path, mart_url, dsn, count=20_000, seed=3)
    assert found.received + found.lost == found.mutated + found.good
    assert found.mutated == 20_000
    assert found.imbalance == 0
    assert found.dead > found.mutated / 2
    assert found.written_good == found.good > 0
    assert found.dead_letter_bytes <= DEAD_BYTES
    assert found.bytes_late < 200 * MIB
    assert found.journal_bytes <= MOST_FILE
    assert found.wal_bytes <= MOST_WAL
    assert found.log_bytes <= LOG_BYTES
    assert found.most_lines <= found.allowed_lines


async def test_what_is_announced_as_a_gibibyte_is_not_held(tmp_path: Path, mart_url: str) -> None:
    with closing(free_ports()) as free:
        port, control = next(free), next(free)
    programs = Programs(folder=tmp_path).configure(
        f"""
        timescale.url = {json.dumps(mart_url)}
        journal.dir = "journal"
        feeds.default = {{ endpoint = "tcp://127.0.0.1:{port}", mode = "bind" }}
        binance_klines.venues = ["BINANCE_SPOT"]
        """,
        kline_port=control,
    )
    looked_at = control + METRICS_OFFSET
    good = [
        (topic, wire.header(1_704_067_200_000_000_000, 1), payload)
        for topic, payload in map(wire.encode, map(kline, range(2)))
    ]

    async def until_received(count: int) -> None:
        await metrics_when(looked_at, lambda found: frames(found, "received") == count)

    async with programs.kline_runner() as runner:
        async with asyncio.timeout(SOON_S), Peer.at(port) as peer:
            assert await peer.shake_hands() == PREFIX
            peer.send(*good[0])  # from now on it is one whose frames are taken
            await until_received(1)
            before = resident_most(runner.process.pid)
            peer.announce(GIB)
            peer.writer.write(PREFIX)
            assert await peer.stream(GIB) < 64 * MIB
        async with asyncio.timeout(SOON_S), Peer.at(port) as peer:
            peer.announce(GIB, COMMAND)  # instead of a handshake
            assert await peer.stream(GIB) < 64 * MIB
        async with asyncio.timeout(SOON_S), Peer.at(port) as peer:
            await peer.shake_hands()
            peer.send(*good[1])
            await until_received(2)
        assert resident_most(runner.process.pid) - before < 64 * MIB
