"""Programs as children: what they write, how they end, and in which order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from ravenwh.app.children import Child, Children
from ravenwh.domain.errors import Refused

PROGRAM = """
import signal, sys
{before}
print("here", flush=True)
{after}
"""


@attrs.define
class Said:
    """What children wrote, in the order of its arrival."""

    lines: list[tuple[str, str]] = attrs.field(factory=list)
    news: asyncio.Event = attrs.field(factory=asyncio.Event)

    def tell(self, name: str, line: str) -> None:
        self.lines.append((name, line))
        self.news.set()

    async def until(self, *lines: tuple[str, str]) -> None:
        async with asyncio.timeout(60):
            while not set(lines) <= set(self.lines):
                self.news.clear()
                await self.news.wait()


Program = Callable[..., str]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Writes a module that waits to be ended, and gives its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(name: str, *, before: str = "", after: str = "signal.pause()") -> str:
        (tmp_path / f"{name}.py").write_text(PROGRAM.format(before=before, after=after))
        return name

    return write


SAYS_BYE = "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))"


async def test_they_end_in_the_reverse_order_each_after_what_it_waits_for(
    program: Program,
) -> None:
    said = Said()
    children = Children(tell=said.tell)

    async def note(child: Child) -> None:
        said.tell(child.name, "settles")

    for name in ("first", "second", "third"):
        children.next_stage()
        await children.start(name, program(name, before=SAYS_BYE), before_end=note)
        await said.until((name, "here"))
    await children.end(90)
    assert said.lines[3:] == [
        ("third", "bye"),  # nothing was started after it that could have sent it anything
        ("second", "settles"),
        ("second", "bye"),
        ("first", "settles"),
        ("first", "bye"),
    ]


async def test_who_does_not_end_in_time_is_killed_and_the_others_keep_their_share(
    program: Program,
) -> None:
    said = Said()
    children = Children(tell=said.tell)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    children.next_stage()
    polite = await children.start("polite", program("polite", before=SAYS_BYE))
    children.next_stage()
    stubborn = await children.start("stubborn", program("stubborn", before=deaf))
    await said.until(("polite", "here"), ("stubborn", "here"))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await children.end(8)
    assert loop.time() - began > 3.9  # half of it is for the one that came first
    assert stubborn.process.returncode == -signal.SIGKILL
    assert polite.process.returncode == 0


async def test_one_that_fails_says_how_and_its_last_line(program: Program) -> None:
    said = Said()
    children = Children(tell=said.tell)
    failing = program("failing", after="print('no room', file=sys.stderr); sys.exit(3)")
    with pytest.raises(Refused, match=r"^failing ended with code 3; its last line: no room$"):
        await children.run("failing", failing)
    assert said.lines == [("failing", "here"), ("failing", "no room")]
    await children.end(1)  # there is nothing left to end


async def test_one_that_is_killed_says_by_which_signal(program: Program) -> None:
    said = Said()
    children = Children(tell=said.tell)
    children.next_stage()
    child = await children.start("child", program("child"))
    await said.until(("child", "here"))
    children.kill()
    async with asyncio.timeout(60):
        code = await child.ended()
    assert child.how_it_ended(code) == "child ended by SIGKILL; its last line: here"


async def test_a_line_without_an_end_and_bytes_that_are_no_text_are_told(program: Program) -> None:
    said = Said()
    children = Children(tell=said.tell)
    writes = "sys.stdout.buffer.write(b'x' * 200_000 + b'\\n\\xff')"
    await children.run("loud", program("loud", after=writes))
    long = "".join(line for _, line in said.lines[1:-1])
    assert (long, said.lines[-1]) == ("x" * 200_000, ("loud", "\N{REPLACEMENT CHARACTER}"))


async def test_it_has_the_environment_that_is_given(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_CALLER", "1")
    shows = "import os; print(sorted({'OF_THE_CALLER', 'GIVEN'} & os.environ.keys()), flush=True)"
    name = program("shows", after=shows)
    for environment, seen in (
        ({"GIVEN": "1", "PYTHONPATH": str(tmp_path)}, "['GIVEN']"),
        (None, "['OF_THE_CALLER']"),
    ):
        said = Said()
        await Children(tell=said.tell, environment=environment).run("shows", name)
        assert said.lines[-1] == ("shows", seen)


async def test_it_has_a_session_of_its_own_so_that_the_terminal_does_not_end_it(
    program: Program,
) -> None:
    said = Said()
    children = Children(tell=said.tell)
    children.next_stage()
    child: Child = await children.start("child", program("child"))
    await said.until(("child", "here"))
    assert os.getsid(child.process.pid) == child.process.pid
    await children.end(90)
    assert child.process.returncode == -signal.SIGTERM
