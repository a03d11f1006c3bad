"""Many lines of one name in a log: the first are written, the rest counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
from loguru import logger

if TYPE_CHECKING:
    from loguru import Record

__all__ = ["Flood"]

NAMES = 1_000
"""Names that are followed; ours are constants, and far fewer."""


@attrs.define
class _Window:
    opened_at: float
    lines: int = 0
    suppressed: int = 0


@attrs.define(kw_only=True)
class Flood:
    """A filter of log lines: of a warning or an error, ``lines`` of a name in ``window_s`` seconds.

    What was not written is told by the next line of that name, as ``suppressed``, or by a line
    ``LINES_SUPPRESSED`` where none comes.
    """

    lines: int = 60
    window_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _windows: dict[str, _Window] = attrs.field(factory=dict, init=False)

    def __call__(self, record: Record) -> bool:
        """Whether the line is to be written."""
        now = self.clock()
        name = record["message"]
        if suppressed := self._over(name, now):
            record["extra"]["suppressed"] = suppressed
        self._tell(now)
        if record["level"].no < logger.level("WARNING").no:
            return True
        if name not in self._windows and len(self._windows) >= NAMES:
            return True
        window = self._windows.setdefault(name, _Window(now))
        window.lines += 1
        if window.lines <= self.lines:
            return True
        window.suppressed += 1
        return False

    def _over(self, name: str, now: float) -> int:
        """Close the window of a name, if its time is over; how many lines it kept back."""
        window = self._windows.get(name)
        if window is None or now - window.opened_at < self.window_s:
            return 0
        del self._windows[name]
        return window.suppressed

    def _tell(self, now: float) -> None:
        """Tell of lines whose name does not come any more."""
        for name in list(self._windows):
            if suppressed := self._over(name, now):
                logger.bind(event=name, suppressed=suppressed).warning("LINES_SUPPRESSED")
