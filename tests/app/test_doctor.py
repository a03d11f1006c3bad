"""``ravenwh doctor`` and ``runners.init``: every finding right, all of them in one run."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from tests.programs import Programs, free_ports


@contextmanager
def listening() -> Iterator[int]:
    """A port that a stranger holds; that of the metrics is free."""
    with closing(free_ports()) as free:
        port = next(free)
    with socket.create_server(("127.0.0.1", port)):
        yield port


def programs(folder: Path, url: str, more: str = "", **ports: int) -> Programs:
    settings = f'timescale.url = "{url}"\njournal.dir = "journal"\n{more}'
    return Programs(folder=folder).configure(settings, **ports)


async def doctor(world: Programs, *, code: int) -> dict[str, dict[str, Any]]:
    out, _ = await world.run("ravenwh", "doctor", "--json", code=code)
    return {finding["check"]: finding for finding in json.loads(out)}


def failed(findings: dict[str, dict[str, Any]]) -> set[str]:
    return {check for check, finding in findings.items() if not finding["ok"]}


async def test_all_is_well(tmp_path: Path, mart_url: str) -> None:
    findings = await doctor(programs(tmp_path, mart_url), code=0)
    assert failed(findings) == set()
    assert {"database", "engine", "migrations", "rights", "feeds"} <= set(findings)
    assert "ports of kline" in findings
    assert {"bucket", "streams"} & set(findings) == set()  # no ticks are written


async def test_no_server_a_port_of_a_stranger_and_a_shared_port_at_once(tmp_path: Path) -> None:
    with closing(free_ports()) as free:
        both = next(free)
    with listening() as port:
        world = programs(
            tmp_path,
            "postgresql://somebody:hidden@127.0.0.1:1/mart",
            kline_port=port,
            bar_port=both,
            tick_port=both,
        )
        findings = await doctor(world, code=1)
        text, _ = await world.run("ravenwh", "doctor", code=1)
    shared_ones = {f"port {both}", f"port {both + 1000}"}
    assert failed(findings) == {"database", "ports of kline"} | shared_ones
    assert "127.0.0.1:1" in findings["database"]["found"]
    assert "start the server" in findings["database"]["remedy"]
    assert f"{port} taken by another program" in findings["ports of kline"]["found"]
    assert "server.kline_port" in findings["ports of kline"]["remedy"]
    shared = findings[f"port {both}"]["found"]
    assert "two services on one port" in shared
    assert "bar" in shared
    assert "tick" in shared
    assert "hidden" not in text + json.dumps(findings)


async def test_a_wrong_password(tmp_path: Path, mart_url: str) -> None:
    url = sa.make_url(mart_url).set(password="wrong-one")
    findings = await doctor(programs(tmp_path, url.render_as_string(hide_password=False)), code=1)
    assert failed(findings) == {"database"}
    assert "password authentication failed" in findings["database"]["found"]
    assert "right password" in findings["database"]["remedy"]


async def test_a_database_that_is_not_there(tmp_path: Path, mart_url: str) -> None:
    url = sa.make_url(mart_url).set(database="nothing")
    findings = await doctor(programs(tmp_path, url.render_as_string(hide_password=False)), code=1)
    assert failed(findings) == {"database"}
    assert "createdb" in findings["database"]["remedy"]


async def test_a_level_that_is_not_there_an_old_schema_and_a_port_at_once(
    tmp_path: Path, database: str
) -> None:
    with listening() as port:
        findings = await doctor(
            programs(tmp_path, database, 'timescale.engine = "community"', tick_port=port), code=1
        )
    assert failed(findings) == {"engine", "migrations", "ports of tick"}
    assert "says community" in findings["engine"]["found"]
    assert "level none" in findings["engine"]["found"]
    assert "CREATE EXTENSION timescaledb" in findings["engine"]["remedy"]
    assert findings["migrations"]["found"].startswith("mart is at no revision, this version needs")
    assert findings["migrations"]["remedy"] == "ravenwh alembic upgrade head"


async def test_missing_rights(tmp_path: Path, mart_url: str) -> None:
    uri = mart_url.replace("+asyncpg", "")
    with psycopg.connect(uri, autocommit=True) as owner:
        owner.execute("DROP ROLE IF EXISTS reader")
        owner.execute("CREATE ROLE reader LOGIN PASSWORD 'reads'")
        owner.execute("GRANT USAGE ON SCHEMA mart TO reader")
        owner.execute("GRANT SELECT ON ALL TABLES IN SCHEMA mart TO reader")
        owner.execute("GRANT INSERT, UPDATE ON mart.dim__coin TO reader")
        try:
            url = sa.make_url(mart_url).set(username="reader", password="reads")
            findings = await doctor(
                programs(tmp_path, url.render_as_string(hide_password=False)), code=1
            )
        finally:
            owner.execute("DROP OWNED BY reader")
            owner.execute("DROP ROLE reader")
    assert failed(findings) == {"rights"}
    assert 'INSERT ON "mart"."fact__kline"' in findings["rights"]["found"]
    assert "dim__coin" not in findings["rights"]["found"]
    assert "GRANT" in findings["rights"]["remedy"]


async def test_a_venue_without_a_feed(tmp_path: Path, mart_url: str) -> None:
    findings = await doctor(
        programs(tmp_path, mart_url, 'routing.upstreams = { "BINANCE_SPOT:CANDLE" = "default" }'),
        code=1,
    )
    assert failed(findings) == {"feeds"}
    assert "BINANCE_FUTURES:CANDLE" in findings["feeds"]["found"]


async def test_a_running_runner_holds_its_own_ports(tmp_path: Path, mart_url: str) -> None:
    world = programs(tmp_path, mart_url)
    async with world.kline_runner():
        findings = await doctor(world, code=0)
    assert "held by our own runner kline" in findings["ports of kline"]["found"]


async def test_another_runner_of_ours_on_the_port_is_named(tmp_path: Path, mart_url: str) -> None:
    with closing(free_ports()) as free:
        port = next(free)
    async with programs(tmp_path, mart_url, kline_port=port).kline_runner():
        findings = await doctor(programs(tmp_path, mart_url, bar_port=port), code=1)
    assert f"{port + 1000} taken by our runner kline" in findings["ports of bar"]["found"]


async def test_init_seeds_nothing_while_a_finding_stands(tmp_path: Path, database: str) -> None:
    out, err = await programs(tmp_path, database).run("runners.init", code=1)
    assert "FAIL migrations" in out
    assert "mend it: ravenwh alembic upgrade head" in out
    assert "nothing was seeded" in err


async def test_init_twice_says_that_everything_existed(tmp_path: Path, mart_url: str) -> None:
    world = programs(tmp_path, mart_url, 'binance_klines.symbols = ["BTC/USDT"]')
    planned, _ = await world.run("runners.init", "--dry-run")
    first, log = await world.run("runners.init")
    second, again = await world.run("runners.init")
    assert "plan: coin: 1 added" in planned
    assert "coin: 1 added, 0 reactivated, 0 changed, 0 soft-deleted, 0 existing" in first
    assert "DIMENSION_ADDED dimension='coin' name='BTC' origin='seed'" in log
    assert "symbol: 2 added" in first  # spot and perpetual
    assert "coin: 0 added, 0 reactivated, 0 changed, 0 soft-deleted, 1 existing" in second
    assert "DIMENSION_ADDED" not in again


async def test_a_runner_refuses_an_old_schema(tmp_path: Path, database: str) -> None:
    _, err = await programs(tmp_path, database).run("runners.kline", code=1)
    assert "SchemaMismatch" in err
    assert "ravenwh alembic upgrade head" in err
    assert "Traceback" not in err


async def test_a_role_that_may_not_look_is_told_so_and_the_rest_is_checked(
    tmp_path: Path, mart_url: str
) -> None:
    with psycopg.connect(mart_url.replace("+asyncpg", ""), autocommit=True) as owner:
        owner.execute("CREATE ROLE outsider LOGIN PASSWORD 'looks'")
        try:
            url = sa.make_url(mart_url).set(username="outsider", password="looks")
            world = programs(tmp_path, url.render_as_string(hide_password=False))
            findings = await doctor(world, code=1)
        finally:
            owner.execute("DROP ROLE outsider")
    assert failed(findings) == {"migrations", "rights"}
    assert "outsider may not look" in findings["migrations"]["found"]
    assert "GRANT USAGE" in findings["migrations"]["remedy"]
    assert 'lacks USAGE ON SCHEMA "mart"' in findings["rights"]["found"]


async def test_a_stranger_on_the_control_port_is_told_by_the_runner_and_the_doctor(
    tmp_path: Path, mart_url: str
) -> None:
    with listening() as port:
        world = programs(tmp_path, mart_url, kline_port=port)
        _, err = await world.run("runners.kline", code=1)
        findings = await doctor(world, code=1)
    assert f"server.kline_port: bind tcp://127.0.0.1:{port} is taken by another process" in err
    found = findings["ports of kline"]["found"]
    assert f"{port} taken by another program" in found
    assert f"{port + 1000} free" in found


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["upgrade", "nonsense"], "Can't locate revision"),
        (["frobnicate"], "invalid choice"),
        ([], "Missing argument"),
    ],
)
async def test_alembic_commands_end_without_tracebacks(
    tmp_path: Path, mart_url: str, arguments: list[str], told: str
) -> None:
    world = programs(tmp_path, mart_url)
    code = 1 if arguments[:1] == ["upgrade"] else 2
    _, err = await world.run("ravenwh", "alembic", *arguments, code=code)
    assert told in err
    assert "Traceback" not in err


async def test_alembic_without_a_server_and_with_a_settings_file_of_its_own(
    tmp_path: Path, mart_url: str
) -> None:
    world = programs(tmp_path, "postgresql://somebody:hidden@127.0.0.1:1/mart")
    _, err = await world.run("ravenwh", "alembic", "upgrade", "head", code=1)
    assert "cannot be reached" in err
    assert "Traceback" not in err
    assert "hidden" not in err
    other = tmp_path / "other.toml"
    other.write_text(f'timescale.url = "{mart_url}"\n')
    out, _ = await world.run("ravenwh", "alembic", "--config", "other.toml", "current")
    assert "(head)" in out
