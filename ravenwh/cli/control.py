"""``ravenwh control``: what a running program collects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from ravenwh.app.feeds import control_client
from ravenwh.config import load
from ravenwh.domain.settings import Settings
from ravenwh.feed.control import Answer, Changed, Collected, Collection
from ravenwh.feed.control_client import ControlClient

__all__ = ["command"]

_SERVICES = sorted(port.service for port in Settings().server.ports() if port.purpose == "control")

AnswerT = TypeVar("AnswerT", bound=Answer)
CommandT = TypeVar("CommandT", bound=Callable[..., object])


def asks(command: CommandT) -> CommandT:
    """The options that say whom to ask."""
    for option in (
        click.option("--server-key", help="The public key of who answers there, if not our own."),
        click.option("--endpoint", help="Where to ask, such as tcp://127.0.0.1:5571."),
        click.option(
            "--service",
            type=click.Choice(_SERVICES),
            default="kline",
            show_default=True,
            help="Whom to ask on this machine, unless an endpoint is given.",
        ),
        click.option("--config", type=click.Path(path_type=Path), help="The settings file."),
    ):
        command = option(command)
    return command


def names(command: CommandT) -> CommandT:
    """The arguments that name a collection."""
    for name in ("symbol", "data_type", "venue"):
        command = click.argument(name)(command)
    return command


def answer(
    request: Callable[[ControlClient], Awaitable[AnswerT]],
    *,
    config: Path | None,
    service: str,
    endpoint: str | None,
    server_key: str | None,
) -> AnswerT:
    """What comes back from one request to whom the options name."""

    async def asked() -> AnswerT:
        with control_client(
            load(config), service=service, endpoint=endpoint, server_key=server_key
        ) as client:
            return await request(client)

    return asyncio.run(asked())


@click.group("control", epilog="Example: ravenwh control list --service kline")
def command() -> None:
    """Say what a running program is to collect, and see what it does.

    Exit codes: 0 it was answered; 1 it was refused, or nobody answered; 2 wrong usage or settings.
    """


@command.command(epilog="Example: ravenwh control start BINANCE_SPOT CANDLE BTCUSDT")
@names
@asks
def start(venue: str, data_type: str, symbol: str, **whom: Any) -> None:
    """Collect DATA_TYPE of SYMBOL at VENUE from now on, also after a restart; '*' is every symbol.

    What is collected already stays as it is.
    """
    wanted = Collection(venue, data_type, symbol)
    done = answer(lambda client: client.start_collection(wanted), **whom)
    tell_change(wanted, done, changed="is collected from now on", not_changed="was so already")


@command.command(epilog="Example: ravenwh control stop BINANCE_SPOT CANDLE BTCUSDT")
@names
@asks
def stop(venue: str, data_type: str, symbol: str, **whom: Any) -> None:
    """Collect DATA_TYPE of SYMBOL at VENUE no longer, also after a restart."""
    unwanted = Collection(venue, data_type, symbol)
    done = answer(lambda client: client.stop_collection(unwanted), **whom)
    tell_change(unwanted, done, changed="is collected no longer", not_changed="was not collected")


@command.command("list", epilog="Example: ravenwh control list --json | jq -r '.[].symbol'")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@asks
def list_(as_json: bool, **whom: Any) -> None:
    """Print what is collected, a line each: venue, data type, symbol."""
    found = answer(ControlClient.list_collections, **whom)
    if as_json:
        click.echo(msgspec.json.encode(found.collections).decode())
    else:
        tell_collections(found)


@command.command("stop-all", epilog="Example: ravenwh control stop-all --service replay")
@asks
def stop_all(**whom: Any) -> None:
    """Collect nothing any more, also after a restart; print what was collected."""
    tell_collections(answer(ControlClient.stop_all_collections, **whom))


def tell_change(collection: Collection, done: Changed, *, changed: str, not_changed: str) -> None:
    """One line: what became of the collection."""
    click.echo(f"{collection}: {done.note or (changed if done.changed else not_changed)}")


def tell_collections(found: Collected) -> None:
    """A line for each, and what there is to say of them."""
    for one in found.collections:
        click.echo(f"{one.venue} {one.data_type} {one.symbol}")
    if found.note:
        click.echo(found.note, err=True)
