"""Data folders to break, and processes to kill."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ravenwh.embedded import EmbeddedPostgres
from tests.embedded.children import Child, Start, started
from tests.servers import PgServer, open_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can pass through."""
    with open_folder() as path:
        yield path


@pytest.fixture
def child(pg_server: PgServer) -> Iterator[Start]:
    """Start children: with the arguments of EmbeddedPostgres, and ``uid`` to run as."""
    children: list[Child] = []

    def start(**arguments: Any) -> Child:
        children.append(started(**{"bin_dir": pg_server.bin_dir} | arguments))
        return children[-1]

    yield start
    for one in children:
        one.close()


@pytest.fixture(scope="session")
def prepared(pg_server: PgServer) -> Iterator[Path]:
    """A root folder with a whole data folder, made once."""
    with open_folder() as path:
        server = EmbeddedPostgres(root=path / "root", bin_dir=pg_server.bin_dir)
        with server:
            pass
        yield server.root


@pytest.fixture
def root(prepared: Path) -> Iterator[Path]:
    """A root folder without a running server, for tests that leave its data whole."""
    yield prepared
    EmbeddedPostgres(root=prepared).shutdown(force=True)


@pytest.fixture
def own_root(prepared: Path, folder: Path) -> Iterator[Path]:
    """A copy of that folder, to do with whatever the test likes."""
    path = folder / "root"
    subprocess.run(["cp", "-r", "--preserve=mode,ownership", prepared, path], check=True)
    yield path
    EmbeddedPostgres(root=path).shutdown(force=True)


@pytest.fixture
def absent(folder: Path) -> Iterator[Path]:
    """A root folder that does not exist yet."""
    path = folder / "absent"
    yield path
    if path.exists() and os.access(path, os.X_OK):
        EmbeddedPostgres(root=path).shutdown(force=True)


@pytest.fixture
def as_root() -> None:
    """For tests of what only root meets."""
    if os.geteuid() != 0:
        pytest.skip("only root starts the server as another user")


@pytest.fixture
def plain_uid(as_root: None, folder: Path) -> int:
    """The number of an ordinary user, who owns the folder of the test."""
    uid = pwd.getpwnam("nobody").pw_uid
    shutil.chown(folder, uid)
    return uid
