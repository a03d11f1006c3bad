"""Processes share one server, and the last one ends it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
import pytest

from ravenwh.domain.errors import Refused, Unavailable
from ravenwh.embedded import EmbeddedPostgres, locks
from tests.embedded.children import Start
from tests.servers import PgServer


def answers(url: str) -> bool:
    """Whether a server lets us in there."""
    try:
        with psycopg.connect(url) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def test_the_last_of_several_processes_ends_the_server(root: Path, child: Start) -> None:
    first, second = child(root=root), child(root=root)
    at = first.ask("start")
    assert second.ask("start") == at
    first.leave()
    assert answers(at["url"])
    second.leave()
    assert not answers(at["url"])
    assert EmbeddedPostgres(root=root).status().state == "stopped"


def test_processes_that_start_at_once_get_one_server(absent: Path, child: Start) -> None:
    children = [child(root=absent, durable=False) for _ in range(3)]
    for one in children:
        one.tell("start")
    heard = [one.hear() for one in children]
    assert heard[0].keys() == {"pid", "port", "url"}
    assert heard[1:] == heard[:1] * 2
    assert [one.ask("stop")["stopped"] for one in children] == [False, False, True]


def test_a_killed_user_does_not_keep_the_server_from_ending(root: Path, child: Start) -> None:
    first, second = child(root=root), child(root=root)
    at = first.ask("start")
    second.ask("start")
    first.kill()
    assert answers(at["url"])
    assert second.ask("stop") == {"stopped": True}
    assert not answers(at["url"])


def test_the_server_of_a_killed_only_user_is_taken_over_by_the_next(
    root: Path, child: Start
) -> None:
    first = child(root=root)
    at = first.ask("start")
    first.kill()
    assert answers(at["url"])
    with EmbeddedPostgres(root=root) as server:
        assert server.libpq_url == at["url"]
        assert server.status().pid == at["pid"]
    assert not answers(at["url"])


def test_objects_of_one_process_are_users_of_their_own(root: Path, pg_server: PgServer) -> None:
    first = EmbeddedPostgres(root=root, bin_dir=pg_server.bin_dir).start()
    second = EmbeddedPostgres(root=root).start()
    assert first.url == second.url
    assert first.stop() is False
    assert answers(second.libpq_url)
    assert second.stop() is True
    assert second.stop() is False


def test_the_status_names_the_users(root: Path, child: Start) -> None:
    looking = EmbeddedPostgres(root=root)
    assert not looking.status().in_use
    first, second = child(root=root), child(root=root)
    at = first.ask("start")
    second.ask("start")
    found = looking.status()
    assert (found.state, found.pid, found.port) == ("running", at["pid"], at["port"])
    assert found.in_use
    assert found.users == tuple(sorted([first.pid, second.pid]))


def test_the_status_tells_that_another_process_is_at_work(root: Path) -> None:
    with locks.exclusive(root / "start.lock", timeout_s=1):
        assert EmbeddedPostgres(root=root).status().state == "changing"
        with pytest.raises(Unavailable, match=f"pid {os.getpid()}"):
            EmbeddedPostgres(root=root, start_timeout_s=0.05, stop_timeout_s=0.05).start()
    assert EmbeddedPostgres(root=root).status().state == "stopped"


def test_a_look_at_nothing_makes_nothing(absent: Path) -> None:
    server = EmbeddedPostgres(root=absent)
    assert server.status().state == "absent"
    assert server.stop() is False
    assert server.shutdown() is False
    assert server.destroy() is False
    with pytest.raises(Unavailable, match="ravenwh db start"):
        _ = server.url
    assert not absent.exists()


def test_a_pinned_server_outlives_its_users(root: Path, child: Start) -> None:
    pinning = child(root=root)
    at = pinning.ask("start pin")
    pinning.leave()
    looking = EmbeddedPostgres(root=root)
    assert looking.status().pinned
    with EmbeddedPostgres(root=root):
        pass
    assert answers(at["url"])
    assert looking.shutdown() is True
    assert not answers(at["url"])
    assert not looking.status().pinned
    assert looking.shutdown() is False


def test_a_server_in_use_is_not_shut_down_but_unpinned(root: Path, child: Start) -> None:
    user = child(root=root)
    at = user.ask("start pin")
    with pytest.raises(Refused, match=rf"pid {user.pid}\b.*--force"):
        EmbeddedPostgres(root=root).shutdown()
    assert answers(at["url"])
    assert user.ask("stop") == {"stopped": True}


def test_force_shuts_a_server_down_that_is_in_use(root: Path, child: Start) -> None:
    user = child(root=root)
    at = user.ask("start")
    assert EmbeddedPostgres(root=root).shutdown(force=True) is True
    assert not answers(at["url"])
    assert user.ask("stop") == {"stopped": False}


def test_a_forked_child_is_no_user(root: Path, child: Start) -> None:
    user = child(root=root)
    at = user.ask("start")
    forked = user.ask("fork")
    try:
        assert forked["stopped"] is False
        assert answers(at["url"])
        assert user.ask("stop") == {"stopped": True}
        # the forked child still has the locks' files open; they must be free all the same
        with EmbeddedPostgres(root=root) as server:
            assert answers(server.libpq_url)
    finally:
        os.kill(forked["pid"], signal.SIGKILL)


def test_destroy_removes_what_was_made_and_nothing_else(own_root: Path, child: Start) -> None:
    (own_root / "notes.txt").write_text("mine")
    user = child(root=own_root)
    at = user.ask("start pin")
    doomed = EmbeddedPostgres(root=own_root)
    with pytest.raises(Refused, match=f"pid {user.pid}"):
        doomed.destroy()
    assert answers(at["url"])
    user.leave()
    assert answers(at["url"])
    assert doomed.destroy() is True
    assert not answers(at["url"])
    assert [path.name for path in own_root.iterdir()] == ["notes.txt"]
    assert doomed.status().state == "absent"
