"""``ravenwh keys``: pairs of CURVE keys."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ravenwh.domain.errors import Refused
from ravenwh.feed.curve import new_pair

__all__ = ["command"]

_WHERE = """\
secret key: in {file}, which only you may read; it is shown nowhere
public key: {public}
            (also in {file}.pub)

Here, where this pair is used:
  who binds         [server]      secret_key_file = "{file}"
  who connects      [feeds.NAME]  secret_key_file = "{file}"
                                  public_key = "{public}"
At the other end, which gets the public key only:
  of who connects   [feeds.NAME]  server_key = "{public}"
  of who binds      [server]      client_keys = ["{public}"]"""


@click.group("keys", epilog="Example: ravenwh keys new server.key")
def command() -> None:
    """Keys that encrypt feeds and control, and let in those whom you know."""


@command.command(epilog="Example: ravenwh keys new /etc/ravenwh/server.key")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def new(file: Path) -> None:
    """Make a pair: the secret key into FILE, for its owner only, the public one is printed.

    A file that is there is never written over. Exit code 1 if it cannot be written.
    """
    public_file = file.with_name(f"{file.name}.pub")
    for there in (file, public_file):
        if there.exists():
            raise Refused(f"{there} is there already; name a new file, or move that one away")
    public, secret = new_pair()
    _write(file, secret, mode=0o600)
    _write(public_file, public, mode=0o644)
    click.echo(_WHERE.format(file=file, public=public))


def _write(file: Path, key: str, mode: int) -> None:
    """Write a new file, never readable for more than it ends up being."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise Refused(f"{file} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "w") as opened:
        os.fchmod(descriptor, mode)  # whatever the umask takes away
        opened.write(f"{key}\n")
