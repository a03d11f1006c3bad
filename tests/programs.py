"""Our programs as processes, with a settings file of the test's own."""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    closing,
    suppress,
)
from pathlib import Path
from typing import Self

import attrs

from ravenwh.config import load
from ravenwh.domain.settings import Settings
from ravenwh.domain.settings.server import METRICS_OFFSET
from ravenwh.telemetry.live import page_at
from tests.conftest import ROOT

PATIENCE_S = 90.0
COUNTS = re.compile(rb"^(ravenwh_frames_\S+) (\S+)$", re.MULTILINE)
RECEIVED = b'ravenwh_frames_total{outcome="received"}'
IN_JOURNAL = b"ravenwh_frames_in_journal"


def free_ports() -> Iterator[int]:
    """Ports that were free, as were those of their metrics; each is given once.

    None that the system gives to outgoing connections: who connects to the port of a program that
    was killed might get that very port, and hold it.
    """
    with ExitStack() as held:
        while True:
            number = random.randrange(10_000, 31_000)
            with suppress(OSError):
                for one in (number, number + METRICS_OFFSET):
                    held.enter_context(socket.create_server(("127.0.0.1", one)))
                yield number


def server_table(**ports: int) -> str:
    """The settings of the ports: those given, and free ones for the other services."""
    services = [p.service for p in Settings().server.ports() if p.purpose == "control"]
    with closing(free_ports()) as free:
        numbers = {f"{service}_port": next(free) for service in services} | ports
    return "\n".join(("[server]", *(f"{key} = {number}" for key, number in numbers.items()), ""))


@attrs.frozen(kw_only=True)
class Programs:
    """Runs programs in a folder whose ``ravenwh.toml`` they find."""

    folder: Path

    @property
    def settings_file(self) -> Path:
        """The settings that the programs find."""
        return self.folder / "ravenwh.toml"

    def configure(self, settings: str, **ports: int) -> Self:
        """Write the settings, with the ports given and free ones for the rest."""
        self.settings_file.write_text(f"{settings}\n{server_table(**ports)}")
        return self

    @property
    def journal(self) -> Path:
        """The journal of the kline runner."""
        return self.folder / "journal" / "kline.sqlite"

    async def start(self, module: str, *arguments: str) -> Process:
        """Start one; its output is piped."""
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
            stdout=PIPE,
            stderr=PIPE,
        )

    async def run(self, module: str, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run one to its end; what it printed, and what it logged."""
        process = await self.start(module, *arguments)
        async with ended(process):
            out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == code, err.decode()
        return out.decode(), err.decode()

    def kline_runner(self) -> AbstractAsyncContextManager[Runner]:
        """The kline runner, from when it takes frames until SIGTERM has ended it with code 0."""
        return self.runner("kline")

    @asynccontextmanager
    async def runner(self, name: str) -> AsyncIterator[Runner]:
        """The same of any runner."""
        process = await self.start(f"runners.{name}")
        async with ended(process):
            port = load(self.settings_file, {}).port_of(name, "metrics")
            runner = Runner(process=process, metrics_port=port.number)
            await runner.until(lambda log: "RUNNER_STARTED" in log)
            yield runner
            if process.returncode is None:
                await runner.stop()


@attrs.define(kw_only=True)
class Runner:
    """A running runner, where it shows its metrics, and what it has logged."""

    process: Process
    metrics_port: int
    log: str = ""

    async def until(self, seen: Callable[[str], bool]) -> None:
        """Read the log until it says so."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while not seen(self.log):
                line = await self.process.stderr.readline()
                assert line, f"it ended:\n{self.log}"
                self.log += line.decode()

    async def received(self, count: int) -> None:
        """Wait until it has taken so many frames from its sockets.

        What was published is with the kernel, or in a queue, for a while; a runner that is stopped
        reads on for a second at most.
        """
        async with asyncio.timeout(PATIENCE_S):
            while (await asyncio.to_thread(self._counts))[0] < count:  # noqa: ASYNC110  outside
                await asyncio.sleep(0.02)

    async def settled(self, count: int, *, held: int = 0) -> None:
        """The same, and until no more of them than so many open klines wait to be written.

        What is not written within the grace time of a stop stays in the journal.
        """
        await self.received(count)
        async with asyncio.timeout(PATIENCE_S):
            while (await asyncio.to_thread(self._counts))[1] > held:  # noqa: ASYNC110  outside
                await asyncio.sleep(0.02)

    def _counts(self) -> tuple[float, float]:
        """Frames received, and frames in the journal; none and all where it does not answer."""
        page = page_at("127.0.0.1", self.metrics_port, "/metrics")
        found = {} if page is None else dict(COUNTS.findall(page.body))
        return float(found.get(RECEIVED, 0)), float(found.get(IN_JOURNAL, math.inf))

    async def stop(self) -> None:
        """SIGTERM, as an operator would; it must end well."""
        self.process.send_signal(signal.SIGTERM)
        _, rest = await asyncio.wait_for(self.process.communicate(), PATIENCE_S)
        self.log += rest.decode()
        assert self.process.returncode == 0, self.log


@asynccontextmanager
async def ended(process: Process) -> AsyncIterator[None]:
    """Whatever happens, the process has ended afterwards."""
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
