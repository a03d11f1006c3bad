"""Waiting for sockets without a thread, and without a future for each message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import zmq

__all__ = ["Wait", "news"]


class Wait:
    """One task's wait for any of some descriptors; one task may wait for a descriptor at a time."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._descriptors = descriptors
        for descriptor in descriptors:
            self.done.get_loop().add_reader(descriptor, self.wake)

    def wake(self) -> None:
        """Let the task look."""
        if not self.done.done():
            self.done.set_result(None)

    def end(self, error: Exception | None = None) -> None:
        """Watch no longer; the error is for a task that still waits."""
        for descriptor in self._descriptors:
            self.done.get_loop().remove_reader(descriptor)
        if error is not None and not self.done.done():
            self.done.set_exception(error)


async def news(socket: zmq.Socket[Any]) -> None:
    """Wait until something may have changed at the socket: a message, room, a connection.

    To be called when a receive (or send) has just found nothing (no room): the descriptor stays
    readable only until then.
    """
    wait = Wait([socket.fileno()])
    try:
        await wait.done
    finally:
        wait.end()
