"""A publisher that speaks ZMTP 3.0 by itself, and so can say what ZeroMQ never would.

https://rfc.zeromq.org/spec/23/
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

import attrs

MORE, LONG, COMMAND = 1, 2, 4
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB"
PIECE = bytes(1 << 20)


@attrs.frozen
class Peer:
    """One connection to a SUB socket that binds."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    @asynccontextmanager
    async def at(cls, port: int) -> AsyncIterator[Self]:
        """Connected and greeted, nothing more; closed afterwards."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(GREETING)
            greeting = await reader.readexactly(64)
            assert greeting[:1] + greeting[9:11] == b"\xff\x7f\x03"
            yield cls(reader, writer)
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def shake_hands(self) -> bytes:
        """What the other end subscribes to, at first."""
        self.send(READY, flags=COMMAND)
        flags, body = await self.receive()
        assert (flags, body[:6]) == (COMMAND, b"\x05READY")
        flags, body = await self.receive()
        assert (flags, body[:1]) == (0, b"\x01")
        return body[1:]

    async def receive(self) -> tuple[int, bytes]:
        """Flags and body of a frame."""
        (flags,) = await self.reader.readexactly(1)
        size = await self.reader.readexactly(8 if flags & LONG else 1)
        return flags, await self.reader.readexactly(int.from_bytes(size))

    def send(self, *parts: bytes, flags: int = 0) -> None:
        """A message of these parts, or a command."""
        for number, part in enumerate(parts, 1):
            more = MORE if number < len(parts) else 0
            self.announce(len(part), flags | more)
            self.writer.write(part)

    def announce(self, size: int, flags: int = 0) -> None:
        """The head of a frame."""
        self.writer.write(bytes([flags | LONG]) + size.to_bytes(8))

    async def stream(self, most: int) -> int:
        """Bytes that the other end let us send before it closed the connection; ``most`` at most.

        Waits for it to be closed where all were sent.
        """
        sent = 0
        with suppress(OSError):
            while sent < most and not self.reader.at_eof():
                self.writer.write(PIECE)
                await self.writer.drain()
                sent += len(PIECE)
            assert await self.reader.read() == b""
        return sent
