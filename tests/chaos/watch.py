"""A runner seen from outside while it works: its counts, its readiness, its memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import attrs

from tests.chaos.parts import Runner

EVERY_S = 0.2
PATIENCE_S = 30.0
SETTLED = ("written", "unchanged", "folded", "expired", "dead", "ignored")


async def page(port: int, path: str) -> tuple[int, str]:
    """Status and body of a page of a runner. Raises OSError where nobody answers."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            said = (await reader.read()).decode()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    head, _, body = said.partition("\r\n\r\n")
    if not head:
        raise ConnectionResetError
    return int(head.split(" ", 2)[1]), body


def samples(text: str) -> dict[str, float]:
    """The values of a page of metrics, by their names with the labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and line[0] != "#")
    return {name: float(value) for name, _, value in lines}


async def metrics_when(
    port: int, holds: Callable[[dict[str, float]], bool], *, patience_s: float = 60.0
) -> dict[str, float]:
    """The values of a runner that has begun, once this holds of them. Raises TimeoutError."""
    async with asyncio.timeout(patience_s):
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                _, text = await page(port, "/metrics")
                found = samples(text)
                if "ravenwh_frames_in_journal" in found and holds(found):
                    return found
            await asyncio.sleep(0.05)


def frames(found: dict[str, float], outcome: str) -> int:
    """How many frames came to this."""
    return int(found[f'ravenwh_frames_total{{outcome="{outcome}"}}'])


def imbalance(found: dict[str, float]) -> int:
    """By how much the counts do not add up: 0."""
    came = frames(found, "received") + frames(found, "recovered")
    return came - sum(frames(found, name) for name in SETTLED) - int(
        found["ravenwh_frames_in_journal"]
    )  # fmt: skip


@attrs.define(kw_only=True)
class Watch:
    """Looks at a runner again and again."""

    runner: Runner
    scrapes: int = 0
    imbalances: list[int] = attrs.field(factory=list)
    unready: set[str] = attrs.field(factory=set)
    """Why it was not ready, each text up to its first colon."""
    most_bytes: int = 0
    last: dict[str, float] = attrs.field(factory=dict)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            process = self.runner.process
            if process is None or process.returncode is not None:
                continue
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await self._look(process.pid)

    async def _look(self, pid: int) -> None:
        self.most_bytes = max(self.most_bytes, resident_most(pid))
        port = self.runner.metrics_port
        status, ready = await page(port, "/readyz")
        if status == 503:
            self.unready.update(_troubles(ready))
        _, text = await page(port, "/metrics")
        found = samples(text)
        if "ravenwh_frames_in_journal" in found:  # it has begun
            self.scrapes += 1
            self.last = found
            if wrong := imbalance(found):
                self.imbalances.append(wrong)


def _troubles(body: str) -> list[str]:
    return [trouble.partition(":")[0] for trouble in json.loads(body)["troubles"]]


def resident_most(pid: int) -> int:
    """The most bytes of memory that a process ever had."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
