"""Connections to a server that stops answering."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import sqlalchemy as sa

from ravenwh.domain.errors import Unavailable
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.ports import WriteResult
from ravenwh.warehouse.engine import answer_of, make_engine
from ravenwh.warehouse.write import FactSink
from tests.conftest import engine_on
from tests.warehouse.conftest import candle, kline_sink


class Hole:
    """A way to a server that can be made to swallow everything."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.open = asyncio.Event()
        self.open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.open.wait()
            writer.write(data)
            await writer.drain()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self.host, self.port)
        self._writers += [writer, back]
        for one in (self._pass(reader, back), self._pass(there, writer)):
            self._tasks.add(asyncio.create_task(one))

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for writer in self._writers:
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_a_server_that_stops_answering_is_away_and_can_come_back(mart_url: str) -> None:
    url = sa.make_url(mart_url)
    assert url.host
    assert url.port
    hole = Hole(url.host, url.port)
    async with hole.listening() as port:
        there = url.set(host="127.0.0.1", port=port)
        async with asyncio.timeout(60), engine_on(there, connect_s=1, statement_s=1) as engine:
            sink = kline_sink(engine, Register())
            await tried(sink, candle(0))
            hole.open.clear()
            with pytest.raises(Unavailable):
                await sink.write([candle(1)])
            hole.open.set()
            result = await tried(sink, candle(1))
        assert result.written + result.unchanged == 1  # the first try may have arrived


async def tried(sink: FactSink[Candle], kline: Candle) -> WriteResult:
    """Written as the worker does it: a second may be too short for a machine with much to do."""
    while True:
        with suppress(Unavailable):
            return await sink.write([kline])


async def test_neither_a_sign_of_life_nor_the_end_waits_for_a_server_that_stops_answering(
    mart_url: str,
) -> None:
    url = sa.make_url(mart_url)
    assert url.host
    assert url.port
    hole = Hole(url.host, url.port)
    async with hole.listening() as port:
        engine = make_engine(url.set(host="127.0.0.1", port=port))
        try:
            async with engine.connect(), engine.connect():
                await answer_of(engine)
            hole.open.clear()
            with pytest.raises(Unavailable, match=r"not answered for 0\.1 s"):
                await answer_of(engine, within_s=0.1)
        finally:
            async with asyncio.timeout(60):
                await engine.dispose()
