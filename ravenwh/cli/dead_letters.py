"""``ravenwh dead-letters``: what could never be written, and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import attrs
import click
import msgspec

from ravenwh.app.journals import causes, drop_letters, letters, replay_letters
from ravenwh.cli.moments import shown
from ravenwh.config import load
from ravenwh.domain.errors import Refused
from ravenwh.journal import CauseCount, DeadLetter, Selection

__all__ = ["command"]

LONGEST = 2_000  # characters of a payload that are shown

CommandT = TypeVar("CommandT", bound=Callable[..., object])


def chosen(command: CommandT) -> CommandT:
    """The options that say which letters are meant."""
    for option in (
        click.option("--config", type=click.Path(path_type=Path), help="The settings file."),
        click.option("--service", help="Only those of this runner, as kline."),
        click.option("--feed", help="Only those from this feed of the settings."),
        click.option(
            "--origin", metavar="VENUE:TYPE", help="Only those of this venue and data type."
        ),
        click.option("--code", help="Only those with this code, as UNKNOWN_SYMBOL."),
    ):
        command = option(command)
    return command


@click.group(name="dead-letters", epilog="Example: ravenwh dead-letters list")
def command() -> None:
    """Frames that could never be written, each with its reason."""


@command.command("list", epilog="Example: ravenwh dead-letters list --code UNKNOWN_SYMBOL --each")
@chosen
@click.option("--each", is_flag=True, help="A line for each letter, not for each cause.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object on each line.")
def listed(
    config: Path | None, service: str | None, each: bool, as_json: bool, **which: str | None
) -> None:
    """List the causes, with how many letters have them; also while the runner runs.

    A cause is a feed, a venue and data type, and the code of an error. `counted` are letters that
    came too fast to keep each one, `dropped` those that gave way at journal.max_dead_bytes. Times
    in JSON are nanoseconds since 1970, UTC.
    """
    settings, selection = load(config), Selection(numbers=(), **which)
    if each:
        for name, letter in letters(settings, selection, service):
            click.echo(letter_json(name, letter) if as_json else letter_line(name, letter))
        return
    found = causes(settings, selection, service)
    for name, cause in found:
        if as_json:
            click.echo(json.dumps({"service": name, **attrs.asdict(cause)}))
        else:
            click.echo(cause_lines(name, cause))
    if not found and not as_json:
        click.echo("there are no dead letters")


@command.command(epilog="Example: ravenwh dead-letters show 1234")
@click.argument("number", type=int)
@click.option("--service", help="The runner whose letter it is, where several have this number.")
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
def show(number: int, service: str | None, config: Path | None) -> None:
    """Print one letter, its payload decoded where it is JSON or MessagePack."""
    found = list(letters(load(config), Selection(numbers=(number,)), service))
    if not found:
        raise Refused(f"there is no dead letter {number}: `ravenwh dead-letters list --each`")
    if len(found) > 1:
        names = ", ".join(name for name, _ in found)
        raise Refused(f"{names} each have a dead letter {number}: say which with --service")
    for name, letter in found:
        click.echo(letter_lines(name, letter))


@command.command(epilog="Example: ravenwh dead-letters replay --code UNKNOWN_SYMBOL")
@click.argument("numbers", nargs=-1, type=int)
@chosen
def replay(
    numbers: tuple[int, ...], config: Path | None, service: str | None, **which: str | None
) -> None:
    """Put letters back among the frames that wait: all, those chosen, or those numbered.

    For when their cause is mended, by an entry in routing.symbol_map for instance. Stop the runner
    first, and start it afterwards: it tries them again. What fails again is a letter again, once.
    """
    count = replay_letters(load(config), Selection(numbers=numbers, **which), service)
    _require_some(count)
    click.echo(f"{count:,} letters are put back; the runner tries them when it starts")


@command.command(epilog="Example: ravenwh dead-letters drop --code DECODEERROR --yes")
@click.argument("numbers", nargs=-1, type=int)
@chosen
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(
    numbers: tuple[int, ...],
    config: Path | None,
    service: str | None,
    yes: bool,
    **which: str | None,
) -> None:
    """Remove letters for good: all, those chosen, or those numbered. Stop the runner first."""
    settings, selection = load(config), Selection(numbers=numbers, **which)
    if not yes:
        count = sum(1 for _ in letters(settings, selection, service))
        click.confirm(f"Remove {count:,} dead letters, with the bytes in them?", abort=True)
    count = drop_letters(settings, selection, service)
    _require_some(count)
    click.echo(f"{count:,} letters are removed")


def _require_some(count: int) -> None:
    if not count:
        raise Refused("no dead letter is so: `ravenwh dead-letters list` shows those there are")


def cause_lines(service: str, cause: CauseCount) -> str:
    """A cause in lines for people."""
    counts = [f"{cause.kept:,} kept"]
    counts += [f"{cause.collapsed:,} counted"] if cause.collapsed else []
    counts += [f"{cause.dropped:,} dropped"] if cause.dropped else []
    newest = "" if cause.newest is None else f"\n  number {cause.newest}: {cause.reason}"
    return (
        f"{service} {cause.feed or '*'} {cause.origin or '*'} {cause.code}: {', '.join(counts)}, "
        f"{shown(cause.first_at)} to {shown(cause.last_at)}{newest}"
    )


def letter_line(service: str, letter: DeadLetter) -> str:
    """A letter in a line for people."""
    topic = text_of(letter.frame.topic).strip()
    return f"{service} {letter.seq} {shown(letter.at)} {letter.code} {topic}: {letter.reason}"


def letter_json(service: str, letter: DeadLetter) -> str:
    """A letter in a line for programs; the payload is base64, the header hexadecimal."""
    frame = letter.frame
    fields = {"service": service, **attrs.asdict(letter, filter=lambda at, _: at.name != "frame")}
    fields |= {"feed": frame.feed, "topic": text_of(frame.topic), "header": frame.header.hex()}
    fields |= {"received_at": frame.received_at, "payload": frame.payload}
    return msgspec.json.encode(fields).decode()


def letter_lines(service: str, letter: DeadLetter) -> str:
    """All of a letter, for people."""
    frame = letter.frame
    return "\n".join(
        f"{name:<12}{value}"
        for name, value in (
            ("number", f"{letter.seq} of {service}"),
            ("refused", shown(letter.at)),
            ("error", f"{letter.error}, {letter.code}"),
            ("reason", letter.reason),
            ("feed", frame.feed),
            ("topic", text_of(frame.topic)),
            ("received", shown(frame.received_at)),
            ("header", frame.header.hex()),
            ("payload", f"{len(frame.payload):,} bytes"),
        )
    ) + ("\n" + decoded(frame.payload))


def decoded(payload: bytes) -> str:
    """What a payload says, as JSON; as bytes where it is neither JSON nor MessagePack."""
    for decode in (msgspec.json.decode, msgspec.msgpack.decode):
        try:
            value = msgspec.json.encode(decode(payload))
        except (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError, ValueError):
            continue
        return cut(msgspec.json.format(value, indent=2).decode())
    return cut(repr(payload))


def text_of(raw: bytes) -> str:
    """Bytes that should be text, with escapes for what is none."""
    text = raw.decode("utf-8", "backslashreplace")
    return cut(text if text.isprintable() else repr(raw))


def cut(text: str) -> str:
    """No more of a text than anybody reads."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text):,} characters)"
