"""The engines that tests are run on: they are what they are called, and the mart works on each."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from alembic import command

from ravenwh.app.preflight import alembic_config
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.schema import KLINES
from ravenwh.timescale import level
from ravenwh.warehouse.bar_sink import BarSink
from tests.conftest import ROOT, engine_on, migrate, settings_for, skip_or_fail
from tests.engines import native
from tests.engines.fixtures import EngineDatabase
from tests.engines.native import NativeServer, find_installed, named_server
from tests.engines.node import Missing
from tests.engines.report import pytest_report_header
from tests.warehouse.bars import bar
from tests.warehouse.conftest import START, candle, kline_sink, rows

PRESENT = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname IN ('mart', 'wh_x') AND relkind IN ('r', 'v') ORDER BY 1
"""


@pytest.fixture
def each_mart(each_engine: EngineDatabase) -> EngineDatabase:
    """A migrated mart on each engine."""
    migrate(each_engine.url)
    return each_engine


def relations(place: EngineDatabase) -> list[str]:
    with psycopg.connect(place.libpq_url) as connection:
        return [name for (name,) in connection.execute(PRESENT)]


async def test_an_engine_has_the_level_that_it_says(each_engine: EngineDatabase) -> None:
    async with engine_on(each_engine.url) as engine, engine.connect() as connection:
        found = await level.detect(connection)
    assert found.level == each_engine.level
    assert (found.timescaledb is not None) == (each_engine.level == "community")


def test_a_test_is_marked_with_its_engine(
    request: pytest.FixtureRequest, each_engine: EngineDatabase
) -> None:
    marks = {mark.name for mark in request.node.iter_markers()}
    expected = {"embedded": "postgres", "wasm": "timescale", "native": "timescale_server"}
    assert marks & set(expected.values()) == {expected[each_engine.engine]}


def test_the_mart_goes_up_checks_clean_and_goes_down(each_engine: EngineDatabase) -> None:
    assert relations(each_engine) == []
    migrate(each_engine.url)
    assert "mart.fact__kline" in relations(each_engine)
    command.check(alembic_config(settings_for(each_engine.url)))
    migrate(each_engine.url, "base")
    assert relations(each_engine) == ["mart.alembic_version"]


def test_the_mart_under_another_name(each_engine: EngineDatabase) -> None:
    url = each_engine.url
    config = alembic_config(settings_for(url, timescale={"url": url, "schema": "wh_x"}))
    command.upgrade(config, "head")
    command.check(config)
    assert {name.partition(".")[0] for name in relations(each_engine)} == {"wh_x"}


async def test_klines_are_written_and_corrected(each_mart: EngineDatabase) -> None:
    klines: list[Candle] = [candle(minute) for minute in range(6000)]
    async with engine_on(each_mart.url) as engine:
        sink = kline_sink(engine, Register())
        assert (await sink.write(klines)).written == 6000
        assert (await sink.write(klines)).unchanged == 6000
        twice = [candle(close=107.0), candle(close=106.0, event_time=START + 10**12)]
        result = await sink.write(twice)
        assert (result.written, result.folded) == (1, 1)
        found = await rows(engine, KLINES.c.close, KLINES.c.revised_at)
    assert found[0].close == 106.0
    assert found[0].revised_at is not None
    assert {tuple(row) for row in found[1:]} == {(105.0, None)}


async def test_bars_are_written_and_corrected(each_mart: EngineDatabase) -> None:
    """Also into what is stored by column already."""
    bars = [bar(at, seq, profile="trb_x") for at in range(500) for seq in range(2)]
    async with engine_on(each_mart.url) as engine:
        sink = BarSink.into_all(engine, Register())
        assert (await sink.write(bars)).written == 1000
        if each_mart.level == "community":
            with psycopg.connect(each_mart.libpq_url, autocommit=True) as connection:
                connection.execute("""
                    DO $$ DECLARE c regclass; BEGIN
                    FOR c IN SELECT show_chunks('mart.fact__tick_run') LOOP
                    CALL convert_to_columnstore(c); END LOOP; END $$
                """)
        assert (await sink.write(bars)).unchanged == 1000
        later = START + 10**12
        changed = bar(7, 1, profile="trb_x", theta=43.0, event_time=later)
        result = await sink.write([changed, bar(7, 2, profile="trb_x")])
        assert result.written == 2
    with psycopg.connect(each_mart.libpq_url) as connection:
        found = connection.execute("""
            SELECT bar_seq, theta, revised_at IS NULL FROM mart.fact__tick_run
            WHERE open_time = '2024-01-01 00:00:00.007+00' ORDER BY bar_seq
        """).fetchall()
    assert found == [(0, 42.0, True), (1, 43.0, False), (2, 42.0, True)]


def test_on_the_native_one_clients_work_at_the_same_moment(
    native_timescale: EngineDatabase,
) -> None:
    with (
        psycopg.connect(native_timescale.libpq_url) as one,
        psycopg.connect(native_timescale.libpq_url) as other,
    ):
        pids = {c.execute("SELECT pg_backend_pid()").fetchone() for c in (one, other)}
        assert len(pids) == 2


def test_the_header_names_every_engine() -> None:
    assert re.fullmatch(
        r"engines: embedded PostgreSQL \d+\.\d+; (no )?TimescaleDB .*; (no )?native TimescaleDB.*",
        pytest_report_header(),
    )


def test_a_dsn_that_leads_nowhere_is_told(pg_server: object) -> None:
    with pytest.raises(Missing, match="the server of RAVENWH_TEST_TIMESCALE_DSN does not answer"):
        named_server("postgresql://postgres@127.0.0.1:1/postgres")


def test_a_dsn_without_timescaledb_is_told(embedded: EngineDatabase) -> None:
    with pytest.raises(Missing, match="does not have TimescaleDB"):
        named_server(embedded.url)


def test_a_local_postgresql_without_the_extension_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(native.DSN, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match="DSN is not set, and no pg_config on PATH"):
        find_installed()
    for name in ("postgres", "initdb"):
        (tmp_path / name).touch()
    program = tmp_path / "pg_config"
    program.write_text(
        f"#!/bin/sh\nprintf '%s\\n' {tmp_path} {tmp_path} {tmp_path} 'PostgreSQL 17'\n"
    )
    program.chmod(0o755)
    with pytest.raises(Missing, match="the local PostgreSQL 17 has no TimescaleDB"):
        find_installed()


def test_a_named_server_is_taken(native_server: NativeServer) -> None:
    assert named_server(native_server.dsn) == native_server


def test_what_is_required_fails_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.conftest.REQUIRED", frozenset({"timescale_server"}))
    required = "timescale_server is required by RAVENWH_TEST_REQUIRE, but it is away"
    with pytest.raises(pytest.fail.Exception, match=required):
        skip_or_fail("timescale_server", "it is away")
    with pytest.raises(pytest.skip.Exception, match="it is away"):
        skip_or_fail("timescale", "it is away")


def test_what_is_required_before_a_change_is_taken_is_what_tests_ask_for() -> None:
    """A name that none of them asks for would require nothing."""
    sources = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    asked = {name for text in sources for name in re.findall(r'skip_or_fail\("(\w+)"', text)}
    script = (ROOT / ".ci" / "run").read_text()
    found = re.findall(r"\brequired\+?=,?([\w,]+)$", script, re.MULTILINE)
    required = set(",".join(found).split(","))
    assert {"timescale", "timescale_server"} <= required <= asked
