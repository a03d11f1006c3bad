"""``ravenwh db``, as a person or a script uses it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from click.testing import CliRunner, Result

from ravenwh.cli.db import command
from ravenwh.domain.errors import Refused, SettingsError, Unavailable
from ravenwh.embedded import EmbeddedPostgres
from tests.embedded.children import Start


def run(*arguments: str, text: str = "") -> Result:
    """The result of the command; an error of ours is raised, as main would get it."""
    result = CliRunner().invoke(command, arguments, input=text)
    if isinstance(result.exception, Refused | SettingsError | Unavailable):
        raise result.exception
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


@pytest.fixture(autouse=True)
def settings(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAVENWH_EMBEDDED_DATA_DIR", str(root))


def test_a_started_server_runs_on_until_it_is_stopped(root: Path) -> None:
    assert run("status").exit_code == 1
    started = run("start")
    assert started.exit_code == 0
    assert "running, until `ravenwh db stop`" in started.output
    assert str(root) in started.output
    assert run("start").exit_code == 0
    assert run("status").exit_code == 0
    url = run("url").output.strip()
    with psycopg.connect(url) as connection:
        assert connection.info.dbname == "ravenwh"
    stopped = run("stop")
    assert (stopped.exit_code, stopped.output) == (0, "stopped\n")
    assert run("stop").output == "it was not running\n"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_the_url_is_for_pasting() -> None:
    with pytest.raises(Unavailable, match="`ravenwh db start` starts it"):
        run("url")
    run("start")
    plain, alchemy = run("url").output.strip(), run("url", "--sqlalchemy").output.strip()
    assert plain.startswith("postgresql://ravenwh:")
    assert alchemy == plain.replace("postgresql://", "postgresql+asyncpg://")


def test_the_status_for_programs(root: Path) -> None:
    run("start")
    told = json.loads(run("status", "--json").output)
    url = urlsplit(run("url").output.strip())
    assert told["state"] == "running"
    assert told["root"] == str(root)
    assert told["port"] == url.port
    assert url.password
    assert url.password not in json.dumps(told)


def test_a_server_in_use_is_stopped_by_force_alone(root: Path, child: Start) -> None:
    user = child(root=root)
    user.ask("start")
    with pytest.raises(Refused, match=f"{user.pid}.*--force"):
        run("stop")
    assert f"in use     yes by pid {user.pid}" in run("status").output
    assert run("stop", "--force").output == "stopped\n"


def test_psql_gets_the_rest_of_the_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the shell's own variables point to another server."""
    monkeypatch.setenv("PGHOST", "192.0.2.1")
    monkeypatch.setenv("PGSERVICE", "nowhere")
    monkeypatch.setenv("PGSSLMODE", "require")
    query = "SELECT current_user || '@' || current_database()"
    assert run("psql", "-X", "-A", "-t", "-c", query).exit_code == 0
    assert capfd.readouterr().out == "ravenwh@ravenwh\n"
    assert run("psql", "-X", "-d", "postgres", "-Atc", "SELECT current_database()").exit_code == 0
    assert capfd.readouterr().out == "postgres\n"
    assert run("psql", "-X", "-v", "ON_ERROR_STOP=1", "-c", "SELECT nothing").exit_code == 1
    assert run("status").exit_code == 1, "psql was its last user"


def test_destroy_asks_first(own_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAVENWH_EMBEDDED_DATA_DIR", str(own_root))
    assert run("destroy", text="n\n").exit_code == 1
    assert (own_root / "data" / "PG_VERSION").exists()
    with EmbeddedPostgres(root=own_root), pytest.raises(Refused, match="is in use by pid"):
        run("destroy", "--yes")
    run("start")
    assert run("destroy", text="y\n").exit_code == 0
    assert not own_root.exists()
    assert run("destroy", "--yes").output == f"there is nothing in {own_root}\n"


def test_the_settings_file_can_be_named(
    own_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAVENWH_EMBEDDED_DATA_DIR")
    file = tmp_path / "mine.toml"
    file.write_text(f"[embedded]\ndata_dir = '{own_root}'\n")
    for arguments in (
        ("status", "--config", str(file), "--json"),
        ("--config", str(file), "status", "--json"),
    ):
        told = json.loads(run(*arguments).output)
        assert told["root"] == str(own_root)
    before = tmp_path / "before.toml"
    before.write_text(f"[embedded]\ndata_dir = '{tmp_path}'\n")
    nearer = run("--config", str(before), "status", "--config", str(file), "--json")
    assert json.loads(nearer.output)["root"] == str(own_root)


def test_psql_takes_the_settings_file_and_leaves_the_rest_to_psql(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAVENWH_EMBEDDED_DATA_DIR")
    file = tmp_path / "mine.toml"
    file.write_text(f"[embedded]\ndata_dir = '{root}'\n")
    assert run("psql", "--config", str(file), "-XAtc", "SELECT '--config'").exit_code == 0
    assert capfd.readouterr().out == "--config\n"


def test_a_wrong_setting_is_a_settings_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAVENWH_EMBEDDED_BIN_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match=r"embedded\.bin_dir") as caught:
        run("start")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["", *sorted(command.commands)])
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = run(*filter(None, [name]), "--help")
    assert result.exit_code == 0
    assert "Example: " in result.output
    assert ("--config" in result.output) == bool(name)


def test_the_example_of_the_url_works(root: Path, pg_dump: Path) -> None:
    run("start")
    url = run("url").output.strip()
    dump = subprocess.run([pg_dump, url], capture_output=True, text=True, check=True)
    assert "PostgreSQL database dump complete" in dump.stdout


@pytest.fixture
def pg_dump(root: Path) -> Path:
    return EmbeddedPostgres(root=root).program("pg_dump")
