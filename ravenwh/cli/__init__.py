"""The command ``ravenwh``: a thin face of :mod:`ravenwh.app`, one module a command.

Commands are loaded when they are asked for, so that ``ravenwh --version`` is quick. An error of
ours ends a command with its text and exit code (1, or 2 for settings and usage), never with a
traceback.
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

from ravenwh.domain.errors import RavenwhError

__all__ = ["main"]

COMMANDS = {
    "alembic": "run Alembic on the mart, with our migrations",
    "bars": "make the bars of a history: build",
    "control": "start, stop and list what a running program collects",
    "dead-letters": "what could never be written: list, show, replay, drop",
    "db": "the embedded PostgreSQL: start, stop, status, url, psql, destroy",
    "demo": "see klines and bars on their whole way, in a temporary folder",
    "doctor": "check everything a runner needs; change nothing",
    "export": "days of ticks out of InfluxDB into Parquet files",
    "policies": "what TimescaleDB does by itself: show, apply",
    "refresh": "bring the rollups up to date where their policies do not look",
    "journal": "what waits to be written: status, and replay into a restored database",
    "keys": "make keys that encrypt feeds and control",
    "settings": "print the settings in force, and where each came from",
    "timescale": "adopt: bring a mart made without TimescaleDB over to it",
    "up": "start everything on one machine, in order; end it in order",
}


class Lazy(click.Group):
    """A group whose commands are modules of this package, imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"ravenwh.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The names with a line each, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=Lazy, epilog="Example: ravenwh doctor")
@click.version_option(package_name="ravenwh", prog_name="ravenwh")
def ravenwh() -> None:
    """The crypto market-data warehouse."""
    from ravenwh.cli.terminal import configure_log  # not loaded for --version and --help
    from ravenwh.domain.settings import Log

    configure_log(Log(level="WARNING"))


def main() -> None:
    """Run the command; an error of ours becomes its text and exit code."""
    try:
        ravenwh.main(prog_name="ravenwh")
    except RavenwhError as error:
        print(f"ravenwh: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
