"""``ravenwh alembic``: Alembic on the mart, wherever ravenwh was installed to."""

from __future__ import annotations

from pathlib import Path

import click
from alembic.config import CommandLine
from alembic.util import CommandError

from ravenwh.app.preflight import alembic_config
from ravenwh.config import load
from ravenwh.domain.errors import Refused
from ravenwh.warehouse.errors import translated

__all__ = ["command"]


@click.command(
    epilog="Example: ravenwh alembic upgrade head",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
def command(config: Path | None, arguments: tuple[str, ...]) -> None:
    """Run Alembic with our migrations on the database of the settings.

    What follows is Alembic's own: upgrade head, downgrade -1, check, current, history,
    upgrade head --sql, ... `ravenwh alembic upgrade --help` explains one of them.
    """
    line = CommandLine(prog="ravenwh alembic")
    options = line.parser.parse_args(arguments)
    if not hasattr(options, "cmd"):
        raise click.UsageError("name a command of Alembic, such as `upgrade head`")
    shows_tracebacks, options.raiseerr = options.raiseerr, True
    alembic = alembic_config(load(config))
    alembic.cmd_opts = options
    if shows_tracebacks:
        line.run_cmd(alembic, options)
        return
    try:
        with translated():
            line.run_cmd(alembic, options)
    except CommandError as error:
        raise Refused(str(error)) from error
