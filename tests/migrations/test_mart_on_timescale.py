"""The mart's migrations where there is TimescaleDB, with klines in it, some stored by column."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from psycopg import sql

from ravenwh.app.preflight import alembic_config
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.schema import ROLLUPS, VIEWS
from tests.conftest import ROOT, engine_on, migrate, settings_for
from tests.engines.fixtures import EngineDatabase
from tests.warehouse.conftest import candle, kline_sink

DAYS = 20
OLD = datetime(2024, 1, 12, tzinfo=UTC)
LEFT = """
SELECT 'hypertable ' || hypertable_name FROM timescaledb_information.hypertables
UNION ALL SELECT 'job ' || job_id FROM timescaledb_information.jobs WHERE job_id >= 1000
UNION ALL SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = '_timescaledb_internal' AND relname ~ '^_(hyper|materialized|direct|partial)'
UNION ALL SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = 'mart' AND relkind IN ('r', 'v', 'm')
"""


def klines() -> list[Candle]:
    """Two series of some weeks; every seventh minute, so that no bucket is whole."""
    return [
        candle(minute, symbol=symbol, close=90 + minute % 20 + share, volume=share * minute)
        for minute in range(0, DAYS * 1440, 7)
        for symbol, share in (("BTCUSDT", 0.25), ("ETHUSDT", 0.75))
    ]


async def write(database: EngineDatabase) -> None:
    messages = klines()
    async with engine_on(database.url) as engine:
        result = await kline_sink(engine, Register()).write(messages)
    assert result.written == len(messages)


def rows(
    database: EngineDatabase, query: str | sql.Composed, *values: Any
) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.libpq_url, autocommit=True) as connection:
        found = connection.execute(query, values or None)  # type: ignore[arg-type]
        return found.fetchall() if found.description else []


def views(database: EngineDatabase) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of every view of klines, by its name, but for when they were written."""
    query = sql.SQL("SELECT {} FROM mart.{} ORDER BY coin, open_time")
    found = {}
    for name, view in VIEWS.items():
        if name.startswith("kline_"):
            shown = sql.SQL(", ").join(
                sql.Identifier(column.name) for column in view.c if column.name != "ingested_at"
            )
            found[name] = rows(database, query.format(shown, sql.Identifier(name)))
    return found


def test_clean_with_data_the_same_rows_and_nothing_left(
    each_community: EngineDatabase, embedded: EngineDatabase
) -> None:
    """Clean with chunks stored by column; stock PostgreSQL's rows; down to nothing and up again."""
    for database in (each_community, embedded):
        migrate(database.url)
        asyncio.run(write(database))
    old = "SELECT compress_chunk(c) FROM show_chunks('mart.fact__kline', older_than => %s) AS c"
    assert len(rows(each_community, old, OLD)) == 2
    config = alembic_config(settings_for(each_community.url))
    command.upgrade(config, "head")
    command.check(config)

    found, expected = views(each_community), views(embedded)
    assert len(found) == 8
    assert all(len(each) >= 2 * DAYS // 7 for each in found.values())
    assert found == expected

    migrate(each_community.url, "base")
    assert rows(each_community, LEFT) == [("alembic_version",)]
    migrate(each_community.url)
    command.check(config)


def test_alembic_check_tells_scripts_by_its_exit_code(
    each_community: EngineDatabase, tmp_path: Path
) -> None:
    migrate(each_community.url)
    file = tmp_path / "there.toml"
    file.write_text(f'timescale.url = "{each_community.url}"\n')
    rows(each_community, "SELECT set_chunk_time_interval('mart.fact__vpin', INTERVAL '1 day')")
    rows(each_community, "DROP MATERIALIZED VIEW mart.agg__kline_1w CASCADE")
    program = [sys.executable, "-m", "ravenwh", "alembic", "--config", file, "check"]
    found = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode != 0
    told = found.stdout + found.stderr
    assert "set_chunk_interval" in told
    assert "create_continuous_aggregate" in told


def test_the_printed_sql_makes_the_same_mart(
    each_community: EngineDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    """Printed for an engine that is stated with -x, and run as psql would run it."""
    url = each_community.url
    config = alembic_config(settings_for(url))
    config.cmd_opts = argparse.Namespace(x=["engine=community"])
    command.upgrade(config, "head", sql=True)
    script = capsys.readouterr().out
    assert "SELECT create_hypertable('mart.fact__kline'" in script
    assert script.count("WITH NO DATA") == len(ROLLUPS)
    assert "CALL refresh_continuous_aggregate" not in script
    rows(each_community, script)
    command.check(alembic_config(settings_for(url)))
