"""Our own programs as children of a process: started, heard, and ended in order."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import attrs
from loguru import logger

from ravenwh.domain.errors import Refused

__all__ = ["Child", "Children", "Tell"]

Tell = Callable[[str, str], object]
"""Takes the name of a program, and a line that it wrote."""

HEARD_S = 1.0
"""How long the last words of a program that has ended may take to reach us."""

LONGEST_LINE = 65_536
"""Bytes without a line end after which what a program wrote is told all the same."""


@attrs.define(kw_only=True, eq=False)
class Child:
    """A program that was started, with the last line it wrote.

    ``before_end`` is waited for before it is asked to end, while those that were started after it
    have ended already.
    """

    name: str
    process: Process
    before_end: Callable[[Child], Awaitable[None]]
    last: str = attrs.field(default="", init=False)
    _hearing: asyncio.Task[None] | None = attrs.field(default=None, init=False)

    def hear(self, tell: Tell) -> None:
        """Tell each line that it writes from now on."""
        self._hearing = asyncio.create_task(self._hear(tell), name=f"hear {self.name}")

    async def ended(self) -> int:
        """Its exit code, once it has ended and was heard to its end; of a signal the negative."""
        code = await self.process.wait()
        if self._hearing is not None:
            await asyncio.wait([self._hearing], timeout=HEARD_S)
        return code

    def how_it_ended(self, code: int) -> str:
        """In words, with the last line that it wrote."""
        how = f"with code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
        return f"{self.name} ended {how}" + (f"; its last line: {self.last}" if self.last else "")

    async def _hear(self, tell: Tell) -> None:
        written, rest = self.process.stdout, b""
        while written is not None and (part := await written.read(LONGEST_LINE)):
            *lines, rest = (rest + part).split(b"\n")
            if len(rest) >= LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._tell(tell, line)
        if rest:
            self._tell(tell, rest)

    def _tell(self, tell: Tell, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        self.last = text or self.last
        tell(self.name, text)


async def _nothing(_: Child) -> None:
    return


@attrs.define(kw_only=True, eq=False)
class Children:
    """Programs in the order of their start, to be ended in the reverse of it.

    Each has a session of its own: a Ctrl-C at the terminal reaches us alone, and the order of the
    end is ours. ``tell`` takes what they write; ``environment`` is theirs, if it is not ours.
    """

    tell: Tell
    environment: Mapping[str, str] | None = None
    _stages: list[list[Child]] = attrs.field(factory=list, init=False)

    def next_stage(self) -> None:
        """What is started from now on is ended before all that was started until now."""
        self._stages.append([])

    async def start(
        self,
        name: str,
        module: str,
        *arguments: str,
        before_end: Callable[[Child], Awaitable[None]] = _nothing,
    ) -> Child:
        """Start ``python -m module``."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env=self.environment,
            start_new_session=True,
        )
        child = Child(name=name, process=process, before_end=before_end)
        self._stages[-1].append(child)
        child.hear(self.tell)
        return child

    async def run(self, name: str, module: str, *arguments: str) -> None:
        """Run one to its end. Raises Refused where it ends with another code than 0."""
        self.next_stage()
        child = await self.start(name, module, *arguments)
        if code := await child.ended():
            raise Refused(child.how_it_ended(code))

    async def end(self, within_s: float) -> None:
        """End those that run, stage by stage, each asked by SIGTERM; those of a stage at once.

        A stage may take its share of the time that is left. What does not end in it is killed, and
        told.
        """
        now = asyncio.get_running_loop().time
        until = now() + within_s
        last = len(self._stages) - 1
        left = [n for n, stage in enumerate(self._stages) if _of_those_that_run(stage)]
        while left:
            share = (until - now()) / len(left)
            stage = left.pop()
            await asyncio.gather(
                *(
                    _end(child, share, settle=stage < last)
                    for child in _of_those_that_run(self._stages[stage])
                )
            )

    def kill(self) -> None:
        """End all that run, at once; what they have in hand is in their journals."""
        for child in self._running():
            child.process.kill()

    def _running(self) -> list[Child]:
        return _of_those_that_run([child for stage in self._stages for child in stage])


def _of_those_that_run(children: list[Child]) -> list[Child]:
    return [child for child in children if child.process.returncode is None]


async def _end(child: Child, within_s: float, *, settle: bool) -> None:
    """Ask one to end, and make it end where it does not in time."""
    now = asyncio.get_running_loop().time
    until = now() + within_s
    if settle:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s / 2):
                await child.before_end(child)
    log = logger.bind(service=child.name)
    if child.process.returncode is None:
        child.process.terminate()
    try:
        async with asyncio.timeout_at(until):
            code = await child.ended()
    except TimeoutError:
        child.process.kill()
        await child.ended()
        log.bind(within_s=round(within_s, 1)).warning("SERVICE_KILLED")
    else:
        log.bind(code=code).info("SERVICE_ENDED")
