"""The driver's connection, with an end that is bounded."""

from __future__ import annotations

import contextlib

import asyncpg

__all__ = ["Connection"]

CLOSE_S = 2.0


class Connection(asyncpg.Connection):  # type: ignore[misc]  # it has no types
    """One whose end is bounded: a server that does not answer any more is not waited for."""

    __slots__ = ()

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  asyncpg's
        """Say goodbye, and cut it off where no answer comes within CLOSE_S."""
        with contextlib.suppress(TimeoutError):  # by then it is cut off
            await super().close(timeout=CLOSE_S if timeout is None else timeout)
