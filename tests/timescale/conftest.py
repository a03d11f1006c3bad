"""Databases of each engine, and a project to migrate them with.

``place`` runs a test on every engine, ``community`` on those with TimescaleDB, ``none`` on stock
PostgreSQL. What TimescaleDB in WASM cannot show asks for ``server`` (clients at the same moment:
who waits, for how long, and who gets through) or for ``bare`` (the extension is not made yet).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from tests.engines.fixtures import EngineDatabase
from tests.engines.native import NativeServer, native_server
from tests.engines.node import Missing
from tests.timescale.project import Place, Project

APACHE_DSN = "RAVENWH_TEST_TIMESCALE_APACHE_DSN"
CITUS_DSN = "RAVENWH_TEST_CITUS_DSN"


def quiet(database: EngineDatabase) -> Place:
    """The database of an engine, in which no policy runs by itself."""
    place = Place.on(database)
    if place.level == "community":
        place.stop_jobs()
    return place


@pytest.fixture
def place(each_engine: EngineDatabase) -> Place:
    """An empty database, on each engine in turn."""
    return quiet(each_engine)


@pytest.fixture
def community(each_community: EngineDatabase) -> Place:
    """An empty database with TimescaleDB, on each engine that has it in turn."""
    return quiet(each_community)


@pytest.fixture
def none(embedded: EngineDatabase) -> Place:
    """An empty database on stock PostgreSQL."""
    return Place.on(embedded)


@pytest.fixture
def server(each_server: EngineDatabase) -> Place:
    """An empty database on each engine whose clients work at the same moment, in turn."""
    return quiet(each_server)


@pytest.fixture
def bare(native_server: NativeServer) -> Iterator[Place]:
    """An empty database on a native server with TimescaleDB; the extension is not made yet."""
    with native_server.fresh_database(extension=False) as url:
        yield Place(url=url, level="community")


@pytest.fixture(scope="session")
def apache_server() -> Iterator[NativeServer]:
    """A native server under the apache licence: a named one, or a throw-away one."""
    try:
        with native_server(APACHE_DSN, licence="apache") as found:
            yield found
    except Missing as reason:
        if APACHE_DSN in os.environ:
            pytest.fail(str(reason))
        pytest.skip(f"there is no TimescaleDB under the apache licence: {reason}")


@pytest.fixture
def apache(apache_server: NativeServer) -> Iterator[Place]:
    """An empty database there, with the extension."""
    with apache_server.fresh_database() as url:
        yield Place(url=url, level="none")


@pytest.fixture
def citus() -> Iterator[Place]:
    """A schema in the database of a Citus cluster."""
    dsn = os.environ.get(CITUS_DSN)
    if dsn is None:
        pytest.skip(f"{CITUS_DSN} names no coordinator of Citus")
    url = sa.make_url(dsn).set(drivername="postgresql+asyncpg")
    place = Place(
        url=url.render_as_string(hide_password=False),
        level="citus",
        schema=f"test_{uuid4().hex[:12]}",
    )
    yield place
    place.rows("DROP SCHEMA IF EXISTS {s} CASCADE")


@pytest.fixture
def project_on(tmp_path: Path) -> Callable[[Place], Project]:
    """Makes a project for a place."""
    return lambda place: Project(folder=tmp_path / uuid4().hex[:6], place=place)


@pytest.fixture
def project(place: Place, project_on: Callable[[Place], Project]) -> Project:
    """A project for a place on each engine in turn."""
    return project_on(place)
