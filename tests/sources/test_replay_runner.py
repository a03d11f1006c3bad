"""``python -m runners.replay`` as a process, with a real subscriber at its other end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
import zmq.asyncio

from ravenwh.app.feeds import control_client
from ravenwh.config import load
from ravenwh.domain.messages import Message, Trade
from ravenwh.domain.settings import Settings
from ravenwh.feed.control import Collection, Positions, Resend, Resent, Sequences
from ravenwh.feed.curve import new_pair
from tests.programs import free_ports

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


@pytest.fixture(autouse=True)
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port for control, which every replay opens."""
    with contextlib.closing(free_ports()) as free:
        number = next(free)
    monkeypatch.setenv("RAVENWH_SERVER_REPLAY_PORT", str(number))
    return number


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
        async with asyncio.timeout(90):
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


async def test_trades_of_a_simulated_market(
    tmp_path: Path, endpoint: str, subscriber: zmq.asyncio.Socket
) -> None:
    span = ("--from", "2024-01-01", "--to", "2024-01-01T00:01")
    kind = ("--kind", "trades")
    options = ("--simulate", "BTCUSDT", *kind, *kind, *span)  # once each, however often it is said
    async with replaying(*options, "--endpoint", endpoint, cwd=tmp_path) as process:
        messages = await received(subscriber, 75)
        code, out, err = await end_of(process)
    assert (code, out) == (
        0,
        "sent 75 synthetic trades of BTCUSDT from the simulator, 0 bad rows\n",
    ), err
    assert all(isinstance(message, Trade) for message in messages)


async def test_klines_and_trades_of_two_feeds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ravenwh.toml").write_text(
        f"""
        [feeds.default]
        endpoint = "ipc://{tmp_path}/klines"
        [feeds.trades]
        endpoint = "ipc://{tmp_path}/trades"
        [routing.upstreams]
        "BINANCE_SPOT:CANDLE" = "default"
        "BINANCE_SPOT:TRADE" = "trades"
        """
    )
    kinds = ("--kind", "klines", "--kind", "trades")
    span = ("--from", "2024-01-01", "--to", "2024-01-02")
    async with replaying("--simulate", "BTCUSDT", *kinds, *span, cwd=tmp_path) as process:
        code, out, err = await end_of(process)
    assert (code, out) == (1, "")
    assert "come from 2 feeds, default and trades: replay them one after the other" in err


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
        ((), "give files, --simulate or --from-influx"),
        ((".", "--from-influx"), "give files, --simulate or --from-influx"),
        ((".", "--measurement", "trades"), "--measurement is of --from-influx"),
        (("--from-influx", "--kind", "trades"), "give --measurement"),
        (("--from-influx", "--measurement", "trade"), "is not one of"),
        (("--from-influx",), "influx.token: found nothing"),
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


async def test_while_it_runs_it_resends_and_says_what_it_has(
    file: Path, endpoint: str, subscriber: zmq.asyncio.Socket, port: int
) -> None:
    options = ("--speed", "1", "--endpoint", endpoint)
    async with replaying(str(file), *options, cwd=file.parent) as process:
        topic, header, payload = await subscriber.recv_multipart()
        with control_client(Settings(server={"replay_port": port}), service="replay") as client:
            collections = (await client.list_collections()).collections
            positions, _ = await client.ask(Sequences(), Positions)
            request = Resend(topic=topic.decode(), epoch=positions.epoch, first=1, last=9)
            resent, frames = await client.ask(request, Resent)
        process.send_signal(signal.SIGTERM)
        await end_of(process)
    assert collections == (Collection("BINANCE_SPOT", "CANDLE", "BTCUSDT"),)
    assert [(one.topic, one.oldest, one.last) for one in positions.topics] == [
        (topic.decode(), 1, 1)
    ]
    assert (resent.first, resent.last, resent.complete) == (1, 1, True)
    assert list(frames) == [header, payload]


async def test_its_ring_is_bounded_by_the_settings(file: Path, endpoint: str) -> None:
    (file.parent / "ravenwh.toml").write_text("server.ring_bytes = 1_048_576\n")
    endless = file.with_name("ETHUSDT-1m-2024-01.csv")
    endless.write_text("".join(row(number) for number in range(100_000)))
    with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.rcvhwm = 100  # it holds the replay up, which so still runs when it is asked
        subscriber.connect(endpoint)
        subscriber.subscribe(b"")
        files = (str(file), str(endless))
        async with replaying(*files, "--endpoint", endpoint, cwd=file.parent):
            await received(subscriber, 20_000)
            with control_client(load(None), service="replay") as client:
                positions, _ = await client.ask(Sequences(), Positions)
    btc, eth = positions.topics
    assert btc.oldest == btc.last == 1_000  # the newest of a topic stays
    assert 1_000 < eth.last - eth.oldest < 1_048_576 // 200


@pytest.mark.parametrize("metrics", [False, True], ids=["control", "metrics"])
async def test_a_port_that_is_taken_is_told_before_anything_is_sent(
    file: Path, endpoint: str, port: int, metrics: bool
) -> None:
    with socket.create_server(("127.0.0.1", port + 1000 * metrics)):
        async with replaying(str(file), "--endpoint", endpoint, cwd=file.parent) as process:
            code, out, err = await end_of(process)
    assert (code, out) == (1, "")
    assert ("replay cannot listen on" if metrics else "server.replay_port: bind tcp://") in err
    assert "Traceback" not in err


async def test_with_keys_it_serves_those_who_have_them(file: Path, endpoint: str) -> None:
    public, secret = new_pair()
    (file.parent / "key").write_text(secret)
    (file.parent / "ravenwh.toml").write_text(
        f"""
        [server]
        secret_key_file = "key"
        [feeds.default]
        endpoint = "{endpoint}"
        server_key = "{public}"
        public_key = "{public}"
        secret_key_file = "key"
        """
    )
    with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.curve_serverkey = public.encode()
        subscriber.curve_publickey = public.encode()
        subscriber.curve_secretkey = secret.encode()
        subscriber.connect(endpoint)
        subscriber.subscribe(b"")
        async with replaying(str(file), cwd=file.parent) as process:
            assert len(await received(subscriber, 1_000)) == 1_000
            code, _, _ = await end_of(process)
    assert code == 0


async def test_keys_that_subscribers_would_not_know_are_refused(file: Path) -> None:
    public, secret = new_pair()
    (file.parent / "key").write_text(secret)
    (file.parent / "ravenwh.toml").write_text('server.secret_key_file = "key"\n')
    async with replaying(str(file), cwd=file.parent) as process:
        code, out, err = await end_of(process)
    assert (code, out) == (2, "")
    assert f"feeds.default.server_key: found nothing; allowed: {public}" in err
    assert secret not in err
