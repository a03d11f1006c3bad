"""The pages of a runner, asked for over a real socket."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing

import attrs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ravenwh.domain.errors import Unavailable
from ravenwh.ingest import Counts
from ravenwh.telemetry.live import serve_live
from ravenwh.telemetry.metrics import LEVELS, OFFSETS, TALLIES, VENUES, Metrics, Reading
from tests.conftest import ROOT
from tests.programs import free_ports

READING = Reading(
    frames={"received": 7, "recovered": 3, "written": 5, "unchanged": 1, "dead": 1},
    in_journal=3,
    messages_missing=4,
    gaps_open=1,
    oldest_unwritten_s=1.5,
    lag_s=0.25,
    journal_bytes=1000,
    dead_letter_bytes=64,
    dead_letters_collapsed=11,
    dead_letters_dropped=2,
    is_ready=True,
)


def values(page: bytes) -> dict[tuple[str, ...], float]:
    """The samples of a page, by name and label values in the order of the labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


async def get(port: int, path: str) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    lines = head.decode().split("\r\n")
    kinds = [line.partition(": ")[2] for line in lines if line.startswith("Content-Type")]
    return int(lines[0].split()[1]), kinds[0], body


@asynccontextmanager
async def served(
    troubles: Callable[[], Sequence[str]], metrics: Callable[[], bytes]
) -> AsyncIterator[int]:
    with closing(free_ports()) as free:
        port = next(free)
    async with serve_live("127.0.0.1", port, "kline", troubles=troubles, metrics=metrics):
        yield port


def test_a_scrape_has_the_counts_and_their_identity() -> None:
    page = values(Metrics(lambda: READING).page())
    assert page["ravenwh_frames_total", "received"] == 7
    assert page["ravenwh_frames_in_journal",] == 3
    assert page["ravenwh_messages_missing_total",] == 4
    assert page["ravenwh_dead_letters_collapsed_total",] == 11
    assert page["ravenwh_dead_letters_dropped_total",] == 2
    assert page["ravenwh_oldest_unwritten_seconds",] == 1.5
    assert page["ravenwh_ready",] == 1


def test_before_there_is_a_worker_it_is_not_ready() -> None:
    page = values(Metrics(lambda: None).page())
    assert page["ravenwh_ready",] == 0
    assert ("ravenwh_frames_in_journal",) not in page


def test_what_the_worker_tells_is_there() -> None:
    metrics = Metrics(lambda: READING)
    metrics.wrote(rows=5000, took_s=0.2)
    metrics.wrote(rows=1, took_s=0.001)
    metrics.retried("Unavailable")
    for number in range(101):
        metrics.offset("BINANCE_SPOT", number / 100)
    page = values(metrics.page())
    assert page["ravenwh_batch_rows_sum",] == 5001
    assert page["ravenwh_batch_seconds_count",] == 2
    assert page["ravenwh_retries_total", "Unavailable"] == 1
    assert page["ravenwh_clock_offset_seconds", "0.5", "BINANCE_SPOT"] == 0.5
    assert page["ravenwh_clock_offset_seconds", "0.99", "BINANCE_SPOT"] == 0.99


def test_venues_and_offsets_without_end_fill_no_memory() -> None:
    metrics = Metrics(lambda: READING)
    for number in range(VENUES + 50):
        metrics.offset(f"V{number}", 1.0)
    for _ in range(3 * OFFSETS):
        metrics.offset("V0", 2.0)
    page = values(metrics.page())
    assert page["ravenwh_clock_offset_seconds", "0.5", "V0"] == 2.0
    assert sum(key[0] == "ravenwh_clock_offset_seconds" for key in page) == 2 * VENUES


async def test_the_pages_of_a_runner() -> None:
    troubles: list[str] = ["the database is away"]
    async with served(lambda: troubles, Metrics(lambda: READING).page) as port:
        status, _, body = await get(port, "/livez")
        assert (status, json.loads(body)["service"]) == (200, "ravenwh.kline")
        status, _, body = await get(port, "/readyz")
        assert status == 503
        assert json.loads(body) == {"ready": False, "troubles": ["the database is away"]}
        troubles.clear()
        assert (await get(port, "/readyz"))[0] == 200
        status, kind, body = await get(port, "/metrics")
        assert (status, kind) == (200, "text/plain; version=1.0.0; charset=utf-8")
        assert values(body)["ravenwh_frames_total", "written"] == 5
        assert (await get(port, "/nowhere"))[0] == 404


async def test_a_taken_port_is_refused_with_what_to_do() -> None:
    async with served(list, bytes) as port:
        with pytest.raises(Unavailable, match="ravenwh doctor"):
            async with serve_live("127.0.0.1", port, "kline"):
                pass


def test_the_page_about_monitoring_has_every_metric() -> None:
    of_parts = dict.fromkeys((*TALLIES, *LEVELS), 1)
    metrics = Metrics(lambda: attrs.evolve(READING, tallies=of_parts))
    metrics.retried("Unavailable")
    metrics.offset("BINANCE_SPOT", 0.1)
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(metrics.page().decode())
        if not family.name.endswith("_created")  # which the library adds to each
    }
    page = (ROOT / "docs" / "how-to" / "monitor.md").read_text(encoding="utf-8")
    table = page.partition("| metric |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(ravenwh_\w+)`", table)) == names
    outcomes = set(re.findall(r"`([a-z]+)`", table.partition("frames_in_journal")[0]))
    assert outcomes == set(attrs.fields_dict(Counts)) - {"missing"}
