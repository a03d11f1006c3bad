"""``python -m runners.replay`` as a process, with a real subscriber at its other end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
import zmq.asyncio

from ravenwh.domain.messages import Message

ROOT = Path(__file__).resolve().parents[2]
OPEN = 1_704_067_200_000


def row(number: int) -> str:
    at = OPEN + number * 60_000
    return f"{at},10,12,9,11,{number + 1},{at + 59_999},38.5,7,1.25,13.75,0\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "BTCUSDT-1m-2024-01.csv"
    path.write_text("".join(row(number) for number in range(1000)))
    return path


def spoil(file: Path, number: int) -> None:
    """Put the high of one row below its low."""
    file.write_text(file.read_text().replace(row(number), row(number).replace(",12,", ",1,")))


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/feed"


@pytest.fixture
def subscriber(endpoint: str) -> Iterator[zmq.asyncio.Socket]:
    with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.rcvhwm = 0
        socket.connect(endpoint)
        socket.subscribe(b"")
        yield socket


@contextlib.asynccontextmanager
async def replaying(*arguments: str, cwd: Path) -> AsyncIterator[Process]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "runners.replay",
        *arguments,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(60):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def end_of(process: Process) -> tuple[int | None, str, str]:
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def received(socket: zmq.asyncio.Socket, count: int) -> list[Message]:
    decoder = msgspec.msgpack.Decoder(Message)
    return [decoder.decode((await socket.recv_multipart())[2]) for _ in range(count)]


async def test_all_that_is_good_arrives_in_order_and_bad_rows_are_named(
    file: Path, endpoint: str, subscriber: zmq.asyncio.Socket
) -> None:
    spoil(file, 5)
    async with replaying(str(file), "--endpoint", endpoint, cwd=file.parent) as process:
        messages = await received(subscriber, 999)
        code, out, err = await end_of(process)
    assert code == 1
    assert out == "sent 999 klines of BTCUSDT 1m from 1 file, 1 bad row\n"
    assert f"{file}:6: high '1' is below low '9'; skipped" in err.splitlines()
    assert "rows/s" not in err  # no progress bar where there is no terminal
    assert [getattr(message, "volume", 0) for message in messages] == [
        n + 1.0 for n in range(1000) if n != 5
    ]


async def test_a_simulated_market(
    tmp_path: Path, endpoint: str, subscriber: zmq.asyncio.Socket
) -> None:
    options = ("--simulate", "BTCUSDT, ETHUSDT", "--from", "2024-01-01", "--to", "2024-01-02")
    async with replaying(*options, "--endpoint", endpoint, cwd=tmp_path) as process:
        messages = await received(subscriber, 2880)
        code, out, _ = await end_of(process)
    assert code == 0
    assert out.splitlines()[-1] == "sent 2880 messages of 2 series, 0 bad rows"
    assert {(message.symbol, message.producer) for message in messages} == {
        ("BTCUSDT", "simulator"),
        ("ETHUSDT", "simulator"),
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_and_it_says_how_much_was_sent(
    file: Path, endpoint: str, subscriber: zmq.asyncio.Socket, number: signal.Signals
) -> None:
    options = ("--speed", "1", "--endpoint", endpoint)
    async with replaying(str(file), *options, cwd=file.parent) as process:
        await received(subscriber, 1)
        process.send_signal(number)
        code, out, err = await end_of(process)
    assert code == 1
    assert out.splitlines() == [
        "sent 1 kline of BTCUSDT 1m from 1 file, 0 bad rows",
        "stopped before the end; what is missing can be replayed again, whole",
    ]
    assert "Traceback" not in err


async def test_without_a_subscriber_it_says_whom_it_waited_for(file: Path, endpoint: str) -> None:
    options = ("--wait", "0.1", "--endpoint", endpoint)
    async with replaying(str(file), *options, cwd=file.parent) as process:
        code, out, err = await end_of(process)
    assert (code, out) == (1, "")
    assert "nobody subscribed to BINANCE_SPOT:CANDLE:BTCUSDT" in err
    assert "Traceback" not in err


async def test_a_wrong_checksum_is_refused_before_anything_is_sent(
    file: Path, endpoint: str
) -> None:
    file.with_name(file.name + ".CHECKSUM").write_text(f"{'0' * 64}  {file.name}\n")
    async with replaying(str(file), "--endpoint", endpoint, cwd=file.parent) as process:
        code, out, err = await end_of(process)
    assert (code, out) == (1, "")
    assert "expected " + "0" * 64 in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "give files or --simulate"),
        (("no-such.csv",), "no-such.csv"),
        (("--simulate", "BTCUSDT"), "--simulate needs --from and --to"),
        ((".", "--speed", "0"), "allowed are max and numbers above 0"),
        ((".", "--speed", "fast"), "allowed are max and numbers above 0"),
        ((".", "--from", "yesterday"), "allowed are dates and times"),
    ],
)
async def test_wrong_usage_ends_with_2(
    tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    async with replaying(*arguments, cwd=tmp_path) as process:
        code, out, err = await end_of(process)
    assert (code, out) == (2, "")
    assert reason in err
