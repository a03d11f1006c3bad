"""``ravenwh refresh`` as an operator runs it, and the runner that does it by itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from ravenwh.cli.refresh import command
from ravenwh.domain.register import Register
from tests.app.test_refresh import Mart, hours, late, mart_on, until
from tests.conftest import migrate
from tests.engines.fixtures import EngineDatabase
from tests.programs import Programs
from tests.publish import publish_to
from tests.warehouse.compressed import rollups_are_right
from tests.warehouse.conftest import kline_sink


def programs_on(folder: Path, url: str, settings: str = "") -> Programs:
    return Programs(folder=folder).configure(f"timescale.url = {json.dumps(url)}\n{settings}")


@pytest.fixture
def community_url(each_community: EngineDatabase) -> str:
    migrate(each_community.url)
    return each_community.url


@pytest.fixture
def native_url(native_timescale: EngineDatabase) -> str:
    migrate(native_timescale.url)
    return native_timescale.url


def run(folder: Path, *arguments: str, code: int = 0) -> Result:
    """The command in this process, with the settings of a folder."""
    result = CliRunner().invoke(command, ["--config", str(folder / "ravenwh.toml"), *arguments])
    assert result.exit_code == code, result.output
    return result


async def filled(url: str) -> Mart:
    """Thirty days of klines."""
    async with mart_on(url) as mart:
        await mart.sink.write(hours(30 * 24))
        return mart


def test_what_is_due_and_a_range(tmp_path: Path, community_url: str) -> None:
    mart = asyncio.run(filled(community_url))
    programs_on(tmp_path, community_url)
    done = run(tmp_path, "--due").stdout
    assert "agg__kline_1w: 2023-12-25 00:00 to " in done
    assert done.splitlines()[-1].startswith("refreshed 7 rollups in ")
    assert done.endswith("; 30 days that had been due\n")
    again = run(tmp_path, "--due")
    assert (again.stdout, again.stderr) == ("nothing to refresh: nothing is due\n", "")
    done = run(tmp_path, "--from", "2024-01-05", "--to", "2024-01-05T02:00").stdout
    assert done.splitlines() == [
        "agg__kline_5m: 2024-01-05 00:00 to 2024-01-05 02:00",
        "agg__kline_15m: 2024-01-05 00:00 to 2024-01-05 02:00",
        "agg__kline_30m: 2024-01-05 00:00 to 2024-01-05 02:00",
        "agg__kline_1h: 2024-01-05 00:00 to 2024-01-05 02:00",
        "agg__kline_4h: 2024-01-05 00:00 to 2024-01-05 04:00",
        "agg__kline_1d: 2024-01-05 00:00 to 2024-01-06 00:00",
        "agg__kline_1w: 2024-01-01 00:00 to 2024-01-08 00:00",
        "refreshed 7 rollups in 7 steps",
    ]
    mart.do("SELECT drop_chunks('mart.fact__kline', older_than => TIMESTAMPTZ '2024-01-11')")
    done = run(tmp_path, "--to", "2024-01-10").stdout
    kept = "agg__kline_1h: 2024-01-01 00:00 to 2024-01-10 00:00 is left as it is"
    assert f"{kept}, the rows that it was made of are gone" in done
    nothing = run(tmp_path, "--from", "2099-01-01").stdout
    assert nothing == "nothing to refresh in this range\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "yesterday"), "found 'yesterday', allowed are dates and times as 2024-01-31"),
        (("--to", "2024-02-30"), "Invalid value for '--to': found '2024-02-30'"),
        (("--due", "--to", "2024-01-01"), "leave out --from and --to"),
        (
            ("--from", "2024-01-02", "--to", "2024-01-02T00:00:00Z"),
            "--from 2024-01-02T00:00:00+00:00 must be before --to 2024-01-02T00:00:00+00:00",
        ),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(command, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


async def test_views_need_no_refresh(tmp_path: Path, mart_url: str) -> None:
    programs = programs_on(tmp_path, mart_url)
    assert await programs.run("ravenwh", "refresh", "--due") == (
        "nothing to refresh: the rollups are plain views here, and always up to date\n",
        "",
    )


async def test_a_database_without_tables_is_refused(tmp_path: Path, database: str) -> None:
    _, err = await programs_on(tmp_path, database).run("ravenwh", "refresh", code=1)
    assert "this version needs" in err
    assert "ravenwh alembic upgrade head" in err


async def test_it_says_who_may(tmp_path: Path, native_url: str) -> None:
    async with mart_on(native_url) as mart:
        await mart.sink.write(hours(1))
    mart.do("CREATE ROLE refresher LOGIN PASSWORD 'first'")
    try:
        mart.do("GRANT USAGE ON SCHEMA mart TO refresher")
        mart.do("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mart TO refresher")
        with psycopg.connect(mart.libpq_url) as connection:
            info = connection.info
            url = f"postgresql://refresher:first@{info.host}:{info.port}/{info.dbname}"
        _, err = await programs_on(tmp_path, url).run("ravenwh", "refresh", code=1)
        assert "must be owner of view agg__kline_5m" in err
    finally:
        mart.do("DROP OWNED BY refresher")
        mart.do("DROP ROLE refresher")


async def test_the_kline_runner_refreshes_by_itself(tmp_path: Path, native_url: str) -> None:
    endpoint = f"ipc://{tmp_path}/feed"
    settings = f"""
        timescale.refresh_due_every_s = 1
        journal.dir = "journal"
        feeds.default.endpoint = "{endpoint}"
        binance_klines.interval = "1h"
    """
    klines = hours(72)
    late_lows = "SELECT count(*) FROM mart.fact__kline WHERE low < 50"
    async with mart_on(native_url) as mart:
        await kline_sink(mart.engine, Register()).write(klines)
        mart.do("CALL refresh_continuous_aggregate('mart.agg__kline_1h', NULL, NULL)")
        mart.do("CALL refresh_continuous_aggregate('mart.agg__kline_1d', NULL, NULL)")
        async with programs_on(tmp_path, native_url, settings).kline_runner() as runner:
            await publish_to(endpoint, [late(one) for one in klines[10:60:24]])
            await until(lambda: mart.do(late_lows) == 3)
            await runner.until(lambda log: " REFRESHED " in log)
            await until(lambda: mart.do("SELECT count(*) FROM mart.ops__refresh_due") == 0)
        await rollups_are_right(mart.engine)
        assert mart.do("SELECT min(low) FROM mart.agg__kline_1w") < 50
