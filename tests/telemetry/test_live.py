"""The pages of a runner, asked as a supervisor asks them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from ravenwh.telemetry.live import Answer, page_at, process_at, serve_live, service_at
from tests.programs import free_ports

HOST = "127.0.0.1"


@pytest.fixture
def troubles() -> list[str]:
    return []


@pytest.fixture
async def port(troubles: list[str]) -> AsyncIterator[int]:
    """Where a runner answers."""
    with closing(free_ports()) as free:
        number = next(free)
    async with serve_live(HOST, number, "kline", troubles=lambda: troubles):
        yield number


async def asked(port: int, path: str) -> Answer:
    """The page; who asks waits for a second only, which may be too short for a busy machine."""
    async with asyncio.timeout(60):
        while (page := await asyncio.to_thread(page_at, HOST, port, path)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return page


async def test_who_answers(port: int) -> None:
    await asked(port, "/livez")
    assert await asyncio.to_thread(service_at, HOST, port) == "kline"
    assert await asyncio.to_thread(process_at, HOST, port) == os.getpid()


async def test_ready_is_a_status_with_the_troubles(port: int, troubles: list[str]) -> None:
    ready = await asked(port, "/readyz")
    assert (ready.status, json.loads(ready.body)) == (200, {"ready": True, "troubles": []})
    troubles.append("the database is away")
    not_ready = await asked(port, "/readyz")
    assert not_ready.status == 503
    assert json.loads(not_ready.body)["troubles"] == ["the database is away"]


@pytest.mark.parametrize(
    "said", [b"", b"hello", b"HTTP/1.1 200 OK\r\n\r\nhello", b'HTTP/1.1 200 OK\r\n\r\n["pid"]']
)
async def test_a_stranger_is_no_service_of_ours(said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, HOST, 0) as server:
        number = server.sockets[0].getsockname()[1]
        assert await asyncio.to_thread(service_at, HOST, number) is None
        assert await asyncio.to_thread(process_at, HOST, number) is None


def test_nobody_is_no_answer() -> None:
    with socket.socket() as silent:
        silent.bind((HOST, 0))  # it is held, and nobody listens
        number = silent.getsockname()[1]
        assert page_at(HOST, number, "/livez") is None
        assert process_at(HOST, number) is None
