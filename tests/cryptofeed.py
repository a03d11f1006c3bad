"""The other end of cryptofeed's wire, for tests: a socket that publishes what they send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import zmq

PATIENCE_S = 60.0


@asynccontextmanager
async def cryptofeed_to(endpoint: str, *topics: bytes) -> AsyncIterator[zmq.Socket[bytes]]:
    """A publisher that connects, from when the topics are subscribed to, to the end of the block.

    Then all that it sent is on the other side.
    """
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.set(zmq.SNDHWM, 0)
        publisher.set(zmq.LINGER, 0)  # where the block fails, nobody may take the rest
        publisher.connect(endpoint)
        await until_wanted(publisher, *topics)
        yield publisher
        publisher.close(linger=int(PATIENCE_S * 1000))


async def until_wanted(publisher: zmq.Socket[bytes], *topics: bytes) -> None:
    """Wait until each of these was subscribed to, at a socket of type XPUB."""
    missing = {b"\x01" + topic for topic in topics}
    async with asyncio.timeout(PATIENCE_S):
        while missing:
            await asyncio.sleep(0.01)
            while publisher.poll(0):
                missing.discard(publisher.recv())
