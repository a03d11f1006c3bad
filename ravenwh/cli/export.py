"""``ravenwh export``: days of ticks out of InfluxDB into Parquet files."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click

from ravenwh.app.export import Exported, export_ticks
from ravenwh.config import load
from ravenwh.sources.report import counted

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  ravenwh export --ticks --to /srv/ravenwh/ticks
  ravenwh export --ticks --day 2024-05-28
"""


@click.command(epilog=EXAMPLES)
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
@click.option("--ticks", is_flag=True, help="Export ticks: each day of each measurement a file.")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder; else it is influx.export_dir.",
)
@click.option(
    "--day",
    "days",
    type=click.DateTime(formats=["%Y-%m-%d"]),
    metavar="DATE",
    multiple=True,
    help="This day (UTC), even if it was exported before; may be given several times.",
)
def command(
    config: Path | None, folder: Path | None, days: tuple[datetime, ...], *, ticks: bool
) -> None:
    """Write days of ticks that are over, and not exported, to FOLDER/MEASUREMENT/DAY.parquet.

    A file is there whole or not at all, and the mart notes it (ops__tick_export). A day that got
    more points since it was exported is exported again. Ends with 0 also where there is nothing to
    do. It can be ended with Ctrl-C: what is done is kept, and a second run goes on from there.
    """
    if not ticks:
        raise click.UsageError("say what to export: --ticks")
    exported: list[Exported] = []

    def tell(done: Exported) -> None:
        exported.append(done)
        if done.path is not None:
            click.echo(f"{done.day}: {done.points:,} points, {done.path}")

    asked = sorted({day.replace(tzinfo=UTC) for day in days})
    asyncio.run(
        export_ticks(load(config), folder, now=datetime.now(UTC), days=asked, on_export=tell)
    )
    files = [done for done in exported if done.path is not None]
    if not exported:
        click.echo("nothing to export: each day that is over is exported; --day writes one again")
        return
    empty = len(exported) - len(files)
    click.echo(
        f"exported {sum(done.points for done in files):,} points in {counted(len(files), 'file')}"
        + (f"; {counted(empty, 'day')} of a measurement had none" if empty else "")
    )
