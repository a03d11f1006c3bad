"""What the system says about processes: alive, a zombie, at work in a folder."""

from __future__ import annotations

import os
from pathlib import Path

from ravenwh.embedded.account import Account

__all__ = ["has_proc", "is_postgres", "working_in"]


def has_proc() -> bool:
    """Whether the system tells about processes in /proc, as Linux does."""
    return Path("/proc/self").exists()


def is_postgres(pid: int) -> bool:
    """Whether the pid is a living process that was started as ``postgres``.

    A zombie is dead: it only waits for a parent, which in a container may never ask. Where the
    system has no /proc, any living process counts.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    process = Path("/proc") / str(pid)
    try:
        state = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        command = (process / "cmdline").read_bytes()
    except OSError:
        return not has_proc()
    program = command.partition(b"\0")[0].decode(errors="replace")
    return state not in "ZX" and Path(program).name.startswith("postgres")


def working_in(folders: tuple[Path, ...], account: Account) -> tuple[int, ...]:
    """The pids of the account whose current folder is one of these; all of a server's are.

    A process asks with the account's own rights: in a container, root may not look into the
    processes of other users.
    """
    answer = account.run(["/bin/sh", "-c", "ls -ld /proc/[0-9]*/cwd 2>/dev/null"], timeout_s=30)
    found = []
    for line in answer.stdout.splitlines():
        link, _, folder = line.partition(" -> ")
        if Path(folder) in folders:
            found.append(int(link.rsplit("/", 2)[-2]))
    return tuple(found)
