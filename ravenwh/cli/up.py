"""``ravenwh up``: a whole warehouse on one machine."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from importlib import import_module
from pathlib import Path

import click

from ravenwh.app.children import Children
from ravenwh.app.up import Up, run_up
from ravenwh.cli.moments import moment
from ravenwh.cli.terminal import run_until_stopped, started

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  ravenwh up
  ravenwh up --data downloads/klines --speed 60
  ravenwh up --once --simulate BTCUSDT,ETHUSDT --from 2024-01-01 --to 2024-01-02
"""
WIDEST = 9  # the longest name of a program: make_bars


@click.command(epilog=EXAMPLES, context_settings={"ignore_unknown_options": True})
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Publish this Binance Vision file, or folder of them; may be repeated.",
)
@click.option(
    "--simulate", metavar="SYMBOL,...", help="Publish an invented market of --from to --to."
)
@click.option("--from", "start", type=moment, help="Leave out what is before this time (UTC).")
@click.option("--to", "end", type=moment, help="Leave out this time and what is after it.")
@click.option("--once", is_flag=True, help="End when all is sent and stored.")
@click.argument("further", nargs=-1, type=click.UNPROCESSED, metavar="[OPTION OF REPLAY]...")
def command(
    config: Path | None,
    data: tuple[Path, ...],
    simulate: str | None,
    start: datetime | None,
    end: datetime | None,
    once: bool,
    further: tuple[str, ...],
) -> None:
    """Start everything in order, until SIGTERM or Ctrl-C ends it in the reverse order.

    The database (the embedded one with its tables), the preflight and seeding of runners.init, then
    the runners, and once these take frames, runners.replay with --data or --simulate. Without
    either, the runners read the feeds of the settings, and nothing is invented.

    Other options, as --venue and --speed, go to runners.replay as they are. If a program ends that
    should not, the others are ended too, and its reason is told.

    Exit codes: 0 ended as asked; 1 a program failed; 2 wrong usage or settings.
    """
    if data and simulate:
        raise click.UsageError("give --data or --simulate, and not both")
    if simulate and (start is None or end is None):
        raise click.UsageError("--simulate needs --from and --to")
    replay = [
        *map(str, data),
        *(("--simulate", simulate) if simulate else ()),
        *(("--from", start.isoformat()) if start else ()),
        *(("--to", end.isoformat()) if end else ()),
        *further,
    ]
    if replay:
        check(replay, is_given=bool(data or simulate))
    if not (data or simulate) and (once or replay):
        raise click.UsageError("nothing is to be published: give --data or --simulate too")
    up = Up(settings=started(config), config=config, replay=replay, once=once)
    children = Children(tell=say)

    async def run(stop: asyncio.Event) -> None:
        await run_up(up, children, stop)

    sys.exit(run_until_stopped(run, at_once=children.kill))


def check(replay: list[str], *, is_given: bool) -> None:
    """Refuse, before anything is started, options that runners.replay would refuse.

    It is a program that stands on this library, so it is known by its name only, as it is to what
    starts it. ``is_given`` says whether there is anything to send.
    """
    program = import_module("runners.replay")
    try:
        options = program.main.make_context(None, [*replay]).params
        if is_given:
            program.check(**options)
    except click.UsageError as error:
        error.ctx = None  # the usage to be shown is ours
        raise


def say(name: str, line: str) -> None:
    """Write what a program wrote, behind its name. A terminal that is gone stops nothing."""
    try:
        print(f"{name:<{WIDEST}} | {line}", flush=True)
    except OSError:
        return
