"""The user that the server runs as: ourselves, or a plain one where we are root."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs

from ravenwh.domain.errors import Unavailable

__all__ = ["Account", "give_to_owner_of", "server_account"]

# The server gets nothing of the environment of the process that happens to start it: it must be
# the same server whoever starts it, and it outlives that process, which may hold secrets there.
ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}

CANDIDATES = ("postgres", "nobody")


@attrs.frozen(kw_only=True)
class Account:
    """Who runs PostgreSQL's programs; ``switches`` is true where that is not this process's user.

    ``name`` is None where this process's own user, whatever its name, is meant.
    """

    name: str | None
    uid: int
    gid: int
    switches: bool

    def run(
        self,
        arguments: Sequence[str | Path],
        *,
        text: str = "",
        timeout_s: float = 60.0,
        keep: Sequence[int] = (),
    ) -> subprocess.CompletedProcess[str]:
        """The finished program with its output; a wrong exit code is for the caller to judge.

        ``text`` is its standard input, ``keep`` the descriptors that it inherits.
        """
        user, group, groups = self._identity()
        return subprocess.run(  # noqa: S603 - programs of PostgreSQL by full path, no shell
            [os.fspath(argument) for argument in arguments],
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            cwd="/",
            env=ENVIRONMENT,
            user=user,
            group=group,
            extra_groups=groups,
            pass_fds=keep,
        )

    def spawn(
        self, arguments: Sequence[str | Path], *, output: int, keep: Sequence[int]
    ) -> subprocess.Popen[bytes]:
        """A program that goes on beside us, in its own session, out of reach of our Ctrl-C."""
        user, group, groups = self._identity()
        return Server(
            [os.fspath(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=ENVIRONMENT,
            user=user,
            group=group,
            extra_groups=groups,
            pass_fds=keep,
            start_new_session=True,
        )

    def _identity(self) -> tuple[int | None, int | None, list[int] | None]:
        return (self.uid, self.gid, []) if self.switches else (None, None, None)


class Server(subprocess.Popen[bytes]):
    """A child that outlives us on purpose while others use it, so not waiting is no mistake."""

    def __del__(self) -> None:
        if getattr(self, "returncode", 0) is None:
            self.poll()


def server_account(folders: Sequence[Path]) -> Account:
    """The account for a server on these folders: their owner, or a plain one where that is root.

    ``folders`` are looked at in order; those that do not exist are passed over. A process that is
    not root can only be itself. Raises Unavailable where it is root and no plain user is there:
    PostgreSQL refuses to run as root, and it looks its own user up by name.
    """
    if os.geteuid() != 0:
        return Account(name=None, uid=os.geteuid(), gid=os.getegid(), switches=False)
    owners = [folder.stat().st_uid for folder in folders if folder.exists()]
    for owner in filter(None, owners):
        try:
            entry = pwd.getpwuid(owner)
        except KeyError:
            raise Unavailable(
                f"{folders[0]} belongs to the user with number {owner}, which this machine has no "
                "name for, and PostgreSQL does not run without one; add such a user, or give the "
                "folder to an existing one",
                needs_person=True,
            ) from None
        return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, switches=True)
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid, switches=True)
    raise Unavailable(
        "PostgreSQL does not run as root, and this machine has no user "
        f"{' or '.join(CANDIDATES)} that it could run as instead; add one of them, or start "
        "ravenwh as an ordinary user",
        needs_person=True,
    )


def give_to_owner_of(folder: Path, descriptor: int) -> None:
    """Let an open file belong to whom the folder belongs to, where we are root.

    Root that works on the folder of an ordinary user must not lock that user out.
    """
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
