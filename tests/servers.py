"""Throw-away PostgreSQL servers for the tests: without fsync, gone with the test run."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import attrs
import psycopg
from psycopg import sql

from ravenwh.domain.errors import RavenwhError
from ravenwh.embedded import EmbeddedPostgres

PREFIX = "ravenwh-test-"
LEFT_BEHIND_S = 3600.0
"""The age of a folder that no test can still be at work in; each has a limit far below it."""
MEMORY = Path("/dev/shm")  # noqa: S108 - what is made there has a name of its own
DISK = Path("/var/tmp")  # noqa: S108 - as above
LEAST_FREE = 4 * 2**30
SETTINGS = {"max_wal_size": "256MB"}  # it may be memory


@attrs.frozen(kw_only=True)
class PgServer:
    """A running server, with the attributes that pytest-postgresql's noproc factories read."""

    host: str
    port: int
    user: str
    password: str = attrs.field(repr=False)
    dbname: str
    bin_dir: Path
    options: str = ""
    maintenance_dbname: str = "postgres"
    template_dbname: str = "template1"

    def url(self, database: str, *, driver: str = "+asyncpg") -> str:
        """The URL of one of its databases, as SQLAlchemy takes it; with driver "" as libpq does."""
        login = f"{self.user}:{self.password}@{self.host}:{self.port}"
        return f"postgresql{driver}://{login}/{database}"

    @contextmanager
    def fresh_database(self, *, template: str = "template1") -> Iterator[str]:
        """The name of a database of its own, copied from the template; dropped afterwards."""
        name = f"test_{uuid4().hex[:12]}"
        named = sql.Identifier(name)
        with self._maintenance() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(named, sql.Identifier(template))
            )
        try:
            yield name
        finally:
            with self._maintenance() as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(named))

    def _maintenance(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url(self.maintenance_dbname, driver=""), autocommit=True)


@contextmanager
def throw_away_server() -> Iterator[PgServer]:
    """A new server, removed afterwards."""
    sweep()
    with (
        open_folder() as folder,
        EmbeddedPostgres(root=folder / "pg", durable=False, settings=SETTINGS) as used,
    ):
        parts = urlsplit(used.libpq_url)
        found = used.status()
        assert parts.hostname
        assert parts.port
        assert parts.username
        assert parts.password
        assert found.bin_dir
        yield PgServer(
            host=parts.hostname,
            port=parts.port,
            user=parts.username,
            password=parts.password,
            dbname=parts.path.removeprefix("/"),
            bin_dir=found.bin_dir,
        )


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user can pass through, as a server started by root needs it.

    pytest's own tmp_path is closed to others.
    """
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base()))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def base() -> Path:
    """Where servers of tests live: TMPDIR, else memory if there is enough of it, else the disk.

    Tests kill processes, they do not pull plugs, so memory keeps what a disk would; it is several
    times as fast.
    """
    if "TMPDIR" not in os.environ and is_fit(MEMORY):
        return MEMORY
    usual = Path(tempfile.gettempdir())
    return usual if is_fit(usual) else DISK


def is_fit(folder: Path) -> bool:
    """Whether others can pass through it, programs run there, and some GB are free."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    if not all(each.stat().st_mode & stat.S_IXOTH for each in (folder, *folder.parents)):
        return False
    system = os.statvfs(folder)
    return not system.f_flag & os.ST_NOEXEC and system.f_bavail * system.f_frsize > LEAST_FREE


def sweep() -> None:
    """Remove what killed test runs left behind: servers that no process uses any more.

    Only old ones: between two commands of a test that runs beside this one, its server is unused.
    """
    for root in base().glob(f"{PREFIX}*/pg"):
        about = root.parent.stat()
        if about.st_uid == os.geteuid() and about.st_mtime < time.time() - LEFT_BEHIND_S:
            with suppress(RavenwhError, OSError):  # in use by another test run
                EmbeddedPostgres(root=root).destroy()
                root.parent.rmdir()
