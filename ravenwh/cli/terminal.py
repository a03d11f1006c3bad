"""What every program that is run by hand does alike: log, stop on signals, end with a code."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from types import CodeType, CoroutineType
from typing import TYPE_CHECKING, Any

from loguru import logger

from ravenwh.cli.flood import Flood
from ravenwh.config import load
from ravenwh.domain.errors import RavenwhError
from ravenwh.domain.settings import Log, Settings

if TYPE_CHECKING:
    from loguru import Record

__all__ = ["collect_seldom", "configure_log", "ended_by", "run_until_stopped", "started"]


Write = Callable[[str], object]


def started(config: Path | None, *, write: Write = sys.stderr.write) -> Settings:
    """The settings of a program, its log set up by them; ends the process where they are wrong.

    ``write`` is where log lines go, for a program that draws on the terminal itself.
    """
    try:
        settings = load(config)
    except RavenwhError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    configure_log(settings.log, write=write)
    return settings


def configure_log(log: Log, *, write: Write = sys.stderr.write) -> None:
    """Send the log to standard error, as lines for people or as JSON.

    Of warnings and errors, 60 lines of a name are written in a minute, and the rest counted.
    """
    flood = Flood()

    def sink(line: str) -> None:
        write(line)

    logger.enable("ravenwh")
    logger.remove()
    if log.format == "json":
        logger.add(sink, level=log.level, filter=flood, serialize=True, diagnose=False)
    else:
        logger.add(sink, level=log.level, filter=flood, format=_text, diagnose=False)


def _text(record: Record) -> str:
    """Time, level, event, and the bound fields as key=value."""
    fields = "".join(f" {key}={{extra[{key}]!r}}" for key in record["extra"])
    return "{time:YYYY-MM-DDTHH:mm:ss.SSS!UTC}Z {level:<7} {message}" + fields + "\n{exception}"


def collect_seldom() -> None:
    """Have the garbage collector look at a service's memory seldom.

    Rows are tuples of floats and times: hundreds of thousands a second, none of them in a cycle,
    and the collector would look at each several times. What was imported never becomes garbage.
    Measured in ``benchmarks/kline.py``: without it a fifth of the time goes to the collector.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def run_until_stopped(
    work: Callable[[asyncio.Event], Awaitable[object]],
    *,
    at_once: Callable[[], object] = lambda: None,
) -> int:
    """Run the work until it ends, or SIGTERM or SIGINT asks it to; the exit code.

    The first signal sets the event, the second ends the process at once, after ``at_once``, which
    does not wait. An error of ours is logged, and gives its exit code; any other one is a fault of
    the program, logged with the task that died of it and where it was, and gives 1.
    """
    names: dict[CodeType, str] = {}

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_task_factory(_remembering(names))

        def on_signal(number: int) -> None:
            if stop.is_set():
                at_once()
                os._exit(128 + number)
            logger.bind(signal=signal.Signals(number).name).info("STOPPING")
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
        await work(stop)

    collect_seldom()
    try:
        asyncio.run(run())
    except Exception as error:
        return max(_told(leaf, names) for leaf in _leaves(error))
    return 0


def _told(error: Exception, names: Mapping[CodeType, str]) -> int:
    """Tell what the process ends by; its exit code."""
    if isinstance(error, RavenwhError):
        return ended_by(error)
    named = (names.get(frame.f_code) for frame, _ in traceback.walk_tb(error.__traceback__))
    logger.opt(exception=error).bind(
        task=next(filter(None, named), "main"), error=type(error).__name__, reason=str(error)
    ).error("TASK_DIED")
    return 1


def _remembering(names: dict[CodeType, str]) -> Callable[..., Any]:
    """Makes tasks, and notes what a task was called that ended, by the code that it ran.

    An error does not know its task, but its traceback begins with that code.
    """

    def note(task: asyncio.Task[object]) -> None:
        if not task.cancelled() and isinstance(coroutine := task.get_coro(), CoroutineType):
            names[coroutine.cr_code] = task.get_name()

    def make(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, object], **more: Any
    ) -> asyncio.Task[object]:
        task = asyncio.Task(coroutine, loop=loop, **more)
        task.add_done_callback(note)
        return task

    return make


def ended_by(error: RavenwhError) -> int:
    """Tell the error; its exit code."""
    logger.bind(error=type(error).__name__, reason=str(error)).error("ENDED_BY_ERROR")
    return error.exit_code


def _leaves(error: Exception) -> list[Exception]:
    """The errors of a group, and of the groups in it; an error that is none by itself."""
    if not isinstance(error, ExceptionGroup):
        return [error]
    return [leaf for part in error.exceptions for leaf in _leaves(part)]
