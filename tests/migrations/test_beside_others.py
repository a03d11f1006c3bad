"""The mart's migrations while others use it: another that migrates, writers, and a long reader."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.app.preflight import alembic_config
from ravenwh.domain.register import Register
from ravenwh.schema import KLINES
from ravenwh.timescale.env import lock_name
from tests.conftest import ROOT, engine_on, migrate, settings_for
from tests.engines.fixtures import EngineDatabase
from tests.migrations import successor
from tests.programs import ended
from tests.warehouse.conftest import candle, kline_sink

PATIENCE_S = 120.0


def test_two_processes_upgrade_at_the_same_moment(
    tmp_path: Path, each_server: EngineDatabase
) -> None:
    """Both must wait for a third, so they are there at the same moment; then one for the other."""
    url = each_server.url
    file = tmp_path / "there.toml"
    file.write_text(f'timescale.url = "{url}"\n')
    program = [sys.executable, "-m", "alembic", "-x", f"config={file}", "upgrade", "head"]
    with psycopg.connect(each_server.libpq_url, autocommit=True) as third:
        name = (lock_name(each_server.schema, "alembic_version"),)
        third.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", name)
        both = [
            subprocess.Popen(program, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)
        ]
        waited = [each.stderr.readline() for each in both if each.stderr]
        third.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", name)
    said = [each.communicate(timeout=PATIENCE_S)[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert waited == ["another process is migrating: waiting for it\n"] * 2
    with psycopg.connect(each_server.libpq_url) as connection:
        count = connection.execute("SELECT count(*) FROM mart.alembic_version").fetchone()
    assert count == (1,)
    command.check(alembic_config(settings_for(url)))


@pytest.fixture
async def writing(each_server: EngineDatabase) -> AsyncIterator[AsyncEngine]:
    """An engine on a migrated mart."""
    await asyncio.to_thread(migrate, each_server.url)
    async with engine_on(each_server.url) as engine:
        yield engine


async def test_writers_go_on_while_a_migration_waits_for_a_reader(
    tmp_path: Path, each_server: EngineDatabase, writing: AsyncEngine
) -> None:
    """It lets its place in the queue go again and again, and comes through when the reader ends."""
    sink = kline_sink(writing, Register())
    assert (await sink.write([candle(0)])).written == 1
    release = successor.project(tmp_path, each_server.url)
    await asyncio.to_thread(release.revision, successor.models())

    async with writing.connect() as reader, asyncio.timeout(PATIENCE_S):
        await reader.scalar(sa.select(sa.func.count()).select_from(KLINES))  # and holds its lock
        upgrade = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.migrations.successor"),
            *(tmp_path, each_server.url, "--lock-timeout-s", "0.2"),
            cwd=ROOT,
            stdout=PIPE,
        )
        async with ended(upgrade):
            assert upgrade.stdout
            for minute in range(1, 4):
                await until_it_tries_again(upgrade.stdout)
                assert (await sink.write([candle(minute)])).written == 1
            assert upgrade.returncode is None
            await reader.rollback()
            await upgrade.communicate()
    assert upgrade.returncode == 0
    assert (await sink.write([candle(4)])).written == 1
    async with writing.connect() as connection:
        found = await connection.execute(
            sa.text("SELECT base_rows, mean_close FROM mart.agg__kline_1h")
        )
        assert [tuple(row) for row in found] == [(5, 105.0)]


async def until_it_tries_again(said: asyncio.StreamReader) -> None:
    """Read what the migration says up to that it gave way."""
    while b"trying again" not in (line := await said.readline()):
        assert line, "it ended"
