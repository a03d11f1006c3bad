"""Ticks from the feeds into InfluxDB: ``python -m runners.tick``."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import click

from ravenwh.app.tick import run_tick
from ravenwh.cli.terminal import run_until_stopped, started


@click.command(epilog="Example: python -m runners.tick --config ravenwh.toml")
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
def main(config: Path | None) -> None:
    """Write trades, best prices and the other ticks of the feeds until SIGTERM.

    A second signal ends it at once.
    """
    settings = started(config)
    sys.exit(run_until_stopped(functools.partial(run_tick, settings)))


if __name__ == "__main__":
    main()
