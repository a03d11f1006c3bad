"""The data folder: made whole or not at all, and fit for the programs at hand."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from loguru import logger

from ravenwh.domain.errors import Refused, Unavailable
from ravenwh.embedded.account import Account
from ravenwh.embedded.binaries import Binaries
from ravenwh.embedded.layout import Layout

__all__ = ["DATABASE", "USER", "ensure_cluster"]

USER = "ravenwh"
DATABASE = "ravenwh"

INITDB_TIMEOUT_S = 300.0
# a new data folder takes 40 MB and its first log segments 16 MB each
LEAST_FREE_BYTES = 128 * 2**20


def ensure_cluster(
    *, layout: Layout, account: Account, binaries: Binaries, durable: bool, keep: Sequence[int]
) -> None:
    """See that there is a data folder that these programs can serve, with its password.

    To be called while no process of a server is alive. ``keep`` are descriptors that the programs
    inherit: they hold the server's lock, so that what a killed maker leaves running is waited for.
    Raises Refused where the folder is of another major version, Unavailable where one cannot be
    made.
    """
    shutil.rmtree(layout.making, ignore_errors=True)
    if layout.data.is_dir() and any(layout.data.iterdir()):
        check_version(layout, binaries)
        if not layout.password.exists():
            renew_password(layout=layout, account=account, binaries=binaries, keep=keep)
        return
    make_cluster(layout=layout, account=account, binaries=binaries, durable=durable, keep=keep)


def check_version(layout: Layout, binaries: Binaries) -> None:
    """Raises Refused unless the data folder is of the programs' major version."""
    try:
        found = (layout.data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise Refused(
            f"{layout.data} has files in it but is no data folder of PostgreSQL (it has no "
            "PG_VERSION); move it away, or set embedded.data_dir to another folder"
        ) from None
    if found == str(binaries.major):
        return
    raise Refused(
        f"{layout.data} was made by PostgreSQL {found}, and the programs in {binaries.folder} are "
        f"PostgreSQL {binaries.version}, which cannot open it. Either go on with programs of "
        f"version {found}: set embedded.bin_dir to their folder. Or move the data over:\n"
        f"  1. with embedded.bin_dir set to programs of version {found}: `ravenwh db start`, then "
        'DIR/pg_dump --format=custom --file=ravenwh.dump "$(ravenwh db url)", then '
        "`ravenwh db stop`\n"
        f"  2. rename {layout.data} (keep it until the copy is checked), and take embedded.bin_dir "
        "out of the settings again\n"
        f"  3. `ravenwh db start`, then {binaries.folder}/pg_restore --no-owner "
        '--dbname="$(ravenwh db url)" ravenwh.dump\n'
        f"Here DIR is the folder of the programs of version {found}."
    )


def make_cluster(
    *, layout: Layout, account: Account, binaries: Binaries, durable: bool, keep: Sequence[int]
) -> None:
    """A new data folder with our user, password and database, put in place by one rename.

    A kill at any moment leaves at most a folder under another name, which the next start removes.
    """
    free = shutil.disk_usage(layout.root).free
    if free < LEAST_FREE_BYTES:
        raise Unavailable(
            f"the disk of {layout.root} has {free // 2**20} MB free, and a new PostgreSQL needs "
            f"{LEAST_FREE_BYTES // 2**20} MB at least; make room, or set embedded.data_dir to a "
            "folder on another disk",
            needs_person=True,
        )
    layout.write(layout.password, f"{secrets.token_hex(16)}\n".encode())
    layout.making.mkdir(mode=0o700)
    if account.switches:
        shutil.chown(layout.password, account.uid, account.gid)
        shutil.chown(layout.making, account.uid, account.gid)
        check_reach(layout, account)
    sync = [] if durable else ["--no-sync"]
    run(
        account,
        [
            binaries.folder / "initdb",
            "--pgdata",
            layout.making,
            "--username",
            USER,
            "--pwfile",
            layout.password,
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
            *sync,
        ],
        keep=keep,
        aim=f"make a data folder in {layout.root}",
    )
    single_user(
        f"CREATE DATABASE {DATABASE};",
        folder=layout.making,
        account=account,
        binaries=binaries,
        keep=keep,
        aim=f"create the database {DATABASE}",
    )
    if layout.data.is_dir():
        layout.data.rmdir()  # an empty one, or we would not be here
    layout.making.rename(layout.data)
    layout.sync()
    logger.bind(data=str(layout.data), version=binaries.version).info("EMBEDDED_CREATED")


def check_reach(layout: Layout, account: Account) -> None:
    """Raises Unavailable where the account cannot enter the folder that it is given."""
    if account.run(["/bin/sh", "-c", 'cd "$1"', "sh", layout.making]).returncode:
        raise Unavailable(
            f"the user {account.name}, who must run the server because this is root, cannot enter "
            f"{layout.root}: let that user pass through every folder above it (chmod o+x), or set "
            "embedded.data_dir to another folder, such as one below /var/lib",
            needs_person=True,
        )


def renew_password(
    *, layout: Layout, account: Account, binaries: Binaries, keep: Sequence[int]
) -> None:
    """Give the server's user a new password, because the file with the old one is lost."""
    password = secrets.token_hex(16)
    single_user(
        f"ALTER USER {USER} PASSWORD '{password}';",
        folder=layout.data,
        account=account,
        binaries=binaries,
        keep=keep,
        aim="set a new password",
    )
    layout.write(layout.password, f"{password}\n".encode())
    logger.bind(file=str(layout.password)).warning("EMBEDDED_PASSWORD_RENEWED")


def single_user(
    statement: str,
    *,
    folder: Path,
    account: Account,
    binaries: Binaries,
    keep: Sequence[int],
    aim: str,
) -> None:
    """Run a statement on a folder that no server has open, without a server or a password."""
    run(
        account,
        [
            binaries.folder / "postgres",
            "--single",
            "-D",
            folder,
            "-c",
            "exit_on_error=on",
            "-c",
            "log_checkpoints=off",
            "postgres",
        ],
        text=f"{statement}\n",
        keep=keep,
        aim=aim,
    )


def run(
    account: Account,
    arguments: Sequence[str | Path],
    *,
    keep: Sequence[int],
    aim: str,
    text: str = "",
) -> None:
    """Run a program to its good end, or raise Unavailable with what it said."""
    answer = account.run(arguments, text=text, timeout_s=INITDB_TIMEOUT_S, keep=keep)
    if answer.returncode:
        said = answer.stderr.strip() or answer.stdout.strip()
        raise Unavailable(
            f"PostgreSQL could not {aim} (exit code {answer.returncode}); it says:\n{said}",
            needs_person=True,
        )
