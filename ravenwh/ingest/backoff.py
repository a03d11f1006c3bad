"""Waiting for what is away: exponential, with full jitter, without a limit on tries."""

from __future__ import annotations

import asyncio
import contextlib
import random

import attrs
from loguru import logger

from ravenwh.domain.errors import JournalFull, Unavailable

__all__ = ["Backoff"]


@attrs.define(kw_only=True)
class Backoff:
    """The waits between tries, in seconds: each anywhere between 0 and a ceiling that doubles.

    Full jitter keeps many that lost the same server from coming back at the same moment (AWS
    Architecture Blog, Exponential Backoff And Jitter, 2015). Who asks to be left alone for longer
    (``retry_after_s``) is left alone.
    """

    initial_s: float
    max_s: float
    tries: int = attrs.field(default=0, init=False)

    async def wait(self, error: JournalFull | Unavailable, stop: asyncio.Event) -> None:
        """Tell what is away, an alarm where a person must act, and wait; not once stop is set."""
        ceiling = min(self.max_s, self.initial_s * 2 ** min(self.tries, 30))
        delay = random.uniform(0, ceiling)  # noqa: S311  jitter, not a secret
        if isinstance(error, Unavailable) and error.retry_after_s is not None:
            delay = max(delay, error.retry_after_s)
        self.tries += 1
        line = logger.bind(reason=str(error), tries=self.tries, retry_in_s=round(delay, 2))
        if isinstance(error, JournalFull):
            line.error("JOURNAL_FULL")
        else:
            line.log("ERROR" if error.needs_person else "WARNING", "SINK_UNAVAILABLE")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await stop.wait()
