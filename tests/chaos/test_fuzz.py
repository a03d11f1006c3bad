"""Garbage at the decoders and at a runner; a million of it with ``make chaos``."""

from __future__ import annotations

import os
from pathlib import Path

from tests.chaos.fuzz import decoded, flooded, resident

MIB = 2**20


def test_decoders_know_all_errors_of_garbage() -> None:
    decoded(500, seed=1)  # what is loaded and remembered at first
    before = resident(os.getpid())
    outcomes = decoded(8_000, seed=2)
    assert outcomes.total() == 16_000
    assert min(outcomes.values()) > 10
    assert resident(os.getpid()) - before < 30 * MIB


async def test_a_runner_accounts_for_every_frame_of_a_flood(tmp_path: Path, mart_url: str) -> None:
    dsn = mart_url.replace("+asyncpg", "")
    found = await flooded(tmp_path, mart_url, dsn, count=20_000, seed=3)
    assert found.received + found.lost == found.sent
    assert found.imbalance == 0
    assert found.dead > found.sent / 4
    assert found.written_good == found.good
    assert found.dead_letter_bytes <= 4 * MIB
    assert found.bytes_late < 200 * MIB
