"""``ravenwh settings``: every key with its value and where it came from, and the example file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from ravenwh.cli.settings import command
from ravenwh.config import example, load, load_explained
from ravenwh.config.keys import keys_of, tables
from ravenwh.config.reference import reference
from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings import PolicyTimes, Settings, SymbolEntry
from ravenwh.domain.settings.option import Named, options_of

ROOT = Path(__file__).resolve().parents[2]
KEYS = [key for table, section in tables(["default"]).items() for key in keys_of(table, section)]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_value_comes_with_its_source(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    file = tmp_path / "ravenwh.toml"
    file.write_text(
        """
        [influx]
        token_file = "token"
        [feeds.live]
        rcvhwm = 10
        [routing.upstreams]
        "OKX:CANDLE" = "live"
        """
    )
    environ = {"RAVENWH_LOG_LEVEL": "error", "RAVENWH_TIMESCALE_URL": "postgresql://u:p@h/d"}
    rows = {row.key: (row.value, str(row.source)) for row in load_explained(None, environ).rows()}
    assert rows["influx.token_file"] == (f"{tmp_path}/token", f"{file}:influx.token_file")
    assert "influx.token" not in rows
    assert rows["feeds.live.rcvhwm"] == (10, f"{file}:feeds.live.rcvhwm")
    assert rows["feeds.live.mode"] == ("connect", "default")
    assert rows['routing.upstreams."OKX:CANDLE"'] == (
        "live",
        f'{file}:routing.upstreams."OKX:CANDLE"',
    )
    assert rows["routing.symbol_map"] == ({}, "default")
    assert rows["log.level"] == ("ERROR", "RAVENWH_LOG_LEVEL")
    assert rows["timescale.url"] == ("postgresql://u:***@h/d", "RAVENWH_TIMESCALE_URL")
    assert rows["embedded.port"] == (None, "default")


def test_every_setting_has_a_row() -> None:
    rows = {row.key for row in load_explained(None, {}).rows()}
    assert rows == {".".join(key.path) for key in KEYS if not key.in_file}


def test_the_command_prints_toml_with_the_sources(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("ingest.batch_rows = 7\n")
    run = CliRunner(env={"RAVENWH_LOG_FORMAT": "json"}).invoke(command, ["--config", "mine.toml"])
    assert run.exit_code == 0
    lines = run.output.splitlines()
    assert lines[0] == f"# settings file: {tmp_path}/mine.toml (named by --config)"
    assert [line.split() for line in lines if line.startswith(("ingest.batch_rows", "log."))] == [
        ["ingest.batch_rows", "=", "7", "#", f"{tmp_path}/mine.toml:ingest.batch_rows"],
        ["log.level", "=", '"INFO"', "#", "default"],
        ["log.format", "=", '"json"', "#", "RAVENWH_LOG_FORMAT"],
    ]
    assert "# embedded.port is not set: a free one at each start" in run.output
    (tmp_path / "again.toml").write_text(run.output)
    assert load(Path("again.toml"), {}) == load(Path("mine.toml"), {"RAVENWH_LOG_FORMAT": "json"})


def test_the_command_says_which_file_was_found(tmp_path: Path) -> None:
    nothing = CliRunner().invoke(command, [])
    assert nothing.output.startswith("# settings file: none, there is no ./ravenwh.toml\n")
    (tmp_path / "ravenwh.toml").touch()
    here = CliRunner().invoke(command, [])
    assert here.output.startswith(f"# settings file: {tmp_path}/ravenwh.toml (found here)\n")
    named = CliRunner(env={"RAVENWH_CONFIG": "ravenwh.toml"}).invoke(command, [])
    assert named.output.startswith(
        f"# settings file: {tmp_path}/ravenwh.toml (named by RAVENWH_CONFIG)\n"
    )


def test_the_command_prints_json(tmp_path: Path) -> None:
    (tmp_path / "ravenwh.toml").write_text(
        'routing.symbol_map."A/B" = { X = { symbol = "AB", listed_at = 2024-01-01T00:00:00Z } }'
    )
    run = CliRunner(env={"RAVENWH_INFLUX_TOKEN": "t0ken"}).invoke(command, ["--json"])
    assert run.exit_code == 0
    told = json.loads(run.output)
    assert told["influx.token"] == {"value": "***", "source": "RAVENWH_INFLUX_TOKEN"}
    assert told["embedded.port"] == {"value": None, "source": "default"}
    assert told["server.kline_port"] == {"value": 5571, "source": "default"}
    assert told['routing.symbol_map."A/B"']["value"] == {
        "X": {"symbol": "AB", "listed_at": "2024-01-01T00:00:00+00:00"}
    }


def test_the_command_fails_with_all_the_problems(tmp_path: Path) -> None:
    (tmp_path / "ravenwh.toml").write_text("ingest.batch_rows = 0\nlog = 5")
    run = CliRunner().invoke(command, [])
    assert isinstance(run.exception, SettingsError)
    assert len(run.exception.problems) == 2
    assert run.exception.exit_code == 2


def test_the_example_goes_alone() -> None:
    assert CliRunner().invoke(command, ["--example"]).output == example()
    for other in (["--json"], ["--config", "x"]):
        run = CliRunner().invoke(command, ["--example", *other])
        assert run.exit_code == 2
        assert "it goes with neither --json nor --config" in run.output


def test_the_help_shows_an_example() -> None:
    run = CliRunner().invoke(command, ["--help"])
    assert run.exit_code == 0
    assert "  ravenwh settings --example > ravenwh.toml\n" in run.output


def test_the_example_loads_and_gives_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "ravenwh.toml"
    file.write_text(example(), encoding="utf-8")
    assert load(file, {}) == Settings()
    assert max(map(len, example().splitlines())) <= 100


def test_the_example_has_every_key_with_help_unit_and_what_is_allowed() -> None:
    given = tomllib.loads(example())
    blocks = example().split("\n\n")
    for key in KEYS:
        values = given
        for name in key.table:
            values = values[name]
        heads = [
            block
            for block in blocks
            if f"\n[{'.'.join(key.path)}]" in block
            or (f"\n{key.name} = " in block or f"\n#{key.name} = " in block)
        ]
        spaced = [" ".join(head.replace("\n# ", " ").split()) for head in heads]
        wanted = [" ".join(f"Allowed: {key.kind.allowed}.".split())]
        if key.option.unit:
            wanted.append(f"Unit: {key.option.unit}.")
        if key.option.absent:
            wanted.append(f"Not set: {key.option.absent}.")
        assert any(all(part in head for part in wanted) for head in spaced), key.path
        default = key.option.default
        if key.in_file or default is None:
            assert key.name not in values
        else:
            assert values[key.name] == key.kind.plain(default)


def test_each_commented_line_of_the_example_is_allowed_once_it_is_uncommented() -> None:
    """Alone, read by its own kind: together they would be too many (a token and its file)."""
    table: tuple[str, ...] = ()
    tried = set()
    for line in example().splitlines():
        if line.startswith("["):
            table = tuple(line.strip("[]").split("."))
        if line.startswith("#") and not line.startswith("# "):
            (name, value), *more = tomllib.loads(line[1:]).items()
            assert not more
            key = next((key for key in KEYS if key.path == (*table, name)), None)
            if key is not None:
                key.kind.read(value)
            else:
                key = next(key for key in KEYS if key.path == table)
                key.kind.read({name: value})
            tried.add(key.path)
    assert tried == {
        key.path
        for key in KEYS
        if key.in_file or key.option.default is None or isinstance(key.kind, Named)
    }


def test_the_reference_is_what_the_declarations_say() -> None:
    page = ROOT / "docs" / "reference" / "settings.md"
    assert page.read_text(encoding="utf-8") == reference(), (
        "the page is stale: python -m ravenwh.config.reference docs/reference/settings.md"
    )


def test_the_reference_has_every_key() -> None:
    page = reference()
    for key in KEYS:
        name = ".".join(key.path).replace("feeds.default", "feeds.NAME")
        assert f"\n### `{name}`\n" in page
        if key.variable:
            assert f"`{key.variable.replace('FEEDS_DEFAULT', 'FEEDS_NAME')}`" in page
    for name in options_of(PolicyTimes):
        assert f"\n### `timescale.policies.NAME.{name}`\n" in page
        assert f"`RAVENWH_TIMESCALE_POLICIES_NAME_{name.upper()}`" in page
    for name in options_of(SymbolEntry):
        assert f"\n### `{name}`\n" in page
    assert len(KEYS) > 50
