"""The server on one root folder, as the processes that share it see it."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import attrs
from loguru import logger

from ravenwh.domain.errors import RavenwhError, Refused, Unavailable
from ravenwh.embedded import binaries, locks
from ravenwh.embedded.account import server_account
from ravenwh.embedded.cluster import DATABASE, USER
from ravenwh.embedded.launch import Launcher
from ravenwh.embedded.layout import Layout, Postmaster
from ravenwh.embedded.ports import HOST
from ravenwh.embedded.status import Status
from ravenwh.embedded.trouble import translated

__all__ = ["EmbeddedPostgres"]

LOOK_TIMEOUT_S = 1.0

State = Literal["absent", "stopped", "starting", "running", "stopping"]
# PostgreSQL's words for itself; any other one is a part of its start
STATES: Mapping[str, State] = {"ready": "running", "standby": "running", "stopping": "stopping"}


def resolved(root: Path | str) -> Path:
    """The folder's one true name: a server's processes are known by it."""
    return Path(root).expanduser().resolve()


@attrs.define(kw_only=True, eq=False)
class EmbeddedPostgres:
    """One use of the server on ``root``; many, in any processes, share that server.

    ``bin_dir``, ``port``, ``settings`` (PostgreSQL's own, over ours) and ``durable`` count for the
    one who launches it. ``durable=False`` is for throw-away servers: fast, and a kill loses
    commits. A forked child is no user by itself: it starts its own object.

    Methods block and may be called in a thread, one at a time for each object. They raise
    Unavailable, Refused or SettingsError.
    """

    root: Path = attrs.field(converter=resolved)
    bin_dir: Path | None = None
    port: int | None = None
    settings: Mapping[str, str] = attrs.field(factory=dict)
    durable: bool = True
    start_timeout_s: float = 120.0
    stop_timeout_s: float = 30.0
    _use: int | None = attrs.field(default=None, init=False, repr=False)
    _user_pid: int = attrs.field(default=0, init=False, repr=False)
    _server: Postmaster | None = attrs.field(default=None, init=False, repr=False)
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False, repr=False)

    def start(self, *, pin: bool = False) -> Self:
        """Use the server; launch it, and make its data folder, where that was not done yet.

        Calling it again is safe, and brings a server back that was killed meanwhile, on the same
        port where that is still free. ``pin`` lets it run on after its last user, until
        :meth:`shutdown`.
        """
        with translated(self.root):
            self._leave_after_fork()
            with self._changing():
                first = self._use is None
                if first:
                    self._begin_use()
                try:
                    self._server = self._joined() or self._launched()
                except BaseException:
                    if first:
                        self._end_use()
                    raise
                if pin:
                    self._layout.write(self._layout.pinned, b"")
        return self

    def stop(self) -> bool:
        """Use it no longer; true if that ended the server, as the last user's leaving does."""
        with translated(self.root):
            self._leave_after_fork()
            if self._use is None:
                return False
            try:
                with self._changing():
                    last = locks.try_lock(self._use)
                    if not last or self._layout.pinned.exists():
                        return False
                    return self._ended()
            finally:
                self._end_use()

    def shutdown(self, *, force: bool = False) -> bool:
        """Unpin the server and end it; false if none was running.

        Raises Refused while any process uses it, unless ``force``: those users then lose it in
        the middle of their work. Unpinned it stays, so the last of them ends it.
        """
        with translated(self.root):
            self._leave_after_fork()
            if not self._layout.exists():
                return False
            with self._changing():
                self._layout.pinned.unlink(missing_ok=True)
                self._end_use()
                if not force and self._launcher().running() is not None and self._is_used():
                    raise Refused(
                        f"the embedded PostgreSQL in {self.root} is used by other processes "
                        f"({self._users_listed()}) and goes on; it ends with the last of them, or "
                        "now with --force"
                    )
                return self._ended()

    def destroy(self) -> bool:
        """End the server and remove all its data for good; false if there was nothing.

        Only what ravenwh made is removed, and the root folder if nothing else is in it. Raises
        Refused while another process uses it.
        """
        with translated(self.root):
            self._leave_after_fork()
            if not self._layout.exists():
                return False
            with self._changing():
                self._end_use()
                if self._is_used():
                    raise Refused(
                        f"the embedded PostgreSQL in {self.root} is used by other processes "
                        f"({self._users_listed()}) and was left as it is; end them first"
                    )
                self._ended()
                self._launcher().settle()
                self._layout.remove()
                logger.bind(root=str(self.root)).info("EMBEDDED_DESTROYED")
        return True

    def status(self) -> Status:
        """A look that changes nothing, and waits for nobody longer than a second."""
        with translated(self.root):
            layout, launcher = self._layout, self._launcher()
            if not layout.exists():
                return Status(state="absent", root=self.root, log=layout.log)
            try:
                with locks.exclusive(layout.start_lock, timeout_s=LOOK_TIMEOUT_S):
                    return self._looked(launcher.running())
            except Unavailable:
                return Status(state="changing", root=self.root, log=layout.log)

    @property
    def url(self) -> str:
        """The database for SQLAlchemy, with its password. Raises Unavailable if not running."""
        return f"postgresql+asyncpg://{self._address()}"

    @property
    def libpq_url(self) -> str:
        """The database for psql and other tools, with its password."""
        return f"postgresql://{self._address()}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead PostgreSQL's client programs to the database."""
        port, password = self._port_and_password()
        return {
            "PGHOST": HOST,
            "PGPORT": str(port),
            "PGUSER": USER,
            "PGPASSWORD": password,
            "PGDATABASE": DATABASE,
        }

    def program(self, name: str) -> Path:
        """One of PostgreSQL's programs: the server's own, or else one of this name on PATH."""
        record = self._layout.read_record()
        found = binaries.bin_dir(self.bin_dir)
        for folder in (found if record is None else Path(record.bin_dir), found):
            if os.access(folder / name, os.X_OK):
                return folder / name
        other = shutil.which(name)
        if other is None:
            raise Refused(
                f"there is no program {name} in {found}, and none on PATH; install the client "
                "programs of PostgreSQL"
            )
        return Path(other)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _layout(self) -> Layout:
        return Layout(self.root)

    def _launcher(self) -> Launcher:
        return Launcher(
            layout=self._layout,
            account=server_account((self._layout.data, self.root)),
            bin_dir=self.bin_dir,
            port=self.port,
            settings=self.settings,
            durable=self.durable,
            start_timeout_s=self.start_timeout_s,
            stop_timeout_s=self.stop_timeout_s,
        )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Alone among all processes, for as long as any of them may need to start or stop it."""
        with locks.exclusive(
            self._layout.start_lock,
            timeout_s=self.start_timeout_s + self.stop_timeout_s,
            prepare=lambda: self._layout.make_root(self._launcher().account),
        ):
            yield

    def _begin_use(self) -> None:
        self._use = locks.open_file(self._layout.use_lock)
        self._user_pid = os.getpid()
        if not locks.try_lock(self._use, shared=True):
            self._end_use()
            raise Unavailable(f"{self._layout.use_lock} is locked by another program; end it")
        atexit.register(self._at_exit)

    def _end_use(self) -> None:
        atexit.unregister(self._at_exit)
        if self._use is not None:
            locks.close(self._use)
        self._use = self._server = None

    def _leave_after_fork(self) -> None:
        """In a forked child, forget the parent's use; its lock is not ours to change."""
        if self._use is not None and self._user_pid != os.getpid():
            atexit.unregister(self._at_exit)
            os.close(self._use)
            self._use = self._server = self._process = None

    def _at_exit(self) -> None:
        try:
            self.stop()
        except RavenwhError as error:
            logger.bind(root=str(self.root), error=str(error)).warning("EMBEDDED_STOP_FAILED")

    def _joined(self) -> Postmaster | None:
        """The server that is there already, once it can be used; None if none is."""
        if self._process is not None:
            self._process.poll()
        launcher = self._launcher()
        server = launcher.settle()
        if server is None:
            return None
        server = launcher.wait(server.pid)
        record = self._layout.read_record()
        if self.durable and record is not None and not record.durable:
            raise Refused(
                f"the server in {self.root} runs as a throw-away one, whose commits may be lost; "
                "wait until its users have ended, or set embedded.data_dir to another folder"
            )
        if self.port not in (None, server.port):
            logger.bind(wanted=self.port, running=server.port).warning("EMBEDDED_ON_OTHER_PORT")
        return server

    def _launched(self) -> Postmaster:
        server, self._process = self._launcher().launch()
        return server

    def _ended(self) -> bool:
        launcher = self._launcher()
        server = launcher.running()
        if server is not None:
            launcher.end(server, self._process)
        self._process = None
        return server is not None

    def _is_used(self) -> bool:
        return not locks.is_free(self._layout.use_lock)

    def _users_listed(self) -> str:
        return locks.listed(locks.holders(self._layout.use_lock))

    def _looked(self, server: Postmaster | None) -> Status:
        layout = self._layout
        record = layout.read_record()
        state: State
        version: str | None = None
        if (layout.data / "PG_VERSION").exists():
            version = (layout.data / "PG_VERSION").read_text().strip()
        if server is not None:
            state = STATES.get(server.state, "starting")
        else:
            state = "absent" if version is None else "stopped"
        return Status(
            state=state,
            root=self.root,
            log=layout.log,
            pid=None if server is None else server.pid,
            port=None if server is None else server.port,
            version=version if record is None else record.version,
            bin_dir=None if record is None else Path(record.bin_dir),
            durable=record is None or record.durable,
            pinned=layout.pinned.exists(),
            in_use=self._is_used(),
            users=locks.holders(layout.use_lock),
        )

    def _address(self) -> str:
        port, password = self._port_and_password()
        return f"{USER}:{password}@{HOST}:{port}/{DATABASE}"

    def _port_and_password(self) -> tuple[int, str]:
        with translated(self.root):
            port = self._server.port if self._server is not None else self.status().port
            if port is None:
                raise Unavailable(
                    f"the embedded PostgreSQL in {self.root} is not running; `ravenwh db start` "
                    "starts it"
                )
            return port, self._layout.password.read_text().strip()
