"""kill -9 of anything at any moment: no acknowledged commit is lost, and the next start works."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ravenwh.domain.errors import Unavailable
from ravenwh.embedded import EmbeddedPostgres, locks
from ravenwh.embedded.account import Account, server_account
from ravenwh.embedded.processes import has_proc, is_postgres, working_in
from tests.embedded.children import Start, until
from tests.programs import free_ports
from tests.servers import PgServer

pytestmark = pytest.mark.skipif(not has_proc(), reason="needs /proc to find what to kill")


def one(url: str, query: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
        assert row
        return row[0]


def account_of(root: Path) -> Account:
    return server_account((root / "data", root))


def postgres_processes(root: Path) -> tuple[int, ...]:
    return working_in((root / "data", root / "data.new"), account_of(root))


def kill_everything(root: Path) -> None:
    """kill -9 of every process of the server, the first one first, so that it mends nothing."""
    postmaster = EmbeddedPostgres(root=root).status().pid
    assert postmaster
    killed = (postmaster, *(pid for pid in postgres_processes(root) if pid != postmaster))
    for pid in killed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(is_postgres, killed)))  # one that dies may still answer


def test_every_acknowledged_commit_survives(own_root: Path, child: Start) -> None:
    writer, keeper = child(root=own_root), EmbeddedPostgres(root=own_root).start()
    writer.ask("start")
    writer.tell("commit")
    acknowledged = [writer.hear()["number"] for _ in range(200)]
    kill_everything(own_root)
    assert writer.process.wait(90) != 0
    until(lambda: keeper.status().state == "stopped")
    acknowledged += [answer["number"] for answer in writer.rest()]
    assert len(acknowledged) >= 200
    before = keeper.url
    keeper.start()
    assert keeper.url == before, "clients must find it where it was"
    with psycopg.connect(keeper.libpq_url) as connection:
        rows = connection.execute("SELECT number FROM acknowledged").fetchall()
    assert set(acknowledged) <= {number for (number,) in rows}
    assert keeper.stop() is True


def test_a_busy_remainder_of_a_killed_server_does_not_block_the_next(
    own_root: Path, child: Start
) -> None:
    user, keeper = child(root=own_root), EmbeddedPostgres(root=own_root).start()
    user.ask("start")
    backend = user.ask("busy")["pid"]
    postmaster = keeper.status().pid
    assert postmaster
    until(lambda: cpu_ticks(backend) > 2)
    os.kill(postmaster, signal.SIGKILL)
    until(lambda: keeper.status().state == "stopped")
    assert backend in postgres_processes(own_root), "it is still busy"
    keeper.start()
    assert backend not in postgres_processes(own_root)
    assert one(keeper.libpq_url, "SELECT 1") == 1
    keeper.stop()


def cpu_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


@contextmanager
def running(program: list[str | Path], account: Account) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        program,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=account.uid if account.switches else None,
        group=account.gid if account.switches else None,
        extra_groups=[] if account.switches else None,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("state", ["zombie", "stranger"])
def test_a_pid_file_that_names_another_process_does_not_block_the_start(
    own_root: Path, pg_server: PgServer, state: str
) -> None:
    account = account_of(own_root)
    with running(
        ["/bin/sh", "-c", "exit" if state == "zombie" else "exec sleep 60"], account
    ) as it:
        if state == "zombie":
            stat = Path(f"/proc/{it.pid}/stat")
            until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
        pid_file = own_root / "data" / "postmaster.pid"
        lines = [it.pid, own_root / "data", 1, 5432, "", "127.0.0.1", "1 1", "ready"]
        pid_file.write_text("".join(f"{line}\n" for line in lines))
        if account.switches:
            shutil.chown(pid_file, account.uid, account.gid)
        with running([pg_server.bin_dir / "postgres", "-D", own_root / "data"], account) as bare:
            assert bare.wait(90) != 0, "PostgreSQL by itself takes that process for a server"
        with EmbeddedPostgres(root=own_root) as server:
            assert one(server.libpq_url, "SELECT 1") == 1


def test_a_server_started_by_hand_is_joined(own_root: Path, pg_server: PgServer) -> None:
    by_hand: list[str | Path] = [pg_server.bin_dir / "postgres", "-D", own_root / "data"]
    with closing(free_ports()) as free:
        port = next(free)
    for option in ("listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories="):
        by_hand += ["-c", option]
    with running(by_hand, account_of(own_root)) as process:
        until(lambda: EmbeddedPostgres(root=own_root).status().state == "running")
        with EmbeddedPostgres(root=own_root) as server:
            assert server.status().pid == process.pid
            assert one(server.libpq_url, "SHOW port") == str(port)
        assert process.wait(90) == 0, "its last user ended it"


@pytest.mark.parametrize("made", ["global", "base/5"])
def test_a_maker_killed_at_work_leaves_nothing_in_the_way(
    absent: Path, child: Start, made: str
) -> None:
    for _ in range(10):
        maker = child(root=absent, durable=False)
        maker.tell("start")
        until(lambda: (absent / "data.new" / made).exists() or (absent / "data").exists())
        maker.kill()
        if not (absent / "data").exists():
            break
        EmbeddedPostgres(root=absent).shutdown(force=True)  # it was faster: once more
        shutil.rmtree(absent)
    assert not (absent / "data").exists()
    with EmbeddedPostgres(root=absent, durable=False) as server:
        assert one(server.libpq_url, "SELECT current_database()") == "ravenwh"
    assert not (absent / "data.new").exists()


def test_a_starter_killed_at_work_leaves_a_server_to_join(own_root: Path, child: Start) -> None:
    starter = child(root=own_root)
    starter.tell("start")
    until(lambda: (own_root / "data" / "postmaster.pid").exists())
    starter.kill()
    with EmbeddedPostgres(root=own_root) as server:
        assert one(server.libpq_url, "SELECT 1") == 1
    assert EmbeddedPostgres(root=own_root).status().state == "stopped"


def test_a_start_after_a_kill_finds_the_same_server_at_the_same_place(root: Path) -> None:
    with EmbeddedPostgres(root=root) as server:
        before = server.url
        kill_everything(root)
        until(lambda: server.status().state == "stopped")
        assert server.start().url == before
        assert server.start().url == before
        assert one(server.libpq_url, "SELECT 1") == 1
    assert EmbeddedPostgres(root=root).status().state == "stopped"


def test_a_server_that_hangs_while_it_stops_is_ended_all_the_same(own_root: Path) -> None:
    """PostgreSQL 18 may hang so; here the process is held that writes the last checkpoint."""
    server = EmbeddedPostgres(root=own_root, stop_timeout_s=0.2).start()
    with psycopg.connect(server.libpq_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    held = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
    os.kill(one(server.libpq_url, held), signal.SIGSTOP)
    pid = server.status().pid
    assert pid
    os.kill(pid, signal.SIGINT)
    until(lambda: server.status().state == "stopping")
    assert one(server.start().libpq_url, "SELECT answer FROM kept") == 42
    server.stop()


def test_remains_that_cannot_be_ended_are_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from inside another container: the lock is held, and no process is to be seen."""
    monkeypatch.setattr("ravenwh.embedded.launch.REMAINS_GIVE_UP_S", 0.05)
    (root / "server.lock").touch()
    with (
        locks.exclusive(root / "server.lock", timeout_s=1),
        pytest.raises(Unavailable, match=f"still hold {root}") as caught,
    ):
        EmbeddedPostgres(root=root).start()
    assert caught.value.needs_person
    with EmbeddedPostgres(root=root) as server:
        assert one(server.libpq_url, "SELECT 1") == 1
