"""The examples of a page of the documentation, and what it takes to run them.

A page is README.md or one of docs/. Its fenced blocks are run in their order:

- ``python``: executed, all of a page in one namespace;
- ``pycon``: the same with ``>>>``, and what is shown must come out;
- ``console``: lines after ``$ `` are given to one shell a page; each must end well, and what is
  shown below it must come out. A line that ends with a backslash goes on in the next one;
- ``toml``: must load as a settings file;
- ``sql``: must run on the mart; ``json``: must be JSON; ``text`` is not run at all.

Where output is shown, ``...`` stands for anything, and the amount of white space does not matter.
Blocks in braces are directives of MyST. Comments, invisible to readers, steer a page:
``<!-- examples: from nothing -->`` (an embedded server that holds nothing, in place of a mart with
klines), ``<!-- examples: with TimescaleDB -->`` (an empty database that has it, on each engine in
turn, also named by DATABASE_URL), ``<!-- examples: with InfluxDB -->`` (an empty bucket beside the
mart), ``<!-- wait for 1440 klines -->``, ``bars`` or ``points`` of trades (the runner writes while
the page goes on), and before a block ``<!-- file models.py -->`` or
``<!-- more of models.py -->``: it is written to that file and not run.
"""

from __future__ import annotations

import doctest
import os
import re
import signal
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import attrs

FROM_NOTHING = "<!-- examples: from nothing -->"
WITH_TIMESCALEDB = "<!-- examples: with TimescaleDB -->"
WITH_INFLUXDB = "<!-- examples: with InfluxDB -->"
ENDED_WITHIN_S = 60.0
ELLIPSIS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>\{?[\w-]*)[^`]*$")
_WAIT = re.compile(r"<!-- wait for (?P<rows>\d+ (klines|bars|points)) -->")
_FILE = re.compile(r"<!-- (?P<how>file|more of) (?P<name>[\w./-]+) -->")


@attrs.frozen(kw_only=True)
class Block:
    """A fenced block, or a wait (language ``wait``, body for what), at a line of its page.

    ``file`` is where it goes, if to a file, and ``mode`` how that is opened.
    """

    page: Path
    line: int
    language: str
    body: str
    file: str | None = None
    mode: str = "w"

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    file: dict[str, str] = {}
    for number, line in lines:
        if goes_to := _FILE.search(line):
            file = {"file": goes_to["name"], "mode": "w" if goes_to["how"] == "file" else "a"}
        elif wait := _WAIT.search(line):
            yield Block(page=page, line=number, language="wait", body=wait["rows"])
        elif fence := _FENCE.match(line):
            body = []
            for _, inner in lines:
                if re.fullmatch(rf" *{fence['ticks']}`*\s*", inner):
                    break
                body.append(inner)
            text = textwrap.dedent("\n".join(body)) + "\n"
            yield Block(page=page, line=number, language=fence["language"], body=text, **file)
            file = {}


def commands_of(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown below it."""
    command, shown, goes_on = "", [], False
    for line in block.body.splitlines():
        if goes_on:
            command += f"\n{line}"
        elif line.startswith("$ "):
            if command:
                yield command, "\n".join(shown)
            command, shown = line[2:], []
        else:
            assert command, f"{block}: output comes before the first command"
            shown.append(line)
        goes_on = (goes_on or line.startswith("$ ")) and line.endswith("\\")
    assert command, f"{block}: no line begins with '$ '"
    yield command, "\n".join(shown)


def difference(want: str, got: str) -> str:
    """How what came out differs from what is shown; nothing where it does not."""
    checker = doctest.OutputChecker()
    example = doctest.Example("", f"{want.rstrip()}\n")
    if checker.check_output(example.want, f"{got.rstrip()}\n", ELLIPSIS):
        return ""
    return checker.output_difference(example, f"{got.rstrip()}\n", ELLIPSIS)


class Shell:
    """One bash for the commands of a page, so that variables and background jobs live on.

    At the end whatever was started and still runs is ended.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  closed with the shell
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[int, str]:
        """The exit code of a command, and what it wrote to standard output."""
        mark = f"-- {uuid4()} "
        assert self._bash.stdin
        assert self._bash.stdout
        self._bash.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n{mark}%s\\n' $?\n")
        self._bash.stdin.flush()
        written = []
        for line in self._bash.stdout:
            if line.startswith(mark):
                return int(line.removeprefix(mark)), "".join(written)[:-1]
            written.append(line)
        raise AssertionError(f"the shell ended: {self.errors()}")

    def errors(self) -> str:
        """What was written to standard error up to now."""
        self._errors.seek(0)
        return self._errors.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for stream in (self._bash.stdin, self._bash.stdout):
            assert stream
            stream.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._bash.pid, number)
                self._bash.wait(10)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self._bash.wait(ENDED_WITHIN_S)
        until = time.monotonic() + ENDED_WITHIN_S
        while left := in_group(self._bash.pid):  # they are killed, and take their time to be gone
            assert time.monotonic() < until, left
            time.sleep(0.02)
        self._errors.close()


def in_group(number: int) -> list[int]:
    """The processes of a group that are not gone; where there is no /proc, none is seen."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = file.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(group) == number and state != "Z":  # its parent may never ask how it ended
            found.append(int(file.parent.name))
    return found
