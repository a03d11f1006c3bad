"""``ravenwh refresh``, and the task of the kline runner that works off what is due."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from time import monotonic

import attrs
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ravenwh.app.database import Database, engine_of, engine_on
from ravenwh.app.preflight import require_head
from ravenwh.domain.errors import RavenwhError, Refused, Unavailable
from ravenwh.domain.settings import Settings
from ravenwh.schema import Base
from ravenwh.timescale import TimescaleError
from ravenwh.timescale import refresh as timescale
from ravenwh.timescale.spans import Span, merged
from ravenwh.timescale.windows import Windows
from ravenwh.warehouse.alone import alone
from ravenwh.warehouse.due import DueDay, Notes, due_days, settle
from ravenwh.warehouse.errors import translated
from ravenwh.warehouse.upsert import Upsert

__all__ = ["Refreshed", "kept_refreshed", "notes_of", "refresh"]

OTHERS_MAY_TAKE_S = 600.0
"""How long another refresh is waited for: one of us, or a policy at work on the same rollup."""

LOOK_S = 1.0
POLL_S = 0.25
ATTEMPTS = 3
"""How often a step is repeated whose rows a policy doubled meanwhile."""

DAY = timedelta(days=1)

OnStep = Callable[[int, int, str], None]
"""Told before each step: how many are done, of how many, and which rollup is next."""


Part = tuple[str, Span]
"""A time of a rollup, by its name."""


@attrs.frozen(kw_only=True)
class Refreshed:
    """What was refreshed, and what was left as it is because the rows it was made of are gone.

    ``days`` that were due are done. ``kept`` is false where the rollups are plain views, which show
    each change at once.
    """

    kept: bool
    done: tuple[Part, ...] = ()
    left_out: tuple[Part, ...] = ()
    steps: int = 0
    days: int = 0

    @property
    def rollups(self) -> int:
        """How many were refreshed."""
        return len({name for name, _ in self.done})


async def refresh(
    settings: Settings,
    span: Span | None,
    *,
    tell: Callable[[str], None],
    on_step: OnStep,
) -> Refreshed:
    """Refresh all rollups over a span, or (None) what is due; from the bottom up.

    Another refresh is waited for, and that is told once. May be ended at any time and run again.
    Raises Refused, Unavailable and SchemaMismatch.
    """
    async with engine_of(settings, pooled=False, statement_s=None) as engine:
        await require_head(settings, engine)
        until = monotonic() + OTHERS_MAY_TAKE_S
        told = False
        while (done := await _refreshed(settings, engine, span, on_step)) is None:
            if monotonic() > until:
                raise Unavailable(
                    f"another refresh is still at work after {OTHERS_MAY_TAKE_S:g} s; nothing was "
                    "refreshed: run this again when it has ended"
                )
            if not told:
                tell("another refresh is at work: waiting for it")
                told = True
            await asyncio.sleep(LOOK_S)  # for another process, which cannot tell us
        return done


async def notes_of(settings: Settings, engine: AsyncEngine, upsert: Upsert) -> Notes | None:
    """What the writer of a fact notes for a refresh; None where its rollups never wait for one."""
    times = settings.timescale.policy_times
    with _translated():
        # perhaps those times are not applied yet: then it is the declared ones that are in force
        reaches = [timescale.reach(Base.metadata, upsert.table, given) for given in ({}, times)]
        reach = min((each for each in reaches if each is not None), default=None)
        if reach is None:
            return None
        async with engine.connect() as connection:
            found = await _look(settings, connection)
    return Notes.of(upsert, reach) if found.aggregates else None


@contextlib.asynccontextmanager
async def kept_refreshed(
    settings: Settings, database: Database, stop: asyncio.Event
) -> AsyncIterator[None]:
    """Work off what is due, every now and then, until ``stop`` is set or the block ends.

    What goes wrong is logged and tried again. Of several processes one does it.
    """
    task = asyncio.create_task(_keep_refreshed(settings, database, stop), name="refresh")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _keep_refreshed(settings: Settings, database: Database, stop: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(_again_and_again(settings, database), name="refresh what is due")
        await stop.wait()
        work.cancel()


async def _again_and_again(settings: Settings, database: Database) -> None:
    while True:
        await asyncio.sleep(settings.timescale.refresh_due_every_s)
        began = monotonic()
        try:
            async with engine_on(database, settings, pooled=False, statement_s=None) as engine:
                done = await _refreshed(settings, engine, None, _quietly)
        except RavenwhError as error:
            alarm = isinstance(error, Unavailable) and error.needs_person
            logger.bind(error=type(error).__name__, reason=str(error)).log(
                "ERROR" if alarm else "WARNING", "REFRESH_FAILED"
            )
        except Exception:  # a runner that writes is worth more than one that refreshes
            logger.exception("REFRESH_FAILED")
        else:
            if done is not None and (done.steps or done.days):
                _log(done, monotonic() - began)


def _quietly(done: int, steps: int, rollup: str) -> None:
    """No progress is shown."""


def _log(done: Refreshed, seconds: float) -> None:
    for rollup, span in done.left_out:
        logger.bind(rollup=rollup, start=str(span.start), end=str(span.end)).warning(
            "REFRESH_LEFT_OUT"
        )
    logger.bind(
        rollups=done.rollups, steps=done.steps, days=done.days, seconds=round(seconds, 3)
    ).info("REFRESHED")


async def _refreshed(
    settings: Settings, engine: AsyncEngine, span: Span | None, on_step: OnStep
) -> Refreshed | None:
    """Refresh the span, or what is due; None, and nothing done, where another one is at work.

    On an error the connection is closed, which gives the lock back.
    """
    with _translated():
        async with engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            async with alone(connection, "refresh", settings.timescale.schema) as is_alone:
                if not is_alone:
                    return None
                return await _refresh(settings, connection, span, on_step)


async def _refresh(
    settings: Settings, connection: AsyncConnection, span: Span | None, on_step: OnStep
) -> Refreshed:
    due = await due_days(connection)
    found = await _look(settings, connection)
    if not found.aggregates:
        return Refreshed(kept=False)
    asked = _due(due, found.behind()) if span is None else found.everything(span)
    planned = found.plan(asked)
    steps = found.steps(planned, by_chunk=span is None)
    left_out: list[timescale.Step] = []
    await connection.run_sync(timescale.plan_safely)
    for number, step in enumerate(steps):
        on_step(number, len(steps), step.name)
        if span is None and await connection.run_sync(step.would_erase):
            left_out.append(step)
        else:
            await _run(connection, step)
    await connection.run_sync(timescale.plan_as_before)
    covered = [day for day in due if span is None or _is_within(day, span)]
    return Refreshed(
        kept=True,
        done=_parts(planned, (step for step in steps if step not in left_out)),
        left_out=_parts(planned, left_out, {each.aggregate.name: each.lost for each in planned}),
        steps=len(steps),
        days=await settle(connection, covered),
    )


def _parts(
    planned: Sequence[Windows],
    steps: Iterable[timescale.Step],
    more: Mapping[str, Sequence[Span]] = {},
) -> tuple[Part, ...]:
    """The times of the steps, and more, of each rollup in order."""
    spans: dict[str, list[Span]] = {
        each.aggregate.name: list(more.get(each.aggregate.name, ())) for each in planned
    }
    for step in steps:
        spans[step.name].append(step.span)
    return tuple((name, span) for name, found in spans.items() for span in merged(found))


async def _look(settings: Settings, connection: AsyncConnection) -> timescale.Look:
    return await connection.run_sync(
        partial(
            timescale.look,
            metadata=Base.metadata,
            schema=settings.timescale.schema,
            policies=settings.timescale.policy_times,
        )
    )


def _due(days: Sequence[DueDay], behind: Mapping[str, Sequence[Span]]) -> dict[str, list[Span]]:
    """The times of each fact that wait for a refresh: noted days, and what was passed over."""
    spans: dict[str, list[Span]] = {fact: list(found) for fact, found in behind.items()}
    for due in days:
        spans.setdefault(due.fact, []).append(Span(due.day, due.day + DAY))
    return {fact: merged(found) for fact, found in spans.items()}


def _is_within(due: DueDay, span: Span) -> bool:
    return span.start <= due.day and due.day + DAY <= span.end


async def _run(connection: AsyncConnection, step: timescale.Step) -> None:
    """One step, while nobody else is at work on the rollup."""
    await _others_ended(connection, step)
    await connection.run_sync(step.run)
    for _ in range(ATTEMPTS):
        if step.shared is None:
            return
        await _others_ended(connection, step)
        if not await connection.run_sync(step.is_doubled):
            return
        logger.bind(rollup=step.name, start=str(step.shared.start)).warning("REFRESH_REPEATED")
        again = attrs.evolve(step, span=step.shared)
        await connection.run_sync(partial(again.run, force=True))


async def _others_ended(connection: AsyncConnection, step: timescale.Step) -> None:
    until = monotonic() + OTHERS_MAY_TAKE_S
    while await connection.run_sync(step.is_busy):
        if monotonic() > until:
            raise Unavailable(
                f"another session has been changing {step.name} for {OTHERS_MAY_TAKE_S:g} s; see "
                "pg_stat_activity. Run this again when it has ended: what is done is kept"
            )
        await asyncio.sleep(POLL_S)  # for another process, which cannot tell us


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise our errors for those of the driver, and of the room that knows nothing of us."""
    try:
        with translated():
            yield
    except TimescaleError as error:
        raise Refused(str(error)) from error
