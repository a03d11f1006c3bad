"""``ravenwh db``: the embedded PostgreSQL, by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from ravenwh.domain.errors import Refused
from ravenwh.embedded import EmbeddedPostgres, Status, default_root

__all__ = ["command"]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def server() -> EmbeddedPostgres:
    """The server that the settings of this call mean."""
    from ravenwh.config import load

    embedded = load(click.get_current_context().find_object(Path)).embedded
    return EmbeddedPostgres(
        root=embedded.data_dir or default_root(),
        bin_dir=embedded.bin_dir,
        port=embedded.port,
    )


def keep(context: click.Context, _: click.Parameter, config: Path | None) -> None:
    """Keep the settings file where :func:`server` finds it."""
    if config is not None:
        context.obj = config


def config_option(*, hidden: bool = False) -> Callable[[Decorated], Decorated]:
    """The option for the settings file."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        expose_value=False,
        callback=keep,
        hidden=hidden,
        help="The settings file; without it RAVENWH_CONFIG, then ./ravenwh.toml.",
    )


@click.group(name="db", epilog="Example: ravenwh db start && ravenwh db psql -c 'select version()'")
@config_option(hidden=True)  # it stood here first; each command has it, as everywhere else
def command() -> None:
    """The embedded PostgreSQL that ravenwh starts when timescale.url is "embedded"."""


@command.command(epilog="Example: ravenwh db start")
@config_option()
def start() -> None:
    """Start it, and keep it running after this command.

    Runners and notebooks start it by themselves and end it with the last of them; started here it
    goes on until `ravenwh db stop`.
    """
    used = server()
    used.start(pin=True)
    used.stop()
    click.echo(described(used.status()))


@command.command(epilog="Example: ravenwh db stop")
@config_option()
@click.option("--force", is_flag=True, help="Stop it even while other processes use it.")
def stop(force: bool) -> None:
    """Stop it. Refused while other processes use it: it then stops with the last of them."""
    stopped = server().shutdown(force=force)
    click.echo("stopped" if stopped else "it was not running")


@command.command(epilog="Example: ravenwh db status")
@config_option()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Say whether it runs, where, and who uses it. Exit code 1 unless it is running."""
    found = server().status()
    if as_json:
        click.echo(json.dumps(attrs.asdict(found), default=str))
    else:
        click.echo(described(found))
    context.exit(0 if found.state == "running" else 1)


@command.command(epilog='Example: pg_dump "$(ravenwh db url)" > mart.sql')
@config_option()
@click.option("--sqlalchemy", is_flag=True, help="Print it as SQLAlchemy and asyncpg take it.")
def url(sqlalchemy: bool) -> None:
    """Print the URL of the running server, password included, to paste into other tools."""
    running = server()
    click.echo(running.url if sqlalchemy else running.libpq_url)


@command.command(
    epilog="Example: ravenwh db psql -c 'select count(*) from mart.fact__kline'",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@config_option()
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def psql(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Open psql on it; what follows is passed on to psql. Its exit code is psql's.

    The server is started if need be, and counts this psql as a user.
    """
    with server() as used:
        program = used.program("psql")
        # psql gets this process's environment, but for what would lead it to another server
        environment = {name: os.environ[name] for name in os.environ if not name.startswith("PG")}
        # Ctrl-C is psql's to handle; the default comes back to it, because it is another program
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            code = subprocess.call(  # noqa: S603 - the user's own arguments to the user's own psql
                [program, *arguments], env=environment | used.environment
            )
        finally:
            signal.signal(signal.SIGINT, before)
    context.exit(code if code >= 0 else 128 - code)


@command.command(epilog="Example: ravenwh db destroy --yes")
@config_option()
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(yes: bool) -> None:
    """Remove the server with all its data, for good. Refused while any process uses it."""
    doomed = server()
    found = doomed.status()
    if found.in_use:
        raise Refused(
            f"the embedded PostgreSQL in {found.root} is in use{by(found)}; end its users first"
        )
    if found.state == "absent":
        click.echo(f"there is nothing in {found.root}")
        return
    if not yes:
        click.confirm(f"Remove {found.root} with all the data in it?", abort=True)
    doomed.destroy()
    click.echo(f"removed {found.root}")


def described(found: Status) -> str:
    """A status in lines for people."""
    lines = [("state", found.state + (", until `ravenwh db stop`" if kept(found) else ""))]
    if found.port is not None:
        lines.append(("address", f"127.0.0.1:{found.port} (pid {found.pid})"))
    lines.append(("folder", str(found.root)))
    if found.version is not None:
        lines.append(("PostgreSQL", f"{found.version}{in_folder(found)}"))
    if not found.durable:
        lines.append(("durable", "no: a kill may lose commits"))
    if found.in_use:
        lines.append(("in use", f"yes{by(found)}"))
    lines.append(("log", str(found.log)))
    return "\n".join(f"{name:<11}{value}" for name, value in lines)


def kept(found: Status) -> bool:
    """Whether it goes on running without users."""
    return found.pinned and found.state == "running"


def in_folder(found: Status) -> str:
    """Where its programs are, if that is known."""
    return "" if found.bin_dir is None else f" from {found.bin_dir}"


def by(found: Status) -> str:
    """The users, if they are known."""
    return f" by pid {', '.join(map(str, found.users))}" if found.users else ""
