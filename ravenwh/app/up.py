"""``ravenwh up``: a whole warehouse on one machine, its programs started and ended in order."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
from loguru import logger

from ravenwh.app.children import Child, Children
from ravenwh.app.database import database_of
from ravenwh.app.tick import lacks_token
from ravenwh.domain.errors import Refused
from ravenwh.domain.settings import Settings
from ravenwh.telemetry.live import page_at, process_at

__all__ = ["STAGES", "Service", "Up", "run_up"]

READY_WITHIN_S = 60.0
"""How long a program may take from its start until it takes frames."""

ENDED_WITHIN_S = 9.0
"""How long the programs may take to end, all together; a second is left for the database."""

LOOK_AGAIN_S = 0.1
STILL_S = 0.25
"""A program that received nothing for so long has taken all that ended publishers sent."""

STUCK_S = 8.0
"""A program whose counts stand for so long goes no further, though frames wait: klines that are not
final, or a database that is away. They are in its journal. One that received nothing has found no
publisher."""

COUNT = re.compile(
    rb'^ravenwh_(?:frames_total\{outcome="(\w+)"\}|(frames_in_journal|gaps_open)) (\S+)$',
    re.MULTILINE,
)


def _always(_: Settings) -> bool:
    return True


def _has_bars(settings: Settings) -> bool:
    return settings.bars.feed is not None or bool(settings.bars.profiles)


def _makes_bars(settings: Settings) -> bool:
    return settings.bars.feed is not None and bool(settings.bars.profiles)


def _has_influx(settings: Settings) -> bool:
    return settings.influx.is_configured


@attrs.frozen(kw_only=True)
class Service:
    """A program that runs for as long as the warehouse: ``runners.<name>``.

    ``is_wanted`` says whether the settings have work for it.
    """

    name: str
    is_wanted: Callable[[Settings], bool] = _always


STAGES: tuple[tuple[Service, ...], ...] = (
    (
        Service(name="kline"),
        Service(name="bar", is_wanted=_has_bars),
        Service(name="tick", is_wanted=_has_influx),
    ),
    (Service(name="make_bars", is_wanted=_makes_bars),),
)
"""What runs, in the order of its start: a stage is ready before the next one, which publishes to
it, begins, and ends after it."""


@attrs.frozen(kw_only=True)
class Up:
    """What is brought up: the settings, where they were found, and what is published.

    ``replay`` are the arguments of runners.replay; without any, nothing is published. With ``once``
    the end comes when all of it was sent.
    """

    settings: Settings
    config: Path | None = None
    replay: Sequence[str] = ()
    once: bool = False

    @property
    def config_option(self) -> tuple[str, ...]:
        """The option that gives every program the same settings."""
        return () if self.config is None else ("--config", str(self.config))


async def run_up(up: Up, children: Children, stop: asyncio.Event) -> None:
    """Bring everything up in order, and down again in the reverse order once ``stop`` is set.

    Tables are made in the embedded database only: another one is its owner's to migrate, and is
    refused where it is not at our revision. Raises Refused, in a group, where a program fails, or
    ends though nobody asked it to, after all others have ended in order.
    """
    _stop_with_the_terminal(stop)
    if lacks_token(up.settings):
        logger.bind(collect=len(up.settings.ticks.collect), missing="influx.token").warning(
            "TICKS_NOT_WRITTEN"
        )
    with database_of(up.settings):
        try:
            async with asyncio.TaskGroup() as tasks:
                watches: list[asyncio.Task[None]] = []
                work = tasks.create_task(_work(up, children, tasks, watches, stop), name="work")
                stopping = tasks.create_task(stop.wait(), name="wait for the stop")
                await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
                for task in (work, stopping, *watches):
                    task.cancel()
        finally:
            await children.end(ENDED_WITHIN_S)


async def _work(
    up: Up,
    children: Children,
    tasks: asyncio.TaskGroup,
    watches: list[asyncio.Task[None]],
    stop: asyncio.Event,
) -> None:
    """Start everything in its order, publish, and wait for the end."""
    if up.settings.timescale.url.embedded:
        await children.run("alembic", "ravenwh", "alembic", *up.config_option, "upgrade", "head")
    await children.run("init", "runners.init", *up.config_option)
    services: list[Child] = []
    for stage in STAGES:
        wanted = [service for service in stage if service.is_wanted(up.settings)]
        if not wanted:
            continue  # what was started before is then the last, and nothing is on its way to it
        children.next_stage()
        started = [await _started(up, children, service) for service in wanted]
        watches += [tasks.create_task(_lives(one), name=f"watch {one.name}") for one in started]
        for child in started:
            await _ready(up.settings, child)
        services += started
    if up.replay:
        await children.run("replay", "runners.replay", *up.config_option, *up.replay)
    if not up.once:
        await stop.wait()
        return
    for child in reversed(services):
        await _written(up.settings, child)


async def _started(up: Up, children: Children, service: Service) -> Child:
    return await children.start(
        service.name,
        f"runners.{service.name}",
        *up.config_option,
        before_end=functools.partial(_still, up.settings),
    )


async def _lives(child: Child) -> None:
    """Raise Refused once it has ended."""
    raise Refused(child.how_it_ended(await child.ended()))


async def _ready(settings: Settings, child: Child) -> None:
    """Wait until it takes frames. Raises Refused where it does not in time, with its troubles."""
    now = asyncio.get_running_loop().time
    until = now() + READY_WITHIN_S
    while troubles := await asyncio.to_thread(_troubles, settings, child):
        if now() > until:
            raise Refused(f"{child.name} was not ready within {READY_WITHIN_S:g} s: {troubles}")
        await asyncio.sleep(LOOK_AGAIN_S)
    logger.bind(service=child.name, pid=child.process.pid).info("SERVICE_READY")


def _troubles(settings: Settings, child: Child) -> str:
    """Why it takes no frames yet; nothing where it does. Another process at its port is none."""
    port = settings.port_of(child.name, "metrics")
    if process_at(port.host, port.number) != child.process.pid:
        return f"it does not answer at {port.host}:{port.number}"
    answer = page_at(port.host, port.number, "/readyz")
    if answer is None:
        return "it does not answer"
    return "" if answer.status == 200 else ", ".join(json.loads(answer.body)["troubles"])


async def _still(settings: Settings, child: Child) -> None:
    """Wait until it has received all that was on its way: for as long as its count moves."""
    before = None
    while child.process.returncode is None:
        counts = await _counts(settings, child)
        if counts is not None:
            if counts.get("received") == before:
                return
            before = counts.get("received")
        await asyncio.sleep(STILL_S)


async def _written(settings: Settings, child: Child) -> None:
    """Wait until it has received and written all that was sent, or does not come further.

    What it missed, because it found its publisher late, is among that: it is sent again.
    """
    now = asyncio.get_running_loop().time
    await _still(settings, child)
    before, moved_at = dict[str, float](), now()
    while child.process.returncode is None and now() < moved_at + STUCK_S:
        counts = await _counts(settings, child)
        if counts is not None:
            left = counts.get("frames_in_journal") or counts.get("gaps_open")
            if counts.get("received") and not left:
                return
            if counts != before:
                before, moved_at = counts, now()
        await asyncio.sleep(LOOK_AGAIN_S)


async def _counts(settings: Settings, child: Child) -> dict[str, float] | None:
    """Frames by what became of them, and what is left to do; None where it is too busy."""
    port = settings.port_of(child.name, "metrics")
    answer = await asyncio.to_thread(page_at, port.host, port.number, "/metrics")
    if answer is None:
        return None
    found = COUNT.findall(answer.body)
    return {(outcome or gauge).decode(): float(count) for outcome, gauge, count in found}


def _stop_with_the_terminal(stop: asyncio.Event) -> None:
    """A terminal that is closed ends it too, unless it was started to outlive that (nohup)."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stop.set)
