"""``ravenwh control`` as a process, asking a control socket, with keys and without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ravenwh.app.feeds import control_endpoint
from ravenwh.config import load
from ravenwh.feed.collecting import collection_handlers
from ravenwh.feed.control import Changed, Collected, Collection, ControlError
from ravenwh.feed.control_server import ControlServer
from ravenwh.feed.curve import new_pair
from ravenwh.feed.endpoint import Endpoint
from tests.programs import Programs

BTC = Collection("BINANCE_SPOT", "CANDLE", "BTCUSDT")
NAMES = ("BINANCE_SPOT", "CANDLE", "BTCUSDT")


class Memory:
    """The collections of a runner that knows one venue."""

    def __init__(self) -> None:
        self.collected: set[Collection] = set()

    async def start(self, wanted: Collection) -> Changed:
        if wanted.venue != "BINANCE_SPOT":
            reason = f"venue: found {wanted.venue}, allowed is BINANCE_SPOT"
            raise ControlError("UNKNOWN_VENUE", reason)
        changed = wanted not in self.collected
        self.collected.add(wanted)
        return Changed(changed=changed)

    async def stop(self, unwanted: Collection) -> Changed:
        changed = unwanted in self.collected
        self.collected.discard(unwanted)
        return Changed(changed=changed)

    async def list_all(self) -> Collected:
        return Collected(collections=tuple(sorted(self.collected)))

    async def stop_all(self) -> Collected:
        stopped, self.collected = sorted(self.collected), set()
        return Collected(collections=tuple(stopped), note="all of it")


@asynccontextmanager
async def runner(endpoint: Endpoint) -> AsyncIterator[str]:
    """The control endpoint of a runner, by its settings."""
    handlers = collection_handlers(Memory())
    with ControlServer(endpoint=endpoint, handlers=handlers) as server:
        task = asyncio.create_task(server.serve())
        try:
            yield server.address
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def world(folder: Path, server: str = "") -> tuple[Programs, Endpoint]:
    """Programs with this in the section ``server``, and where their kline runner listens."""
    programs = Programs(folder=folder).configure("")
    with programs.settings_file.open("a") as file:
        file.write(server)  # the section that ends the file
    return programs, control_endpoint(load(programs.settings_file, {}), "kline")


async def test_start_list_stop(tmp_path: Path) -> None:
    programs, endpoint = world(tmp_path)

    async def said(*arguments: str) -> str:
        out, err = await programs.run("ravenwh", "control", *arguments)
        assert err == ""
        return out

    async with runner(endpoint):
        assert await said("list") == ""
        assert await said("list", "--json") == "[]\n"
        assert await said("start", *NAMES) == f"{BTC}: is collected from now on\n"
        assert await said("start", *NAMES) == f"{BTC}: was so already\n"
        assert await said("start", "BINANCE_SPOT", "CANDLE", "*")
        assert await said("list") == "BINANCE_SPOT CANDLE *\nBINANCE_SPOT CANDLE BTCUSDT\n"
        found = json.loads(await said("list", "--json", "--service", "kline"))
        assert found[1] == {"venue": NAMES[0], "data_type": NAMES[1], "symbol": NAMES[2]}
        assert await said("stop", *NAMES) == f"{BTC}: is collected no longer\n"
        assert await said("stop", *NAMES) == f"{BTC}: was not collected\n"
        out, err = await programs.run("ravenwh", "control", "stop-all")
        assert (out, err) == ("BINANCE_SPOT CANDLE *\n", "all of it\n")


async def test_what_is_refused_ends_with_1(tmp_path: Path) -> None:
    programs, endpoint = world(tmp_path)
    async with runner(endpoint) as address:
        for names, told in (
            (("OKX_SPOT", "CANDLE", "BTCUSDT"), "UNKNOWN_VENUE: venue: found OKX_SPOT"),
            (("BINANCE_SPOT", "KLINE", "BTCUSDT"), "UNKNOWN_DATA_TYPE: data_type: found 'KLINE'"),
            (("BINANCE_SPOT", "CANDLE", "BTC USDT"), "BAD_NAME: symbol: found 'BTC USDT'"),
        ):
            arguments = ("start", *names, "--endpoint", address)
            out, err = await programs.run("ravenwh", "control", *arguments, code=1)
            assert out == ""
            assert err.startswith(f"ravenwh: --endpoint: {address} says {told}")
            assert "Traceback" not in err


async def test_nobody_there_ends_with_1(tmp_path: Path) -> None:
    programs, endpoint = world(tmp_path)
    out, err = await programs.run("ravenwh", "control", "list", code=1)
    assert out == ""
    assert err.startswith(f"ravenwh: server.kline_port: nobody answered at {endpoint.address}")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("start", "BINANCE_SPOT"), "Missing argument 'DATA_TYPE'"),
        (("list", "--service", "nobody"), "'nobody' is not one of"),
        (("list", "--endpoint", "localhost"), "allowed are tcp://HOST:PORT"),
        (("list", "--server-key", "x" * 40), "server.secret_key: found nothing"),
    ],
)
async def test_wrong_usage_ends_with_2(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    out, err = await world(tmp_path)[0].run("ravenwh", "control", *arguments, code=2)
    assert out == ""
    assert told in err
    assert "Traceback" not in err


async def test_with_keys_the_settings_of_the_machine_are_enough(tmp_path: Path) -> None:
    public, secret = new_pair()
    other, other_secret = new_pair()
    (tmp_path / "key").write_text(secret)
    programs, endpoint = world(tmp_path, 'secret_key_file = "key"')
    (tmp_path / "elsewhere").mkdir()
    elsewhere, _ = world(tmp_path / "elsewhere", f'secret_key = "{other_secret}"')
    async with runner(endpoint) as address:
        out, _ = await programs.run("ravenwh", "control", "start", *NAMES)
        assert "from now on" in out
        _, err = await elsewhere.run("ravenwh", "control", "list", "--endpoint", address, code=1)
        assert "check the endpoint and the keys" in err
    there = f"""
        [server]
        secret_key_file = "{tmp_path / "key"}"
        client_keys = ["{other}"]
        kline_port = {endpoint.address.rpartition(":")[2]}
    """
    (tmp_path / "there.toml").write_text(there)
    async with runner(control_endpoint(load(tmp_path / "there.toml", {}), "kline")) as address:
        asked = ("list", "--endpoint", address, "--server-key", public)
        out, err = await elsewhere.run("ravenwh", "control", *asked)
        assert (out, err) == ("", "")
