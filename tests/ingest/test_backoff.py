"""The waits between tries."""

from __future__ import annotations

import asyncio
import time

import pytest

from ravenwh.domain.errors import JournalFull, Unavailable
from ravenwh.ingest.backoff import Backoff

SHORT = 0.001


async def took(backoff: Backoff, error: JournalFull | Unavailable, stop: asyncio.Event) -> float:
    began = time.monotonic()
    await backoff.wait(error, stop)
    return time.monotonic() - began


async def test_who_asks_to_be_left_alone_is() -> None:
    backoff, stop = Backoff(initial_s=SHORT, max_s=SHORT), asyncio.Event()
    assert await took(backoff, Unavailable("later", retry_after_s=0.2), stop) >= 0.19
    assert await took(backoff, Unavailable("soon", retry_after_s=0.0), stop) < 0.15


@pytest.mark.parametrize("error", [Unavailable("away"), JournalFull("full")])
async def test_who_asks_for_nothing_is_asked_again_soon(error: JournalFull | Unavailable) -> None:
    backoff = Backoff(initial_s=SHORT, max_s=SHORT)
    assert await took(backoff, error, asyncio.Event()) < 0.15


async def test_a_stop_ends_the_wait() -> None:
    stop = asyncio.Event()
    stop.set()
    backoff = Backoff(initial_s=60, max_s=60)
    assert await took(backoff, Unavailable("later", retry_after_s=600), stop) < 5
