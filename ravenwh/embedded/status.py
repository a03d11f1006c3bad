"""What can be said of an embedded PostgreSQL at one moment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import attrs

__all__ = ["Status"]


@attrs.frozen(kw_only=True)
class Status:
    """A look at a root folder, which changes nothing there.

    ``state`` is ``absent`` (no data folder yet), ``stopped``, ``starting`` (also: recovering),
    ``running``, ``stopping``, or ``changing`` where another process starts or stops it just now.
    ``in_use`` tells whether any process uses it; ``users`` are their pids as far as the system
    tells, which Linux does. ``version`` is that of the programs last used, else that of the data
    folder. ``durable`` is false for a throw-away server, whose commits may be lost by a kill.
    """

    state: Literal["absent", "stopped", "starting", "running", "stopping", "changing"]
    root: Path
    log: Path
    pid: int | None = None
    port: int | None = None
    version: str | None = None
    bin_dir: Path | None = None
    durable: bool = True
    pinned: bool = False
    in_use: bool = False
    users: tuple[int, ...] = ()
