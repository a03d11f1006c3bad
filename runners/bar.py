"""Bars from the feeds into the mart: ``python -m runners.bar``."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import click

from ravenwh.app.bar import run_bar
from ravenwh.cli.terminal import run_until_stopped, started


@click.command(epilog="Example: python -m runners.bar --config ravenwh.toml")
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
def main(config: Path | None) -> None:
    """Write the bars of the CANDLE feeds until SIGTERM; a second one ends at once."""
    settings = started(config)
    sys.exit(run_until_stopped(functools.partial(run_bar, settings)))


if __name__ == "__main__":
    main()
