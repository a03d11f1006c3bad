"""Log lines that strangers can cause, in bounds."""

from __future__ import annotations

import time
from collections.abc import Callable

from loguru import logger

__all__ = ["Seldom"]

WINDOW_S = 10.0
MOST = 20


class Seldom:
    """Writes at most MOST lines of a name in WINDOW_S, and counts the others.

    The next line that is written has their number as ``suppressed``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, tuple[float, int]] = {}

    def log(self, level: str, event: str, **fields: object) -> None:
        """Write the line, or count it."""
        now = self._clock()
        until, count = self._windows.get(event, (0.0, 0))
        if now >= until:
            if count > MOST:
                fields["suppressed"] = count - MOST
            until, count = now + WINDOW_S, 0
        self._windows[event] = (until, count + 1)
        if count < MOST:
            logger.opt(depth=1).bind(**fields).log(level, event)
