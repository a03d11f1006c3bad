"""``ravenwh journal``: what the journals of the runners hold, and replaying it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import attrs
import click

from ravenwh.app.journals import JournalStatus, replay_since, statuses
from ravenwh.cli.moments import moment, shown
from ravenwh.config import load

__all__ = ["command"]


@click.group(name="journal", epilog="Example: ravenwh journal status")
def command() -> None:
    """The log on the local disk that every frame enters before any work."""


@command.command(epilog="Example: ravenwh journal status --json | jq '.[].waiting'")
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, a journal each.")
def status(config: Path | None, as_json: bool) -> None:
    """Say what each runner's journal holds, and who holds it; also while it runs.

    Times in JSON are nanoseconds since 1970, UTC.
    """
    found = statuses(load(config))
    if as_json:
        click.echo(json.dumps([plain(one) for one in found], indent=2))
        return
    for one in found:
        click.echo(described(one))
    if not found:
        click.echo("there is no journal yet: each runner makes its own when it first starts")


@command.command(epilog="Example: ravenwh journal replay --since 2024-01-31T12:00:00Z")
@click.option(
    "--since",
    type=moment,
    required=True,
    metavar="TIME",
    help="The time that the database was brought back to (UTC where it says no zone).",
)
@click.option("--service", help="The runner whose journal it is, as kline; else all of them.")
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
def replay(since: datetime, service: str | None, config: Path | None) -> None:
    """Have everything written again that was written after a time.

    For a database that was restored to an earlier point: stop the runners, restore, replay, start
    the runners. What is in the table already does not change, so an earlier time does no harm.
    Refused while a runner holds its journal, and where the journal does not reach back so far
    (journal.keep_h); then nothing is done, in any of them.
    """
    put_back = replay_since(load(config), since, service)
    for name, frames in put_back.items():
        click.echo(f"{name}: {frames:,} frames are put back; the runner writes them when it starts")
    if not put_back:
        click.echo("there is no journal, so nothing to put back")


def plain(found: JournalStatus) -> dict[str, object]:
    """A status for programs."""
    return {
        "service": found.service,
        "path": str(found.path),
        "holders": found.holders,
        "max_bytes": found.max_bytes,
        **attrs.asdict(found.status),
    }


def described(found: JournalStatus) -> str:
    """A status in lines for people."""
    at = found.status
    pids = ", ".join(map(str, found.holders))
    oldest = "" if at.oldest_waiting is None else f", the oldest of {shown(at.oldest_waiting)}"
    since = "" if at.replayable_from is None else f"; replay --since {shown(at.replayable_from)}"
    lines = [
        ("file", f"{found.path}, {at.file_bytes:,} bytes on disk"),
        ("held by", f"pid {pids}" if pids else "nobody"),
        ("waiting", f"{at.waiting:,} frames{oldest}"),
        ("kept", f"{at.kept:,} frames, {at.bytes:,} of {found.max_bytes:,} bytes{since}"),
        (
            "dead",
            f"{at.dead_letters:,} letters, {at.dead_letters_collapsed:,} more counted only, "
            f"{at.dead_letters_dropped:,} given up at the limit",
        ),
        ("gaps", f"{at.gaps:,} neither repaired nor noted yet"),
    ]
    return "\n".join([found.service, *(f"  {name:<9}{value}" for name, value in lines)])
