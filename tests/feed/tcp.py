"""A way between two ends of TCP that can be cut and mended, be slow, and be stalled."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress
from types import TracebackType
from typing import Self

from tests.programs import free_ports


class Cable:
    """Passes bytes on, both ways, until it is cut; while it is, nobody can connect.

    ``bytes_per_s`` bounds each way of each connection, from now on.
    """

    def __init__(self) -> None:
        self.bytes_per_s: float | None = None
        self._server: asyncio.Server | None = None
        self._there = ("", 0)
        self._port = 0
        self._ends: set[asyncio.StreamWriter] = set()
        self._ways: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()

    async def to(self, address: str) -> str:
        """The address of this end of the way to the other."""
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self._there = (host, int(port))
        with closing(free_ports()) as free:
            self._port = next(free)  # none that the system gives away while the way is cut
        await self.mend()
        return f"tcp://127.0.0.1:{self._port}"

    async def cut(self) -> None:
        """End every connection, and let nobody connect."""
        assert self._server is not None
        self._flows.set()
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        await asyncio.gather(*self._ways)
        await self._server.wait_closed()
        self._server = None

    def stall(self) -> None:
        """Pass nothing on and break no connection, as a network that swallows it, until a cut."""
        self._flows.clear()

    async def mend(self) -> None:
        """Let everybody connect again."""
        self._flows.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._server is not None:
            await self.cut()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way = asyncio.create_task(self._join(reader, writer))
        self._ways.add(way)
        way.add_done_callback(self._ways.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        self._ends.add(writer)
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(*self._there)
            ends.append(far_writer)
            self._ends.add(far_writer)
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        for end in ends:
            end.transport.abort()
            self._ends.discard(end)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(16_384 if self.bytes_per_s else 65_536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
                if self.bytes_per_s:
                    await asyncio.sleep(len(data) / self.bytes_per_s)
        writer.transport.abort()
