"""``ravenwh policies`` and ``ravenwh timescale adopt``, as an operator uses them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import click
import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.util import CommandError
from click.testing import CliRunner
from psycopg import sql

from ravenwh.app.preflight import alembic_config
from ravenwh.cli import alembic, doctor, policies, timescale
from ravenwh.config import load
from ravenwh.domain.errors import Refused, SchemaMismatch
from ravenwh.domain.register import Register
from ravenwh.domain.series import TimeRange
from ravenwh.schema import ROLLUPS
from ravenwh.sources.simulator import SimulatedMarket
from tests.conftest import engine_on
from tests.engines.fixtures import EngineDatabase
from tests.programs import Programs
from tests.warehouse.conftest import kline_sink

OTHER = """
[timescale.policies.fact__kline]
retention = "400 days"
columnstore_after = "never"
[timescale.policies.agg__kline_1h]
refresh_start = "3 days"
"""
CHANGES = [
    "fact__kline: columnstore 14 days -> none",
    "fact__kline: retention none -> 400 days",
    "agg__kline_1h: refresh 2 days to 1 hour, every 15 minutes -> "
    "3 days to 1 hour, every 15 minutes",
]
RELATIONS = (*(f"agg__kline_{code}" for code in ROLLUPS), "fact__kline", "kline_1d")


@attrs.frozen(kw_only=True)
class Desk:
    """A folder whose settings lead to a database."""

    folder: Path
    url: str

    def says(self, more: str = "", engine: str = "auto") -> None:
        """Write the settings."""
        text = f'[timescale]\nurl = "{self.url}"\nengine = "{engine}"\n{more}'
        (self.folder / "ravenwh.toml").write_text(text)

    def run(self, used: click.Command, *arguments: str, code: int = 0) -> str:
        """What a command prints; an error of ours is raised."""
        result = CliRunner().invoke(used, arguments)
        if isinstance(result.exception, Exception):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output

    def show(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The policies by relation and kind."""
        result = CliRunner().invoke(policies.command, ["show", "--json"])
        told = json.loads(result.output)
        found = {(one["relation"], one["policy"]): one for one in told["policies"]}
        assert result.exit_code == int(any(one["differs"] for one in found.values()))
        return found

    def check(self) -> None:
        """``alembic check`` with these settings."""
        command.check(alembic_config(load()))

    def migrate(self) -> None:
        """``alembic upgrade head`` with these settings."""
        command.upgrade(alembic_config(load()), "head")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(query))
            return list(cursor.fetchall()) if cursor.description else []


@pytest.fixture
def desk_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return lambda url: Desk(folder=tmp_path, url=url.replace("+asyncpg", ""))


def test_what_the_settings_say_is_shown_written_and_clean(
    each_community: EngineDatabase, desk_for: Any
) -> None:
    desk: Desk = desk_for(each_community.url)
    desk.says()
    desk.migrate()
    assert desk.run(policies.command, "apply") == (
        "the policies are as the models and the settings say\n"
    )
    as_declared = desk.show()
    assert as_declared["fact__kline", "columnstore"]["found"] == "14 days"
    assert ("fact__kline", "retention") not in as_declared

    desk.says(OTHER)
    with pytest.raises(CommandError, match="add_retention_policy"):
        desk.check()
    lines = desk.run(policies.command, "show", code=1).splitlines()
    table = {tuple(line.split()[:2]): " ".join(line.split()[2:]) for line in lines}
    assert table["fact__kline", "retention"] == "400 days (settings) differs: none - - -"
    assert table["fact__kline", "columnstore"] == "none (settings) differs: 14 days - - -"
    assert table["fact__vpin", "columnstore"] == "14 days as wanted - - -"
    assert "policies" in {
        finding["check"]
        for finding in json.loads(desk.run(doctor.command, "--json"))
        if not finding["ok"] and not finding["required"]
    }

    assert desk.run(policies.command, "apply").splitlines() == CHANGES
    found = desk.show()
    assert found["fact__kline", "retention"]["found"] == "400 days"
    assert found["fact__kline", "columnstore"]["found"] is None
    assert found["fact__kline", "columnstore"]["declared"] == "14 days"
    desk.check()
    assert desk.run(policies.command, "apply") == (
        "the policies are as the models and the settings say\n"
    )
    assert "ok   policies: as the models" in desk.run(doctor.command)

    desk.says()
    assert len(desk.run(policies.command, "apply").splitlines()) == len(CHANGES)
    assert desk.show() == as_declared
    desk.check()


def test_how_the_jobs_run_is_shown(each_community: EngineDatabase, desk_for: Any) -> None:
    """The counts are put where TimescaleDB keeps them."""
    desk: Desk = desk_for(each_community.url)
    desk.says('schema = "wh_x"\n')
    desk.migrate()
    desk.rows("""
        INSERT INTO _timescaledb_internal.bgw_job_stat
        SELECT job_id, '2024-05-01 12:00Z', '2024-05-01 12:01Z', '2024-05-01 12:30Z',
               '-infinity', false, 5, '5s', '2s', 3, 2, 0, 1, 0
        FROM timescaledb_information.jobs WHERE hypertable_name = 'agg__kline_1h'
          AND proc_name = 'policy_refresh_continuous_aggregate'
        ON CONFLICT (job_id) DO UPDATE SET last_start = EXCLUDED.last_start,
            next_start = EXCLUDED.next_start, total_runs = 5, total_failures = 2""")
    found = desk.show()["agg__kline_1h", "refresh"]
    assert (found["runs"], found["failures"]) == (5, 2)
    assert found["last_run"] == "2024-05-01T12:00:00+00:00"
    assert found["next_run"] == "2024-05-01T12:30:00+00:00"
    (line,) = (
        line
        for line in desk.run(policies.command, "show").splitlines()
        if line.startswith("agg__kline_1h") and " refresh " in line
    )
    assert line.endswith("2024-05-01 12:00  2024-05-01 12:30  2 of 5")


def test_without_timescaledb_there_are_none_and_that_is_no_failure(
    mart_url: str, desk_for: Any
) -> None:
    desk: Desk = desk_for(mart_url)
    desk.says(OTHER)
    told = "there are no policies here: TimescaleDB is not installed on the server"
    assert desk.run(policies.command, "apply") == f"{told}\n"
    shown = desk.run(policies.command, "show").splitlines()
    assert shown[0] == told
    assert any("400 days (settings)" in line for line in shown)
    assert desk.show()["fact__kline", "retention"]["differs"] is False
    assert "ok   policies: none, there is no level community here" in desk.run(doctor.command)
    desk.check()


def test_a_database_that_was_not_migrated_is_told_so(database: str, desk_for: Any) -> None:
    desk: Desk = desk_for(database)
    desk.says()
    for used, name in ((policies, "show"), (policies, "apply"), (timescale, "adopt")):
        with pytest.raises(SchemaMismatch, match="run `ravenwh alembic upgrade head`"):
            desk.run(used.command, name)


def test_a_mart_made_without_timescaledb_is_adopted(
    each_community: EngineDatabase, desk_for: Any
) -> None:
    """Rows and rollups are the same afterwards, and nothing differs from what is declared."""
    desk: Desk = desk_for(each_community.url)
    desk.says(engine="none")
    desk.migrate()
    asyncio.run(fill(each_community.url))
    before = {name: everything(desk, name) for name in RELATIONS}
    assert len(before["fact__kline"]) == 2 * 3 * 1440
    with pytest.raises(Refused, match=r'timescale\.engine says "none"'):
        desk.run(timescale.command, "adopt")

    desk.says(OTHER)
    told = desk.run(policies.command, "apply")
    assert "was migrated at level none: bring it over with `ravenwh timescale adopt`" in told
    desk.check()
    lines = desk.run(timescale.command, "adopt").splitlines()
    assert "create_hypertable fact__kline: time_column=open_time, chunk_interval=7 days" in lines
    assert "add_retention_policy fact__kline: drop_after=400 days" in lines
    assert lines[-2].startswith(f"adopted: {len(lines) - 2} steps in ")
    for name in RELATIONS:  # sums of floats are no longer added up in the same order
        after = everything(desk, name)
        assert after.keys() == before[name].keys(), name
        assert all(
            after[key] == pytest.approx(floats, rel=1e-12) for key, floats in before[name].items()
        )
    assert everything(desk, "fact__kline") == before["fact__kline"]
    desk.check()
    desk.says(OTHER, engine="community")
    desk.check()
    assert desk.run(timescale.command, "adopt") == (
        "nothing to adopt: the mart is made with TimescaleDB already\n"
    )
    (chunks,) = desk.rows("SELECT count(*) FROM show_chunks('mart.fact__kline')")
    assert chunks == (2,)
    (stored,) = desk.rows(
        "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
        " FROM timescaledb_information.continuous_aggregates WHERE view_name = 'agg__kline_1h'"
    )
    assert desk.rows(f"SELECT count(*) FROM {stored[0]}") == [(2 * 3 * 24,)]  # noqa: S608  its name
    assert not any(one["differs"] for one in desk.show().values())


async def fill(url: str) -> None:
    days = TimeRange(start=datetime(2024, 1, 2, tzinfo=UTC), end=datetime(2024, 1, 5, tzinfo=UTC))
    async with engine_on(url) as engine:
        sink = kline_sink(engine, Register())
        for symbol in ("BTCUSDT", "ETHUSDT"):
            market = SimulatedMarket(symbol=symbol, venue="BINANCE_SPOT")
            result = await sink.write(list(market.klines("1m", days)))
            assert result.rejected == ()


def everything(desk: Desk, relation: str) -> dict[str, tuple[Any, ...]]:
    """The rows of a relation, by what is no float in them."""
    return {
        repr([value for value in row if not isinstance(value, float)]): tuple(
            value for value in row if isinstance(value, float)
        )
        for row in desk.rows(f"TABLE mart.{relation}")
    }


def test_there_is_nothing_to_adopt_without_timescaledb(mart_url: str, desk_for: Any) -> None:
    desk: Desk = desk_for(mart_url)
    desk.says()
    with pytest.raises(Refused, match="nothing to adopt: TimescaleDB is not installed"):
        desk.run(timescale.command, "adopt")


async def test_init_writes_the_policies_too(
    native_timescale: EngineDatabase, tmp_path: Path
) -> None:
    world = Programs(folder=tmp_path)
    world.configure(f'timescale.url = "{native_timescale.libpq_url}"\n{OTHER}')
    await world.run("ravenwh", "alembic", "upgrade", "head")
    planned, _ = await world.run("runners.init", "--dry-run")
    assert [f"plan: {change}" for change in CHANGES] == planned.splitlines()[-len(CHANGES) :]
    first, _ = await world.run("runners.init")
    assert first.splitlines()[-len(CHANGES) :] == CHANGES
    second, err = await world.run("runners.init")
    assert " -> " not in second
    assert "policies" not in second + err


async def test_two_that_apply_at_the_same_moment_both_end_well(
    native_timescale: EngineDatabase, tmp_path: Path
) -> None:
    world = Programs(folder=tmp_path)
    world.configure(f'timescale.url = "{native_timescale.libpq_url}"\n{OTHER}')
    await world.run("ravenwh", "alembic", "upgrade", "head")
    await asyncio.gather(*(world.run("ravenwh", "policies", "apply") for _ in range(2)))
    await world.run("ravenwh", "policies", "show")


@contextmanager
def role_that_writes_rows(url: str) -> Iterator[str]:
    """The URL of a role that has a runner's rights and owns nothing."""
    name = f"writer_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as owner:
        role = sql.Identifier(name)
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'writes'").format(role))
        try:
            owner.execute(sql.SQL("GRANT USAGE ON SCHEMA mart TO {}").format(role))
            owner.execute(
                sql.SQL("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA mart TO {}").format(
                    role
                )
            )
            there = sa.make_url(url).set(username=name, password="writes")
            yield there.render_as_string(hide_password=False)
        finally:
            owner.execute(sql.SQL("DROP OWNED BY {}").format(role))
            owner.execute(sql.SQL("DROP ROLE {}").format(role))


async def test_a_role_that_owns_nothing_sees_and_is_told_who_writes(
    native_timescale: EngineDatabase, tmp_path: Path
) -> None:
    """And the runners' init goes on without."""
    url = native_timescale.libpq_url
    world = Programs(folder=tmp_path).configure(f'timescale.url = "{url}"\n')
    await world.run("ravenwh", "alembic", "upgrade", "head")
    with role_that_writes_rows(url) as theirs:
        world.configure(f'timescale.url = "{theirs}"\n{OTHER}')
        out, _ = await world.run("ravenwh", "policies", "show", code=1)
        assert "differs: 14 days" in out
        _, err = await world.run("ravenwh", "policies", "apply", code=1)
        assert "must be owner of" in err
        assert "by the role that owns the tables" in err
        out, err = await world.run("runners.init")
        assert "coin: " in out
        assert "the policies were left as they are" in err


def test_the_longest_times_can_be_counted_back_from_now(mart_url: str, desk_for: Any) -> None:
    desk: Desk = desk_for(mart_url)
    years = "200 years 2400 months 10400 weeks 73000 days 99999 hours 99999 minutes 99999 seconds"
    desk.says(f'policies.fact__kline.retention = "{years}"\n')
    assert load().timescale.policy_times == {"fact__kline": {"retention": years}}
    assert desk.rows(f"SELECT now() - INTERVAL '{years}' > '-infinity'") == [(True,)]


def test_sql_is_printed_for_a_level_that_is_stated(mart_url: str, desk_for: Any) -> None:
    desk: Desk = desk_for(mart_url)
    desk.says()
    with pytest.raises(Refused, match=r"must be stated: say alembic -x engine=community"):
        desk.run(alembic.command, "upgrade", "head", "--sql")
    assert "create_hypertable" in printed(desk, "-x", "engine=community")
    assert "create_hypertable" not in printed(desk, "-x", "engine=none")
    desk.says(engine="community")
    assert "create_hypertable" in printed(desk)


def printed(desk: Desk, *options: str) -> str:
    return desk.run(alembic.command, *options, "upgrade", "head", "--sql")
