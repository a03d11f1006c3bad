"""What the server is like: safe, closed, and as the settings say."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from ravenwh.embedded import EmbeddedPostgres


def shown(server: EmbeddedPostgres, name: str) -> str:
    with psycopg.connect(server.libpq_url) as connection:
        row = connection.execute(
            "SELECT setting FROM pg_settings WHERE name = %s", (name,)
        ).fetchone()
    assert row
    return str(row[0])


@pytest.mark.parametrize(("durable", "value"), [(True, "on"), (False, "off")])
def test_only_a_throw_away_server_may_lose_commits(root: Path, durable: bool, value: str) -> None:
    wrong = "off" if durable else "on"
    names = ("fsync", "full_page_writes", "synchronous_commit")
    server = EmbeddedPostgres(root=root, durable=durable, settings=dict.fromkeys(names, wrong))
    with server:
        assert {name: shown(server, name) for name in names} == dict.fromkeys(names, value)


def test_settings_of_the_caller_come_over_ours(root: Path) -> None:
    settings = {"max_connections": "33", "application_name": "two words; $(true)"}
    with EmbeddedPostgres(root=root, settings=settings) as server:
        assert shown(server, "max_connections") == "33"
        assert shown(server, "TimeZone") == "UTC"
        assert shown(server, "max_wal_size") == "1024"
        with psycopg.connect(server.libpq_url) as connection:
            row = connection.execute("SHOW application_name").fetchone()
        assert row == ("two words; $(true)",)


def test_it_listens_on_loopback_alone_whatever_is_asked(root: Path) -> None:
    settings = {"listen_addresses": "*", "port": "1", "unix_socket_directories": str(root)}
    with EmbeddedPostgres(root=root, settings=settings) as server:
        assert shown(server, "listen_addresses") == "127.0.0.1"
        assert shown(server, "unix_socket_directories") == ""
        assert shown(server, "port") == str(server.status().port)


def test_it_lets_nobody_in_without_the_password(root: Path) -> None:
    with EmbeddedPostgres(root=root) as server:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.libpq_url, password="wrong")
        with psycopg.connect(server.libpq_url) as connection:
            rows = connection.execute("SELECT auth_method FROM pg_hba_file_rules").fetchall()
        assert {method for (method,) in rows} == {"scram-sha-256"}


def test_the_password_shows_only_where_it_is_asked_for(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with EmbeddedPostgres(root=root) as server:
        password = urlsplit(server.url).password
        assert password
        assert len(password) == 32
        assert password in server.libpq_url
        assert password not in repr(server) + repr(server.status())
    said = capfd.readouterr()
    assert password not in said.out + said.err
    assert password not in (root / "postgres.log").read_text()


async def test_the_url_is_for_sqlalchemy_with_asyncpg(root: Path) -> None:
    with EmbeddedPostgres(root=root) as server:
        engine = create_async_engine(server.url)
        try:
            async with engine.connect() as connection:
                who = await connection.execute(text("SELECT current_user, current_database()"))
                row = who.one()
        finally:
            await engine.dispose()
    assert tuple(row) == ("ravenwh", "ravenwh")
    assert server.status().state == "stopped"


async def test_a_stop_ends_the_connections_that_are_still_open(root: Path) -> None:
    server = EmbeddedPostgres(root=root).start()
    connection = await asyncpg.connect(server.libpq_url)
    try:
        assert server.stop() is True
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await connection.execute("SELECT 1")
    finally:
        await connection.close()


def test_a_log_that_grew_long_is_put_aside(own_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ravenwh.embedded.launch.LONGEST_LOG_BYTES", 10)
    (own_root / "postgres.log").write_text("before, and long\n")
    with EmbeddedPostgres(root=own_root):
        assert (own_root / "postgres.log.1").read_text() == "before, and long\n"
        assert "before" not in (own_root / "postgres.log").read_text()


def test_the_programs_of_the_server_are_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = EmbeddedPostgres(root=root)
    with server:
        found = server.program("psql")
        assert found.parent == server.status().bin_dir
        monkeypatch.setenv("PATH", "/nonexistent")
        with pytest.raises(Exception, match="no program pg_nothing") as caught:
            server.program("pg_nothing")
        assert type(caught.value).__name__ == "Refused"
