"""``ravenwh timescale``: the mart and TimescaleDB."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import click

from ravenwh.app import policies
from ravenwh.app.refresh import refresh
from ravenwh.config import load
from ravenwh.timescale.spans import Span

__all__ = ["command"]


@click.group("timescale", epilog="Example: ravenwh timescale adopt")
def command() -> None:
    """The mart and TimescaleDB."""


@command.command(epilog="Example: ravenwh timescale adopt")
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
def adopt(config: Path | None) -> None:
    """Bring a mart that was migrated without TimescaleDB over to it, all or nothing.

    Tables become hypertables and their rows move into chunks, plain views become continuous
    aggregates, policies are written. Writers wait meanwhile; stop what else uses the tables. A line
    is printed before each step. Then the rollups are filled. Nothing is done where the mart is made
    with TimescaleDB already.
    """
    began = monotonic()
    settings = load(config)
    done = asyncio.run(policies.adopt(settings, click.echo))
    if done:
        click.echo(f"adopted: {len(done)} steps in {monotonic() - began:.1f} s")
        click.echo("filling the rollups; if this is ended, `ravenwh refresh` goes on with it")
        asyncio.run(refresh(settings, Span(), tell=click.echo, on_step=lambda *step: None))
    else:
        click.echo("nothing to adopt: the mart is made with TimescaleDB already")
