"""The waits between tries."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Iterator

import pytest
from loguru import logger

from ravenwh.domain.errors import JournalFull, Unavailable
from ravenwh.ingest.backoff import Backoff

SHORT = 0.01


@pytest.fixture
def waits() -> Iterator[list[float]]:
    """The waits that the log tells of, in seconds."""
    found: list[float] = []
    sink = logger.add(lambda line: found.append(line.record["extra"]["retry_in_s"]))
    yield found
    logger.remove(sink)


@pytest.fixture
def _same_dice() -> Iterator[None]:
    """The same random numbers in each run of a test."""
    state = random.getstate()
    random.seed(4)
    yield
    random.setstate(state)


async def test_who_asks_to_be_left_alone_is(waits: list[float]) -> None:
    backoff, stop = Backoff(initial_s=SHORT, max_s=SHORT), asyncio.Event()
    began = time.monotonic()
    await backoff.wait(Unavailable("later", retry_after_s=0.2), stop)
    assert time.monotonic() - began >= 0.19
    await backoff.wait(Unavailable("soon", retry_after_s=0.0), stop)
    assert waits[0] == 0.2
    assert waits[1] <= SHORT


@pytest.mark.parametrize("error", [Unavailable("away"), JournalFull("full")])
async def test_who_asks_for_nothing_is_asked_again_soon(
    error: JournalFull | Unavailable, waits: list[float]
) -> None:
    await Backoff(initial_s=SHORT, max_s=SHORT).wait(error, asyncio.Event())
    assert waits[0] <= SHORT


async def test_a_stop_ends_the_wait() -> None:
    stop = asyncio.Event()
    stop.set()
    backoff = Backoff(initial_s=60, max_s=60)
    await backoff.wait(Unavailable("later", retry_after_s=600), stop)  # or the test takes too long


@pytest.mark.usefixtures("_same_dice")
async def test_waits_are_anywhere_below_a_ceiling_that_doubles_up_to_the_most(
    waits: list[float],
) -> None:
    """Of 400 that lost the same server, each at its tenth try: nobody waits for the others."""
    many, tries, stop = 400, 10, asyncio.Event()
    stop.set()  # so that no wait takes its time
    for _ in range(many):
        backoff = Backoff(initial_s=100, max_s=6_000)
        for _ in range(tries):
            await backoff.wait(Unavailable("away"), stop)
    ceilings = (100, 200, 400, 800, 1_600, 3_200, 6_000, 6_000, 6_000, 6_000)
    for number, ceiling in enumerate(ceilings):
        drawn = waits[number::tries]
        assert len(drawn) == many
        assert 0 <= min(drawn) < 0.02 * ceiling
        assert 0.98 * ceiling < max(drawn) <= ceiling
        quarters = statistics.quantiles((wait / ceiling for wait in drawn), n=4)
        assert quarters == pytest.approx([0.25, 0.5, 0.75], abs=0.08)


async def test_the_ceiling_holds_however_often_it_was_tried(waits: list[float]) -> None:
    backoff, stop = Backoff(initial_s=0.1, max_s=30), asyncio.Event()
    stop.set()
    for _ in range(5_000):
        await backoff.wait(Unavailable("away"), stop)
    assert backoff.tries == len(waits) == 5_000
    assert 29 < max(waits) <= 30
