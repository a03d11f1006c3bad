"""Processes of their own that use the embedded PostgreSQL, to be told, heard and killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

HERE = Path(__file__).resolve()
PROGRAM = HERE.with_name("child.py")
# what this process can import, from the same places
MODULES = os.pathsep.join([str(HERE.parents[2]), *filter(None, sys.path)])


def until(holds: Callable[[], object], *, timeout_s: float = 60.0) -> None:
    """Wait for another process to bring something about."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@attrs.define
class Child:
    """A process that uses the embedded PostgreSQL; see child.py."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, command: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the child ended without an answer"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, command: str) -> dict[str, Any]:
        self.tell(command)
        return self.hear()

    def rest(self) -> list[dict[str, Any]]:
        """All that it said and nobody heard, once it has ended."""
        assert self.process.stdout
        lines = self.process.stdout.readlines()
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def leave(self) -> None:
        """Let it end as any program does."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(90) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(90)

    def close(self) -> None:
        self.process.kill()
        with self.process:
            pass


Start = Callable[..., Child]


def started(*, uid: int | None = None, home: Path | None = None, **arguments: Any) -> Child:
    """A child with these arguments of EmbeddedPostgres, run by the user with the number ``uid``."""
    told = {"uid": uid} | {
        name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()
    }
    environment = os.environ | {"PYTHONPATH": MODULES}
    if home is not None:
        environment |= {"HOME": str(home), "XDG_DATA_HOME": str(home / "share")}
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), json.dumps(told)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    return Child(process)
