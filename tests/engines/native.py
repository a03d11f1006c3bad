"""A native server with TimescaleDB: the one that is named, or one of our own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import attrs
import psycopg
import sqlalchemy as sa
from psycopg import sql

from ravenwh.embedded import EmbeddedPostgres
from tests.engines.node import Missing
from tests.servers import SETTINGS, open_folder

DSN = "RAVENWH_TEST_TIMESCALE_DSN"
COMMUNITY = "timescale"
"""What TimescaleDB itself calls the licence of its community edition."""
CONNECT_S = 30

PRELOADED = SETTINGS | {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    # no policy runs by itself, also where a test makes the extension: between two of its steps a
    # job would compress or refresh what the second one is about
    "timescaledb.max_background_workers": "0",
}

LOOK = """
SELECT (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'),
       current_setting('timescaledb.license', true),
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
"""

STOP_JOBS = "SELECT _timescaledb_functions.stop_background_workers()"


@attrs.frozen(kw_only=True)
class NativeServer:
    """A running server that has TimescaleDB; ``dsn`` is a superuser's."""

    dsn: str = attrs.field(repr=False)
    version: str

    @contextmanager
    def fresh_database(self, *, extension: bool = True) -> Iterator[str]:
        """The URL, for SQLAlchemy with asyncpg, of a new database; dropped afterwards.

        With the extension its policies do not run by themselves, also on a server that is named.
        """
        name = f"test_{uuid4().hex[:12]}"
        named = sql.Identifier(name)
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(named))
        try:
            if extension:
                with psycopg.connect(self._url(name, "postgresql"), autocommit=True) as connection:
                    connection.execute("CREATE EXTENSION timescaledb")
                    connection.execute(STOP_JOBS)
            yield self._url(name, "postgresql+asyncpg")
        finally:
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(named))

    def _url(self, database: str, drivername: str) -> str:
        url = sa.make_url(self.dsn).set(drivername=drivername, database=database)
        return url.render_as_string(hide_password=False)


@attrs.frozen(kw_only=True)
class Installed:
    """An installation of PostgreSQL that has the extension's files."""

    bin_dir: Path
    version: str


@contextmanager
def native_server(variable: str = DSN, *, licence: str = COMMUNITY) -> Iterator[NativeServer]:
    """The server that the variable names, or else a throw-away one, under a licence.

    Raises Missing where there is neither.
    """
    dsn = os.environ.get(variable)
    if dsn is not None:
        yield named_server(dsn, variable, licence=licence)
        return
    installed = find_installed(variable)
    with (
        open_folder() as folder,
        EmbeddedPostgres(
            root=folder / "pg",
            bin_dir=installed.bin_dir,
            durable=False,
            settings=PRELOADED | {"timescaledb.license": licence},
        ) as used,
    ):
        yield NativeServer(dsn=used.libpq_url, version=installed.version)


def named_server(dsn: str, variable: str = DSN, *, licence: str = COMMUNITY) -> NativeServer:
    """The server of a DSN, looked at. Raises Missing where the tests cannot use it."""
    plain = sa.make_url(dsn).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with psycopg.connect(plain, connect_timeout=CONNECT_S) as connection:
            found = connection.execute(LOOK).fetchone()
    except psycopg.OperationalError as error:
        raise Missing(f"the server of {variable} does not answer: {str(error).strip()}") from error
    assert found
    version, its_licence, is_superuser = found
    if version is None:
        raise Missing(f"the server of {variable} does not have TimescaleDB")
    if its_licence not in (None, "", licence):
        raise Missing(f"TimescaleDB {version} of {variable} runs under the {its_licence} licence")
    if not is_superuser:
        raise Missing(f"the role of {variable} is no superuser")
    return NativeServer(dsn=plain, version=version)


def find_installed(variable: str = DSN) -> Installed:
    """The local PostgreSQL, if it has TimescaleDB. Raises Missing where not."""
    unset = f"{variable} is not set"
    program = shutil.which("pg_config")
    if program is None:
        raise Missing(f"{unset}, and no pg_config on PATH leads to a local PostgreSQL")
    said = subprocess.run(
        [program, "--bindir", "--sharedir", "--pkglibdir", "--version"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    ).stdout.splitlines()
    if len(said) < 4:
        raise Missing(f"{unset}, and {program} does not work")
    bin_dir, share, library = (Path(each) for each in said[:3])
    control = share / "extension" / "timescaledb.control"
    if not all((bin_dir / each).is_file() for each in ("postgres", "initdb")):
        raise Missing(f"{unset}, and the local {said[3]} has no server in {bin_dir}")
    if not control.is_file() or not (library / "timescaledb.so").is_file():
        raise Missing(f"{unset}, and the local {said[3]} has no TimescaleDB")
    version = re.search(r"^default_version\s*=\s*'([^']+)'", control.read_text(), re.MULTILINE)
    return Installed(bin_dir=bin_dir, version=version[1] if version else "of unknown version")
