"""What is put at risk: a durable database, a publisher and a runner, each of which can be hurt."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import attrs
import psycopg

from ravenwh.embedded import EmbeddedPostgres
from ravenwh.embedded.processes import is_postgres
from tests.conftest import ROOT, migrate
from tests.servers import DISK, PREFIX

SOON_S = 60.0
FELT_WITHIN_S = 150.0
"""A runner writes 60 warnings of a name in a minute, which another outage may have used up."""

SPACE_MB = 192


@attrs.define(kw_only=True)
class Database:
    """A server with fsync and synchronous_commit on, and the mart in it."""

    server: EmbeddedPostgres
    space: Path | None
    """A small disk that the klines lie on; None where none can be made."""

    @property
    def dsn(self) -> str:
        """Its address, for psycopg."""
        return self.server.libpq_url

    async def stop_for(self, seconds: float) -> None:
        """An ordinary stop, and a start so much later."""
        await asyncio.to_thread(self.server.shutdown, force=True)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.server.start)

    async def kill(self) -> None:
        """SIGKILL to the server, and a start right after."""
        pid = self.server.status().pid
        assert pid is not None
        os.kill(pid, 9)
        async with asyncio.timeout(SOON_S):
            while is_postgres(pid):  # noqa: ASYNC110  the system says it to nobody else
                await asyncio.sleep(0.01)
        await asyncio.to_thread(self.server.start)

    async def terminate(self) -> int:
        """End the connections of the runner, once it has one; how many they were."""
        async with asyncio.timeout(SOON_S):
            while not (count := await asyncio.to_thread(self._terminate)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return count

    def _terminate(self) -> int:
        with psycopg.connect(self.dsn) as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'ravenwh' AND datname = current_database()"
            ).fetchall()
        return sum(is_ended for (is_ended,) in ended)

    async def full_for(self, seconds: float, is_felt: Callable[[], bool]) -> None:
        """No room for another page, for so long, and until somebody has felt it."""
        assert self.space is not None
        filler = self.space / "filler"
        await asyncio.to_thread(_fill, filler)
        try:
            await asyncio.sleep(seconds)
            async with asyncio.timeout(FELT_WITHIN_S):
                while not is_felt():  # noqa: ASYNC110  another process
                    await asyncio.sleep(0.05)
        finally:
            filler.unlink()

    async def durability(self) -> dict[str, str]:
        """What the server says of it."""
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            found = {}
            for name in ("fsync", "synchronous_commit", "full_page_writes", "server_version"):
                (value,) = await (await connection.execute(f"SHOW {name}")).fetchone() or ("",)
                found[name] = str(value)
            return found


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


@asynccontextmanager
async def database(folder: Path, port: int) -> AsyncIterator[Database]:
    """One in the folder; its klines lie on a disk of their own where we may make one."""
    with EmbeddedPostgres(root=folder / "pg", port=port) as server:
        await asyncio.to_thread(migrate, server.url)  # which runs a loop of its own
        with _small_disk(folder / "space") as space:
            try:
                if space is not None:
                    _move_klines(server, space)
                yield Database(server=server, space=space)
            finally:
                server.shutdown(force=True)


@contextmanager
def _small_disk(place: Path) -> Iterator[Path | None]:
    """A mounted tmpfs of some MB; None where only root may, or the system does not let it."""
    place.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    options = f"size={SPACE_MB}m,mode=0755"
    if os.geteuid() != 0 or mount is None or umount is None:
        yield None
        return
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", options, "tmpfs", place], check=False, capture_output=True
    )
    if made.returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run([umount, place], check=True)


def _move_klines(server: EmbeddedPostgres, space: Path) -> None:
    inside = space / "tables"
    inside.mkdir()
    owner = Path(f"/proc/{server.status().pid}").stat()
    os.chown(inside, owner.st_uid, owner.st_gid)
    with psycopg.connect(server.libpq_url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{inside}'")  # type: ignore[arg-type]
        connection.execute("ALTER TABLE mart.fact__kline SET TABLESPACE small")
        indexes = connection.execute(
            "SELECT indexrelid::regclass::text FROM pg_index"
            " WHERE indrelid = 'mart.fact__kline'::regclass"
        ).fetchall()
        for (index,) in indexes:
            connection.execute(f"ALTER INDEX {index} SET TABLESPACE small")  # type: ignore[arg-type]


@contextmanager
def folder_on_disk() -> Iterator[Path]:
    """A folder that other users can pass through, on a disk and not in memory."""
    place = DISK / f"{PREFIX}chaos-{os.getpid()}-{time.time_ns()}"
    place.mkdir(mode=0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def environment() -> dict[str, str]:
    """Ours, so that our own modules are found."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


@attrs.define(kw_only=True)
class Publisher:
    """The process that sends the numbers, and those that follow it."""

    endpoint: str
    control: str
    end: int
    rate: float
    ring_bytes: int
    epochs: dict[int, int] = attrs.field(factory=dict)
    """The first number of each of them, by its epoch."""
    done: asyncio.Event = attrs.field(factory=asyncio.Event)
    sent: int = 0
    """How many it were, once it is done."""
    _process: Process | None = None
    _at: asyncio.Queue[int] = attrs.field(factory=asyncio.Queue)
    _reader: asyncio.Task[None] | None = None

    async def start(self, first: int = 0) -> None:
        """Send from this number on; the very first one waits for who subscribes."""
        how = {
            "--endpoint": self.endpoint,
            "--control": self.control,
            "--first": first,
            "--end": self.end,
            "--rate": self.rate,
            "--ring-bytes": self.ring_bytes,
        }
        arguments = [str(word) for pair in how.items() for word in pair]
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.publisher", *arguments),
            *(["--wait"] if first == 0 else []),
            env=environment(),
            stdin=PIPE,
            stdout=PIPE,
        )
        told = asyncio.Event()
        self._reader = asyncio.create_task(self._read(self._process, first, told))
        async with asyncio.timeout(SOON_S):
            await told.wait()

    async def _read(self, process: Process, first: int, told: asyncio.Event) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            match line.split():
                case [b"epoch", epoch]:
                    self.epochs[int(epoch)] = first
                    told.set()
                case [b"at", number]:
                    self._at.put_nowait(int(number))
                case [b"done", number]:
                    self.sent = int(number)
                    self.done.set()

    async def say(self, word: str) -> int:
        """One of the words that it knows; the next number."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        return await asyncio.wait_for(self._at.get(), SOON_S)

    async def sends(self, count: int) -> None:
        """Wait until it has sent so many more."""
        began = await self.say("where")
        async with asyncio.timeout(SOON_S):
            while await self.say("where") < began + count:
                pass

    async def die(self) -> int:
        """Let it kill itself, whatever it was about to deliver; the next number."""
        at = await self.say("die")
        await self.end_process(kill=True)
        return at

    async def end_process(self, *, kill: bool = False) -> None:
        """End it, as an operator would or not."""
        process, reader = self._process, self._reader
        if process is None or reader is None:
            return
        self._process = None
        if kill or process.returncode is not None:
            with suppress(ProcessLookupError):
                process.kill()
        else:
            assert process.stdin is not None
            process.stdin.write(b"end\n")
        await asyncio.wait_for(process.wait(), SOON_S)
        await reader


@attrs.define(kw_only=True)
class Runner:
    """The kline runner in a folder that has its settings, one process after the other."""

    folder: Path
    metrics_port: int
    process: Process | None = None
    starts: int = 0

    @property
    def log(self) -> str:
        """What all of them have written."""
        return "".join(map(self._log, range(1, self.starts + 1)))

    def _log(self, number: int) -> str:
        return (self.folder / f"runner-{number}.log").read_text()

    async def start(self) -> None:
        """Start one, not waiting for anything."""
        self.starts += 1
        with (self.folder / f"runner-{self.starts}.log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "runners.kline"),
                cwd=self.folder,
                env=environment(),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=log,
            )

    async def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        assert self.process.returncode is None, self.log[-2000:]
        process, self.process = self.process, None
        process.kill()
        await process.wait()

    async def stop(self) -> None:
        """SIGTERM, once it has begun; it must end well."""
        assert self.process is not None
        process, self.process = self.process, None
        async with asyncio.timeout(SOON_S):
            while "RUNNER_STARTED" not in self._log(self.starts):  # noqa: ASYNC110  another process
                await asyncio.sleep(0.05)
        process.terminate()
        code = await asyncio.wait_for(process.wait(), SOON_S)
        assert code == 0, self.log[-2000:]


@asynccontextmanager
async def ending(publisher: Publisher, runner: Runner) -> AsyncIterator[None]:
    """Whatever happens, their processes have ended afterwards."""
    try:
        yield
    finally:
        await publisher.end_process(kill=True)
        if runner.process is not None and runner.process.returncode is None:
            runner.process.kill()
            await runner.process.wait()
