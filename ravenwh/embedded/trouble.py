"""What went wrong, and what can be done: the words of the system and of PostgreSQL translated."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ravenwh.domain.errors import Unavailable

__all__ = ["explained", "translated"]

# What PostgreSQL says where a person must act, and what that person can do.
ADVICE = {
    "No space left on device": "the disk is full: make room on it, or set embedded.data_dir to a "
    "folder on another disk",
    "Read-only file system": "the disk is read-only: set embedded.data_dir to a folder on another",
    "Permission denied": "the user that runs the server may not use a file it needs: see its owner "
    "and mode",
    "Cannot allocate memory": "there is too little memory for the server",
    "could not create shared memory segment": "the system allows too little shared memory",
    "already in use by": "another server has this folder open",
}


def explained(said: str, log: Path) -> str:
    """Why a server ended at its start: what can be done, then its own last words."""
    advice = [text for sign, text in ADVICE.items() if sign in said]
    lines = [line for line in said.splitlines() if "FATAL" in line or "PANIC" in line]
    words = "\n".join(lines or said.splitlines()[-5:])
    return f"PostgreSQL ended at its start: {'; '.join([*advice, f'see {log}'])}. It says:\n{words}"


@contextmanager
def translated(root: Path) -> Iterator[None]:
    """Turn errors of the system, met while working on ``root``, into Unavailable."""
    try:
        yield
    except OSError as error:
        raise Unavailable(advised(error, root), needs_person=True) from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"{Path(error.cmd[0]).name} did not end within {error.timeout:g} s in {root}; "
            "the disk may be very slow: try again"
        ) from error


def advised(error: OSError, root: Path) -> str:
    """What was met, where, and what to do."""
    what = error.filename or root
    if isinstance(error, PermissionError):
        return (
            f"this user (uid {os.geteuid()}) may not use {what}: {error.strerror}. Run ravenwh "
            "as the owner of that folder, or set embedded.data_dir to one of your own"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space is left on the disk of {what}; make room, or set embedded.data_dir to a "
            "folder on another disk"
        )
    if error.errno == errno.EROFS:
        return f"{what} is on a read-only disk; set embedded.data_dir to a folder on another"
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{what} is not a folder; set embedded.data_dir to one, or to a new name"
    return f"the embedded PostgreSQL in {root} met an error of the system: {error}"
