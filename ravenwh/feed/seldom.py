"""Log lines that strangers can cause, in bounds."""

from __future__ import annotations

import time
from collections.abc import Callable

from loguru import logger

__all__ = ["Seldom"]

WINDOW_S = 10.0
MOST = 20


class Seldom:
    """Writes at most ``most`` lines of a name in WINDOW_S, and counts the others.

    The next line that is written has their number as ``suppressed``. Lines of one name that tell
    ``of`` different things, which must be few, are counted apart.
    """

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}

    def log(self, level: str, event: str, *, of: str = "", **fields: object) -> None:
        """Write the line, or count it."""
        now = self._clock()
        until, count = self._windows.get((event, of), (0.0, 0))
        if now >= until:
            if count > self._most:
                fields["suppressed"] = count - self._most
            until, count = now + WINDOW_S, 0
        self._windows[event, of] = (until, count + 1)
        if count < self._most:
            logger.opt(depth=1).bind(**fields).log(level, event)
