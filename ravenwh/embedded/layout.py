"""What lies where below a root folder, and the small files there."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import attrs
import msgspec
import platformdirs

from ravenwh.domain.errors import Refused
from ravenwh.embedded.account import Account, give_to_owner_of

__all__ = ["Layout", "Postmaster", "Record", "default_root"]


def default_root() -> Path:
    """The folder of this user's embedded PostgreSQL.

    For root it is below /var/lib, because the plain user that runs the server there must be able
    to enter it, and /root is closed to that user.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/ravenwh/postgres")
    return platformdirs.user_data_path("ravenwh") / "postgres"


class Record(msgspec.Struct, frozen=True):
    """How the server was last launched; whether it runs is never read from here."""

    port: int
    durable: bool
    version: str
    bin_dir: str


@attrs.frozen(kw_only=True)
class Postmaster:
    """What PostgreSQL's own ``postmaster.pid`` says; ``state`` is "starting", "ready", .. or "".

    ``port`` is 0 for a program that serves nobody (single-user mode).
    """

    pid: int
    port: int
    state: str


@attrs.frozen
class Layout:
    """The paths below one root folder."""

    root: Path

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder: absent or whole."""
        return self.root / "data"

    @property
    def making(self) -> Path:
        """A data folder that is being made, or was when its maker died."""
        return self.root / "data.new"

    @property
    def password(self) -> Path:
        """The password of the server's only user, and a line end."""
        return self.root / "password"

    @property
    def record(self) -> Path:
        """A Record as JSON."""
        return self.root / "server.json"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.root / "postgres.log"

    @property
    def old_log(self) -> Path:
        """The log before it grew too long."""
        return self.root / "postgres.log.1"

    @property
    def pinned(self) -> Path:
        """Exists while the server shall run on without users."""
        return self.root / "pinned"

    @property
    def binaries(self) -> Path:
        """Copies of programs, where the originals are out of the server's reach."""
        return self.root / "binaries"

    @property
    def start_lock(self) -> Path:
        """Held alone by whoever starts, stops or looks: all other rules rest on it."""
        return self.root / "start.lock"

    @property
    def use_lock(self) -> Path:
        """Held in common by every process that uses the server."""
        return self.root / "use.lock"

    @property
    def server_lock(self) -> Path:
        """Held by the server's processes themselves, who inherit it from their launcher."""
        return self.root / "server.lock"

    @property
    def locks(self) -> tuple[Path, ...]:
        """The files of the locks."""
        return (self.use_lock, self.server_lock, self.start_lock)

    def exists(self) -> bool:
        """Whether anything of a server was ever made here."""
        return self.start_lock.exists() or self.data.exists()

    def make_root(self, account: Account) -> None:
        """Make the root folder, if need be, such that the account can pass through it.

        A folder that exists keeps its mode, it may be someone's on purpose. Raises Refused for a
        folder that is itself a data folder of PostgreSQL.
        """
        if (self.root / "PG_VERSION").exists():
            raise Refused(
                f"{self.root} is itself the data folder of a PostgreSQL server; ravenwh keeps its "
                "own below the folder that embedded.data_dir names: name another one"
            )
        absent = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        for folder in reversed(absent):
            folder.mkdir(exist_ok=True)
            if folder != self.root:
                folder.chmod(0o755)
            else:
                folder.chmod(0o711 if account.switches else 0o700)

    def read_record(self) -> Record | None:
        """The record, or None where there is none that can be read as one."""
        try:
            return msgspec.json.decode(self.record.read_bytes(), type=Record)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write_record(self, record: Record) -> None:
        """Put the record of a launch in place."""
        self.write(self.record, msgspec.json.encode(record))

    def read_postmaster(self) -> Postmaster | None:
        """The server that the data folder names, dead or alive; None where it names none."""
        try:
            lines = (self.data / "postmaster.pid").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return None
        lines += [""] * (8 - len(lines))
        if not lines[0].lstrip("-").isdecimal():
            return None
        pid = int(lines[0])  # negative in single-user mode
        port = int(lines[3]) if pid > 0 and lines[3].isdecimal() else 0
        return Postmaster(pid=abs(pid), port=port, state=lines[7].strip())

    def write(self, path: Path, content: bytes) -> None:
        """Put a small private file in place, whole or not at all, and on the disk.

        It belongs to the owner of the root folder, also where root writes it.
        """
        making = path.with_name(f"{path.name}.new")
        making.unlink(missing_ok=True)
        descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            give_to_owner_of(self.root, descriptor)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        making.replace(path)
        self.sync()

    def remove(self) -> None:
        """Remove all that this page names, and the root folder if nothing else is in it.

        To be called under the start lock, which ends with its file.
        """
        if self.data.exists():
            # a removal that is cut short must not leave a data folder with holes in it
            shutil.rmtree(self.making, ignore_errors=True)
            self.data.rename(self.making)
        for folder in (self.making, self.binaries):
            if folder.exists():
                shutil.rmtree(folder)
        for file in (self.record, self.password, self.pinned, self.log, self.old_log, *self.locks):
            file.unlink(missing_ok=True)
        with suppress(OSError):
            self.root.rmdir()

    def sync(self) -> None:
        """Bring the names in the root folder to the disk."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
