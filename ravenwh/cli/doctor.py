"""``ravenwh doctor``: the preflight, without seeding."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import attrs
import click

from ravenwh.app.doctor import examine
from ravenwh.config import load

__all__ = ["command"]


@click.command(epilog="Example: ravenwh doctor --json | jq '.[] | select(.ok | not)'")
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of findings.")
@click.pass_context
def command(context: click.Context, config: Path | None, as_json: bool) -> None:
    """Check everything a runner needs, and say how to mend what is not right.

    Exit code 1 if a required check failed.
    """
    found = asyncio.run(examine(load(config)))
    if as_json:
        click.echo(json.dumps([attrs.asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            click.echo(str(finding))
    context.exit(1 if any(finding.fatal for finding in found) else 0)
