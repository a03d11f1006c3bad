"""A server's beginning and end: launched, waited for, ended, and cleaned up after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import attrs
from loguru import logger

from ravenwh.domain.errors import RavenwhError, Unavailable
from ravenwh.embedded import locks
from ravenwh.embedded.account import Account, give_to_owner_of
from ravenwh.embedded.binaries import Binaries, find, reachable
from ravenwh.embedded.cluster import ensure_cluster
from ravenwh.embedded.layout import Layout, Postmaster, Record
from ravenwh.embedded.ports import HOST, choose_port
from ravenwh.embedded.processes import has_proc, is_postgres, working_in
from ravenwh.embedded.trouble import explained

__all__ = ["Launcher"]

SETTINGS: Mapping[str, str] = {
    "max_connections": "60",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "wal_level": "minimal",  # no replicas, so less to write
    "max_wal_senders": "0",
    "jit": "off",  # compiling takes longer than our short statements
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
THROW_AWAY = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
REACH = {"listen_addresses": HOST, "unix_socket_directories": ""}

POLL_S = 0.01
PORT_TRIES = 3
LONGEST_LOG_BYTES = 10 * 2**20

# A server's processes end by themselves when its first one was killed, unless they are busy. After
# these seconds they are told what a living server would tell them after the crash of one of them.
REMAINS_QUIT_S = 1.0
REMAINS_KILL_S = 3.0
REMAINS_GIVE_UP_S = 15.0

# In an immediate shutdown PostgreSQL gives its processes five seconds, then it kills them.
IMMEDIATE_STOP_S = 15.0

PORT_TAKEN = ("Address already in use", "could not create any TCP/IP sockets")


@attrs.frozen(kw_only=True)
class Launcher:
    """Starts and ends servers on one layout. All of it is to be called under the start lock."""

    layout: Layout
    account: Account
    bin_dir: Path | None
    port: int | None
    settings: Mapping[str, str]
    durable: bool
    start_timeout_s: float
    stop_timeout_s: float

    def running(self) -> Postmaster | None:
        """The living server, whatever its state; changes nothing."""
        server = self.layout.read_postmaster()
        if server is None or not server.port or not is_postgres(server.pid):
            return None
        if not locks.is_free(self.layout.server_lock):
            return server
        # Nobody launched by us lives. The pid may be a server that someone started by hand on this
        # folder, or a number that has come to mean another process since.
        return server if server.pid in working_in((self.layout.data,), self.account) else None

    def settle(self) -> Postmaster | None:
        """The server that can be used, starting or ready; None once all remains of one are gone.

        Waits for a server that is stopping, ends what a killed one left behind, and removes its
        pid file. Raises Unavailable where that takes too long.
        """
        begun = time.monotonic()
        sent: set[signal.Signals] = set()
        while not locks.is_free(self.layout.server_lock):
            server = self.running()
            if server is not None:
                if server.state != "stopping":
                    return server
                self._wait_for_end(server, None)
                continue
            waited = time.monotonic() - begun
            self._end_remains(waited, sent)
            if waited > REMAINS_GIVE_UP_S:
                raise Unavailable(
                    f"processes of an earlier PostgreSQL still hold {self.layout.root} after "
                    f"{waited:.0f} s, where this process cannot end them (another container, or a "
                    "disk that does not answer?); end them, then try again",
                    needs_person=True,
                )
            time.sleep(POLL_S)
        server = self.running()
        stale = self.layout.data / "postmaster.pid"
        if server is None and stale.exists() and has_proc():
            # PostgreSQL would take a zombie, or any process that got the number, for itself
            stale.unlink(missing_ok=True)
            logger.bind(file=str(stale)).info("EMBEDDED_STALE_PID_REMOVED")
        return server

    def _end_remains(self, waited: float, sent: set[signal.Signals]) -> None:
        for limit, number in ((REMAINS_QUIT_S, signal.SIGQUIT), (REMAINS_KILL_S, signal.SIGKILL)):
            if waited < limit or number in sent:
                continue
            sent.add(number)
            folders = (self.layout.data, self.layout.making)
            pids = [pid for pid in working_in(folders, self.account) if is_postgres(pid)]
            logger.bind(pids=pids, signal=number.name).warning("EMBEDDED_REMAINS_ENDED")
            for pid in pids:
                send(pid, number)

    def launch(self) -> tuple[Postmaster, subprocess.Popen[bytes]]:
        """Start a server, after :meth:`settle` found none, and wait until it can be used."""
        programs = reachable(find(self.bin_dir), self.account, self.layout.binaries)
        lock = locks.open_file(self.layout.server_lock)
        try:
            if not locks.try_lock(lock):
                raise Unavailable(f"a PostgreSQL server holds {self.layout.root}; try again")
            ensure_cluster(
                layout=self.layout,
                account=self.account,
                binaries=programs,
                durable=self.durable,
                keep=[lock],
            )
            for tries_left in reversed(range(PORT_TRIES)):
                started = self._spawn(programs, lock, other_port=tries_left < PORT_TRIES - 1)
                if started is not None:
                    return started
        finally:
            # the server holds the lock through its own copy, until its last process ends
            os.close(lock)
        raise Unavailable(
            f"each port on {HOST} that was free was taken by another program before PostgreSQL "
            "could listen on it; try again"
        )

    def _spawn(
        self, programs: Binaries, lock: int, *, other_port: bool
    ) -> tuple[Postmaster, subprocess.Popen[bytes]] | None:
        """One try; None where its port was taken meanwhile and another one may be had."""
        last = self.layout.read_record()
        port = choose_port(
            wanted=self.port, last=last.port if last is not None and not other_port else None
        )
        if last is not None and last.port != port:
            logger.bind(before=last.port, now=port).warning("EMBEDDED_PORT_CHANGED")
        record = Record(
            port=port,
            durable=self.durable,
            version=programs.version,
            bin_dir=str(programs.folder),
        )
        self.layout.write_record(record)
        options = {
            **SETTINGS,
            **self.settings,
            **(DURABLE if self.durable else THROW_AWAY),
            **REACH,
            "port": str(port),
        }
        log = self._open_log()
        try:
            begin = os.fstat(log).st_size
            begun = time.monotonic()
            process = self.account.spawn(
                [
                    programs.folder / "postgres",
                    "-D",
                    self.layout.data,
                    *(part for name in options for part in ("-c", f"{name}={options[name]}")),
                ],
                output=log,
                keep=[lock],
            )
        finally:
            os.close(log)
        try:
            server = self.wait(process.pid, process=process, log_from=begin)
        except RavenwhError:
            said = self._said(begin)
            if self.port is None and any(sign in said for sign in PORT_TAKEN):
                return None
            raise
        except BaseException:
            # nobody can have joined it under our lock; it must not outlive a Ctrl-C of its start
            process.send_signal(signal.SIGINT)
            process.wait(self.stop_timeout_s)
            raise
        logger.bind(
            port=server.port,
            pid=server.pid,
            version=programs.version,
            data=str(self.layout.data),
            took_s=round(time.monotonic() - begun, 3),
        ).info("EMBEDDED_STARTED")
        return server, process

    def wait(
        self, pid: int, *, process: subprocess.Popen[bytes] | None = None, log_from: int = 0
    ) -> Postmaster:
        """The server once it takes connections.

        Raises Unavailable where it ended instead, or still is not ready in time: then it goes on,
        because a recovery that is cut short must begin again.
        """
        deadline = time.monotonic() + self.start_timeout_s
        while True:
            server = self.layout.read_postmaster()
            if server is not None and server.pid == pid and server.state in ("ready", "standby"):
                return server
            ended = process.poll() is not None if process is not None else not is_postgres(pid)
            if ended:
                raise Unavailable(
                    explained(self._said(log_from), self.layout.log), needs_person=True
                )
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"PostgreSQL (pid {pid}) has been starting for {self.start_timeout_s:g} s and "
                    "goes on: after a crash it first replays its log. Try again later; see "
                    f"{self.layout.log}"
                )
            time.sleep(POLL_S)

    def end(self, server: Postmaster, process: subprocess.Popen[bytes] | None) -> None:
        """End the server, its clients' open transactions with it, and wait until it is gone."""
        send(server.pid, signal.SIGINT)
        self._wait_for_end(server, process)
        logger.bind(port=server.port, pid=server.pid).info("EMBEDDED_STOPPED")

    def _wait_for_end(self, server: Postmaster, process: subprocess.Popen[bytes] | None) -> None:
        """Wait for a server that was told to stop, and tell it more firmly after a time.

        It may hang for good, as PostgreSQL 18 does when it is told during a recovery. An immediate
        shutdown loses no acknowledged commit: the next start recovers it from the log.
        """
        begun = time.monotonic()
        firmly = False
        while is_postgres(server.pid) or not locks.is_free(self.layout.server_lock):
            if process is not None:
                process.poll()  # it is our child: while it is not asked for, it stays a zombie
            waited = time.monotonic() - begun
            if waited > self.stop_timeout_s and not firmly:
                firmly = True
                logger.bind(pid=server.pid, waited_s=round(waited, 1)).warning(
                    "EMBEDDED_STOP_FORCED"
                )
                send(server.pid, signal.SIGQUIT)
            if waited > self.stop_timeout_s + IMMEDIATE_STOP_S:
                raise Unavailable(
                    f"PostgreSQL (pid {server.pid}) was told to stop {waited:.0f} s ago and did "
                    f"not; see {self.layout.log}, and the disk of that folder",
                    needs_person=True,
                )
            time.sleep(POLL_S)
        if process is not None:
            process.poll()

    def _open_log(self) -> int:
        """The log, open for appending; what grew too long is put aside, one of it is kept."""
        log = self.layout.log
        if log.exists() and log.stat().st_size > LONGEST_LOG_BYTES:
            log.replace(self.layout.old_log)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        give_to_owner_of(self.layout.root, descriptor)
        return descriptor

    def _said(self, log_from: int) -> str:
        """The end of what the server wrote to its log from this byte on."""
        with self.layout.log.open("rb") as log:
            log.seek(log_from)
            return log.read()[-4000:].decode(errors="replace").strip()


def send(pid: int, number: signal.Signals) -> None:
    """Send the signal, unless the process is gone already."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
