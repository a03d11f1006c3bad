"""Preflight and seeding: ``python -m runners.init``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from ravenwh.app.seeding import init
from ravenwh.cli.terminal import ended_by, started
from ravenwh.domain.errors import RavenwhError
from ravenwh.warehouse.seed import Pruning


@click.command(epilog="Example: python -m runners.init --dry-run")
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option(
    "--max-soft-delete",
    type=click.FloatRange(0, 100),
    default=10.0,
    show_default=True,
    metavar="PERCENT",
    help="The largest share of a dimension to soft-delete at once; 3 rows are always allowed.",
)
def main(config: Path | None, dry_run: bool, max_soft_delete: float) -> None:
    """Check everything, then bring dimensions, policies and bucket in line with the settings."""
    settings = started(config)
    pruning = Pruning(share=max_soft_delete / 100)
    try:
        done = asyncio.run(init(settings, pruning=pruning, dry_run=dry_run))
    except RavenwhError as error:
        sys.exit(ended_by(error))
    for finding in done.findings:
        print(finding)
    if done.plans is None:
        print("nothing was seeded: mend what failed, then run this again", file=sys.stderr)
        sys.exit(1)
    planned = "plan: " if dry_run else ""
    for line in (*(plan.line for plan in done.plans), *done.policies):
        print(f"{planned}{line}")
    if done.not_written is not None:
        print(f"the policies were left as they are: {done.not_written}", file=sys.stderr)
    if done.bucket is not None:
        print(done.bucket)
        if done.bucket.fatal:
            print("the bucket takes no points: mend it, then run this again", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
