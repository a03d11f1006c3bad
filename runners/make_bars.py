"""Bars made of the trades of the feeds: ``python -m runners.make_bars``."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import click

from ravenwh.app.make_bars import run_make_bars
from ravenwh.cli.terminal import run_until_stopped, started


@click.command(epilog="Example: python -m runners.make_bars --config ravenwh.toml")
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
def main(config: Path | None) -> None:
    """Publish bars made of the TRADE feeds until SIGTERM; a second one ends at once."""
    settings = started(config)
    sys.exit(run_until_stopped(functools.partial(run_make_bars, settings)))


if __name__ == "__main__":
    main()
