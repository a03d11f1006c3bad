"""``ravenwh refresh``: bring the rollups up to date where their policies do not look."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from pathlib import Path

import click
from tqdm import tqdm

from ravenwh.app.refresh import Refreshed, refresh
from ravenwh.cli.moments import moment
from ravenwh.config import load
from ravenwh.sources.report import counted
from ravenwh.timescale.spans import Span

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  ravenwh refresh --due
  ravenwh refresh --from 2024-01-01 --to 2024-02-01
  ravenwh refresh
"""


@click.command(epilog=EXAMPLES)
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
@click.option("--from", "start", type=moment, metavar="TIME", help="From this date or time (UTC).")
@click.option("--to", "end", type=moment, metavar="TIME", help="Up to, and without, this one.")
@click.option("--due", is_flag=True, help="Only what changed behind the refresh policies.")
def command(
    config: Path | None, start: datetime | None, end: datetime | None, *, due: bool
) -> None:
    """Refresh the rollups from the bottom up: all they hold, a range, or what is due.

    What is up to date already costs next to nothing. Open buckets are left out, as reads add them;
    so is what was made of rows that are dropped by now. Ends with 0 also where there is nothing to
    do. It can be ended with Ctrl-C: what is done is kept, and a second run goes on from there.
    """
    if due and (start or end):
        raise click.UsageError("--due knows by itself what is due: leave out --from and --to")
    if start and end and start >= end:
        raise click.UsageError(f"--from {start.isoformat()} must be before --to {end.isoformat()}")
    everything = Span()
    span = Span(start or everything.start, end or everything.end)
    with tqdm(unit=" steps", disable=None, file=sys.stderr) as bar:

        def on_step(done: int, steps: int, rollup: str) -> None:
            bar.total = steps
            bar.set_description(rollup)
            bar.update(done - bar.n)

        done = asyncio.run(refresh(load(config), None if due else span, tell=say, on_step=on_step))
        bar.total = done.steps
        bar.update(done.steps - bar.n)
    for line in lines(done, due=due):
        click.echo(line)


def say(line: str) -> None:
    """Write to standard error without breaking the progress bar."""
    tqdm.write(line, file=sys.stderr)


def lines(done: Refreshed, *, due: bool) -> list[str]:
    """What was refreshed, a line each window, and a summary."""
    if not done.kept:
        return ["nothing to refresh: the rollups are plain views here, and always up to date"]
    told = [f"{name}: {shown(span)}" for name, span in done.done]
    told += [
        f"{name}: {shown(span)} is left as it is, the rows that it was made of are gone"
        for name, span in done.left_out
    ]
    if done.done:
        told.append(f"refreshed {counted(done.rollups, 'rollup')} in {counted(done.steps, 'step')}")
    else:
        told.append("nothing to refresh" + (": nothing is due" if due else " in this range"))
    if done.days:
        told[-1] += f"; {counted(done.days, 'day')} that had been due"
    return told


def shown(span: Span) -> str:
    """A time as people write it, in UTC."""
    return f"{span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M}"
