"""``ravenwh keys new``: a pair whose secret half is seen by nobody."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ravenwh.cli.keys import command
from ravenwh.config import load
from ravenwh.domain.errors import Refused
from ravenwh.domain.settings import Secret
from ravenwh.feed.curve import public_of


@pytest.fixture(params=[0o022, 0o000, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def new(file: Path) -> Result:
    return CliRunner().invoke(command, ["new", str(file)], catch_exceptions=False)


@pytest.mark.usefixtures("umask")
def test_a_pair_is_made_and_only_the_public_half_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "server.key"
    result = new(file)
    assert result.exit_code == 0
    secret = file.read_text().rstrip("\n")
    public = (tmp_path / "server.key.pub").read_text().rstrip("\n")
    assert public_of(Secret(secret)) == public
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "server.key.pub").stat().st_mode) == 0o644
    assert public in result.output
    assert secret not in result.output
    assert {path.name for path in tmp_path.iterdir()} == {"server.key", "server.key.pub"}


def test_the_settings_take_what_it_prints(tmp_path: Path) -> None:
    shown = new(tmp_path / "key").output
    public = (tmp_path / "key.pub").read_text().rstrip("\n")
    for line in (
        f'secret_key_file = "{tmp_path / "key"}"',
        f'public_key = "{public}"',
        f'server_key = "{public}"',
        f'client_keys = ["{public}"]',
    ):
        assert line in shown
    settings = tmp_path / "ravenwh.toml"
    settings.write_text(
        f"""
        [server]
        secret_key_file = "{tmp_path / "key"}"
        client_keys = ["{public}"]
        [feeds.default]
        server_key = "{public}"
        public_key = "{public}"
        secret_key_file = "{tmp_path / "key"}"
        """
    )
    loaded = load(settings, {})
    assert loaded.server.secret_key is not None
    assert public_of(loaded.server.secret_key) == loaded.feeds["default"].server_key


@pytest.mark.parametrize("there", ["key", "key.pub"])
def test_nothing_is_written_over(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    with pytest.raises(Refused, match=rf"{there} is there already; name a new file"):
        new(tmp_path / "key")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {there: "precious"}


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="nowhere/key cannot be written: No such file or directory"):
        new(tmp_path / "nowhere" / "key")
