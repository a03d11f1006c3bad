"""The migrations: up, down, nothing left, nothing to add, under any schema name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.util import CommandError

from ravenwh.app.preflight import alembic_config
from ravenwh.schema import Base
from tests.conftest import ROOT, migrate, settings_for

RELATIONS = """
    SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND relkind IN ('r', 'v')
    ORDER BY 1
"""


def relations(url: str) -> list[str]:
    with psycopg.connect(url.replace("+asyncpg", "")) as connection:
        return [str(name) for (name,) in connection.execute(RELATIONS)]


def test_up_checks_clean_and_down_leaves_nothing_but_the_version(database: str) -> None:
    migrate(database)
    declared = {f"mart.{table.name}" for table in Base.metadata.tables.values()}
    assert set(relations(database)) == declared | {"mart.alembic_version"}
    command.check(alembic_config(settings_for(database)))
    migrate(database, "base")
    assert relations(database) == ["mart.alembic_version"]
    migrate(database)
    command.check(alembic_config(settings_for(database)))


def test_another_schema_name(database: str) -> None:
    config = alembic_config(settings_for(database, timescale={"url": database, "schema": "wh_x"}))
    command.upgrade(config, "head")
    command.check(config)
    assert {name.partition(".")[0] for name in relations(database)} == {"wh_x"}
    command.downgrade(config, "base")
    assert relations(database) == ["wh_x.alembic_version"]


@pytest.mark.parametrize(
    "drift",
    [
        "ALTER TABLE mart.fact__kline DROP COLUMN quote_volume CASCADE",
        "ALTER TABLE mart.dim__coin ALTER COLUMN coin DROP NOT NULL",
        "DROP INDEX mart.ix_fact__kline_open_time",
        "ALTER TABLE mart.fact__vpin ALTER COLUMN vpin TYPE real",
        "DROP VIEW mart.kline_1d",
        "ALTER TABLE mart.dim__symbol DROP CONSTRAINT fk_dim__symbol_coin_id",
    ],
)
def test_drift_is_seen(mart_url: str, drift: str) -> None:
    with psycopg.connect(mart_url.replace("+asyncpg", ""), autocommit=True) as connection:
        connection.execute(drift)  # type: ignore[call-overload]  # a literal of this file
    with pytest.raises(CommandError, match="New upgrade operations detected"):
        command.check(alembic_config(settings_for(mart_url)))


def test_every_constraint_has_a_name_that_tells_what_it_is() -> None:
    for table in Base.metadata.sorted_tables:
        for constraint in table.constraints:
            assert str(constraint.name).startswith(("pk_", "fk_", "uq_", "ck_")), constraint
            assert table.name in str(constraint.name)


def test_the_printed_sql_makes_the_same_mart(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = {"url": database, "engine": "none"}
    command.upgrade(alembic_config(settings_for(database, timescale=plain)), "head", sql=True)
    script = capsys.readouterr().out
    assert "CREATE SCHEMA IF NOT EXISTS mart" in script
    with psycopg.connect(database.replace("+asyncpg", ""), autocommit=True) as connection:
        connection.execute(script)  # type: ignore[call-overload]  # what Alembic printed
    command.check(alembic_config(settings_for(database)))


def test_the_printed_sql_has_the_schema_name_of_the_settings(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"url": database, "schema": "wh_x", "engine": "none"}
    config = alembic_config(settings_for(database, timescale=other))
    command.upgrade(config, "head", sql=True)
    script = capsys.readouterr().out
    assert "wh_x.fact__kline" in script
    assert "mart." not in script


def test_plain_alembic_in_a_checkout_takes_the_settings_file(tmp_path: Path, database: str) -> None:
    file = tmp_path / "there.toml"
    file.write_text(f'timescale.url = "{database}"\n')
    for arguments in (["upgrade", "head"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "alembic", "-x", f"config={file}", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "mart.fact__kline" in relations(database)
