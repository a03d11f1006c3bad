"""What every test may use: real servers, recorded data, and a clean environment."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.app.preflight import alembic_config
from ravenwh.domain.settings import Settings
from ravenwh.warehouse.engine import make_engine
from tests.servers import PgServer, throw_away_server

pytest_plugins = (
    "tests.engines.fixtures",
    "tests.engines.influx",
    "tests.engines.report",
    "tests.left_open",
)

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = frozenset(filter(None, os.environ.get("RAVENWH_TEST_REQUIRE", "").split(",")))

# how long an example takes is the machine's affair: one that stalls for a second fails no test;
# the rest is what Hypothesis chooses by itself, which in CI is the same examples each time
hypothesis.register_profile(
    "any machine",
    hypothesis(),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.load_profile("any machine")


def skip_or_fail(what: str, reason: str) -> None:
    """Skip with the reason, or fail where RAVENWH_TEST_REQUIRE asks for ``what``."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required by RAVENWH_TEST_REQUIRE, but {reason}")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's own shell reaches a test."""
    for name in list(os.environ):
        if name.startswith("RAVENWH_") and not name.startswith("RAVENWH_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def audible() -> None:
    """What is logged can be heard, though a test before may have used the library as people do."""
    logger.enable("ravenwh")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded market data, beside the checkout or named by RAVENWH_TEST_DATA."""
    folder = Path(os.environ.get("RAVENWH_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "klines_vision").is_dir():
        skip_or_fail("data", f"there is no recorded data at {folder}")
    return folder


@pytest.fixture(scope="session")
def pg_server() -> Iterator[PgServer]:
    """A PostgreSQL server for the whole test run, without fsync: no test of kills uses it."""
    with throw_away_server() as server:
        yield server


@pytest.fixture
def database(pg_server: PgServer) -> Iterator[str]:
    """The URL, for SQLAlchemy with asyncpg, of a new and empty database, dropped afterwards."""
    with pg_server.fresh_database() as name:
        yield pg_server.url(name)


@pytest.fixture(scope="session")
def mart_template(pg_server: PgServer) -> Iterator[str]:
    """The name of a database with our migrations, to be copied; made once a run."""
    with pg_server.fresh_database() as name:
        migrate(pg_server.url(name))
        yield name


@pytest.fixture
def mart_url(pg_server: PgServer, mart_template: str) -> Iterator[str]:
    """The URL, for SQLAlchemy with asyncpg, of a migrated and empty mart of the test's own."""
    with pg_server.fresh_database(template=mart_template) as name:
        yield pg_server.url(name)


@pytest.fixture
async def mart(mart_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on a migrated and empty mart."""
    async with engine_on(mart_url) as engine:
        yield engine


@asynccontextmanager
async def engine_on(url: str | sa.URL, **options: Any) -> AsyncIterator[AsyncEngine]:
    """An engine of ours, given back whatever happens."""
    engine = make_engine(url, **options)
    try:
        yield engine
    finally:
        await engine.dispose()


def settings_for(url: str, **sections: object) -> Settings:
    """Settings that point to a database, and whatever else a test says."""
    return Settings(**{"timescale": {"url": url}} | sections)


def migrate(url: str, revision: str = "head") -> None:
    """Bring a database to a revision."""
    config = alembic_config(settings_for(url))
    if revision == "base":
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)
