"""``ravenwh alembic``: Alembic on the mart, wherever ravenwh was installed to."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from alembic.config import CommandLine
from alembic.util import CommandError

from ravenwh.app.preflight import alembic_config
from ravenwh.config import load
from ravenwh.domain.errors import Refused

__all__ = ["command"]


@click.command(
    epilog="Example: ravenwh alembic upgrade head",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run Alembic with our migrations on the database of the settings.

    ``-x config=FILE`` names the settings file, as it does for plain ``alembic`` in a checkout.
    """
    line = CommandLine(prog="ravenwh alembic")
    options = line.parser.parse_args(arguments)
    if not hasattr(options, "cmd"):
        line.parser.print_help()
        sys.exit(0 if not arguments else 2)
    file = dict(given.partition("=")[::2] for given in options.x or ()).get("config")
    config = alembic_config(load(Path(file) if file else None))
    config.cmd_opts = options
    try:
        line.run_cmd(config, options)
    except CommandError as error:
        raise Refused(str(error)) from error
