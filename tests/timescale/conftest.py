"""Databases of each engine level, and a project to migrate them with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from tests.conftest import skip_or_fail
from tests.timescale.project import Place, Project

DSN = os.environ.get("RAVENWH_TEST_TIMESCALE_DSN")
APACHE_DSN = os.environ.get("RAVENWH_TEST_TIMESCALE_APACHE_DSN")
CITUS_DSN = os.environ.get("RAVENWH_TEST_CITUS_DSN")


@contextmanager
def database_on(dsn: str) -> Iterator[str]:
    """A new database of a server, as SQLAlchemy with asyncpg takes it; dropped afterwards."""
    name = f"test_{uuid4().hex[:12]}"
    url = sa.make_url(dsn).set(drivername="postgresql")
    maintenance = url.render_as_string(hide_password=False)
    with psycopg.connect(maintenance, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        there = url.set(drivername="postgresql+asyncpg", database=name)
        yield there.render_as_string(hide_password=False)
    finally:
        with psycopg.connect(maintenance, autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            )


@contextmanager
def community_place() -> Iterator[Place]:
    """An empty database on a server with TimescaleDB; the extension is not yet made."""
    if DSN is None:
        reason = "RAVENWH_TEST_TIMESCALE_DSN names no server with TimescaleDB"
        skip_or_fail("timescale_server", reason)
    assert DSN
    with database_on(DSN) as url:
        yield Place(url=url, level="community")


@pytest.fixture
def community() -> Iterator[Place]:
    with community_place() as place:
        yield place


@pytest.fixture
def apache() -> Iterator[Place]:
    """The same under the apache licence."""
    if APACHE_DSN is None:
        pytest.skip("RAVENWH_TEST_TIMESCALE_APACHE_DSN names no server under the apache licence")
    with database_on(APACHE_DSN) as url:
        yield Place(url=url, level="none")


@pytest.fixture
def citus() -> Iterator[Place]:
    """A schema in the database of a Citus cluster."""
    if CITUS_DSN is None:
        pytest.skip("RAVENWH_TEST_CITUS_DSN names no coordinator of Citus")
    url = sa.make_url(CITUS_DSN).set(drivername="postgresql+asyncpg")
    place = Place(
        url=url.render_as_string(hide_password=False),
        level="citus",
        schema=f"test_{uuid4().hex[:12]}",
    )
    yield place
    place.rows("DROP SCHEMA IF EXISTS {s} CASCADE")


@pytest.fixture
def none(database: str) -> Place:
    """An empty database on stock PostgreSQL."""
    return Place(url=database, level="none")


@pytest.fixture(params=["community", "none"])
def place(request: pytest.FixtureRequest) -> Place:
    """An empty database, of each engine level in turn."""
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def project_on(tmp_path: Path) -> Callable[[Place], Project]:
    """Makes a project for a place."""
    return lambda place: Project(folder=tmp_path / uuid4().hex[:6], place=place)


@pytest.fixture
def project(place: Place, project_on: Callable[[Place], Project]) -> Project:
    """A project for a place of each level in turn."""
    return project_on(place)
