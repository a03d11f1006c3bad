"""The main job: recorded klines from files, over ZeroMQ, into the mart, and back as frames."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from ravenwh.domain.errors import UnknownName
from ravenwh.domain.messages import Candle
from ravenwh.domain.series import to_ns
from ravenwh.journal import Store
from ravenwh.sources.catalog import find_files
from ravenwh.warehouse.read import Warehouse
from tests.programs import Programs, ended
from tests.publish import publish_to

QUOTES = ("USDT", "BTC")
COLUMNS = ["open", "high", "low", "close", "volume", "quote_volume", "trade_count"]
COLUMNS += ["taker_buy_volume", "taker_buy_quote_volume"]
Key = tuple[str, str, int]  # symbol, interval, open_time in ms


@attrs.frozen
class World:
    """A mart of its own, and the programs that are set to it."""

    programs: Programs
    endpoint: str
    uri: str

    def stored(self) -> dict[Key, tuple[Any, ...]]:
        """Every kline of the mart, with its values and revised_at."""
        found: dict[Key, tuple[Any, ...]] = {}
        with Warehouse(self.uri) as warehouse:
            for symbol, interval in SERIES:
                coin, quote, exchange = NAMES[symbol]
                frames = warehouse.klines(coin, quote, exchange, interval, provenance=True)
                try:
                    rows = frames.arrow().to_pylist()
                except UnknownName:
                    continue
                for row in rows:
                    key = (symbol, interval, to_ns(row["open_time"]) // 1_000_000)
                    found[key] = (*(row[name] for name in COLUMNS), row["revised_at"])
        return found


SERIES = [
    ("BTCPERP", "1m"),
    ("ADABTC", "1m"),
    ("ADABTC", "5m"),
    ("ETHBTC", "5m"),
    ("LTCBTC", "5m"),
    ("TRXBTC", "5m"),
    ("BTCUSDT", "15m"),
    ("BTCUSDT", "1h"),
]
NAMES = {
    symbol: (symbol.removesuffix(quote), quote, "BINANCE_SPOT")
    for symbol, _ in SERIES
    for quote in QUOTES
    if symbol.endswith(quote)
} | {"BTCPERP": ("BTC", "USD", "BINANCE_FUTURES")}


@pytest.fixture
def world(tmp_path: Path, mart_url: str) -> World:
    endpoint = f"ipc://{tmp_path}/feed"
    programs = Programs(folder=tmp_path).configure(f"""
        timescale.url = {json.dumps(mart_url)}
        journal.dir = "journal"
        feeds.default.endpoint = "{endpoint}"
        [binance_klines]
        interval = ["1m", "5m", "15m", "1h"]
        [routing.symbol_map]
        "BTC/USD" = {{ BINANCE_FUTURES = "BTCPERP" }}
    """)
    uri = mart_url.replace("+asyncpg", "")
    return World(programs=programs, endpoint=endpoint, uri=uri)


def recorded(folder: Path) -> dict[Key, tuple[Any, ...]]:
    """Every kline of the files, read by a few lines that share nothing with the code under test."""
    klines: dict[Key, tuple[Any, ...]] = {}
    for path in sorted(folder.glob("*/*/*.zip")):
        symbol, interval = path.name.split("-")[:2]
        with zipfile.ZipFile(path) as archive:
            text = archive.read(archive.namelist()[0]).decode()
        for row in csv.reader(io.StringIO(text)):
            said = [float(row[n]) for n in (1, 2, 3, 4, 5)]
            optional: list[float | None] = [float(row[7]), int(row[8]), *map(float, row[9:11])]
            if optional[1] == 0 and said[4] > 0:
                optional = [None] * 4
            klines[symbol, interval, int(row[0])] = (*said, *optional, None)
    return klines


def messages(folder: Path) -> Iterator[Candle]:
    """The same klines as the replay publishes them."""
    for file in find_files([folder], venue="BINANCE_SPOT", kind=None)[0]:
        at = attrs.evolve(file, venue=NAMES[file.symbol][2])
        for message in at.messages(pytest.fail):
            assert isinstance(message, Candle)
            yield message


def accounted(log: str) -> dict[str, int]:
    """The counts with which the runner ended."""
    (line,) = re.findall(r"RUNNER_STOPPED (.*)", log)
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line)}


async def test_every_recorded_kline_arrives_as_it_stands_in_its_file(
    world: World, shared_data: Path
) -> None:
    folder = shared_data / "klines_vision"
    expected = recorded(folder)
    assert len(expected) == 83_898
    perpetual = folder / "BTCPERP"
    spot = sorted(str(one) for one in folder.iterdir() if one != perpetual)
    async with world.programs.kline_runner() as runner:
        out, _ = await world.programs.run(
            "runners.replay", "--venue", "BINANCE_FUTURES", str(perpetual)
        )
        assert "sent 45031 klines" in out
        await world.programs.run("runners.replay", *spot)
        await runner.settled(83_898)
    assert accounted(runner.log)["written"] == 83_898
    assert world.stored() == expected

    again = list(messages(folder))
    random.Random(11).shuffle(again)
    async with world.programs.kline_runner() as runner:
        await publish_to(world.endpoint, again)
        await runner.settled(len(again))
    counts = accounted(runner.log)
    assert (counts["received"], counts["written"], counts["dead"]) == (83_898, 0, 0)
    assert world.stored() == expected  # revised_at, the last value, is null everywhere


async def test_a_correction_stays_whatever_is_replayed(world: World, shared_data: Path) -> None:
    klines = list(messages(shared_data / "klines_vision" / "ADABTC"))[:200]
    wrong = klines[100]
    right = attrs_of(wrong, close=wrong.low, event_time=wrong.event_time + 1_000_000)
    for order in ([*klines, right], [right, *klines], [*reversed(klines), right, *klines]):
        async with world.programs.kline_runner() as runner:
            await publish_to(world.endpoint, order)
            await runner.settled(len(order))
        stored = world.stored()
        assert len(stored) == 200
        key = (wrong.symbol, wrong.interval, wrong.open_time // 1_000_000)
        assert stored[key][3] == right.close


def attrs_of(candle: Candle, **changes: object) -> Candle:
    """The candle with other values."""
    values = {name: getattr(candle, name) for name in candle.__struct_fields__}
    return Candle(**values | changes)


async def test_sigterm_in_the_middle_of_a_replay_and_then_the_replay_again(
    world: World, shared_data: Path
) -> None:
    folder = shared_data / "klines_vision" / "BTCUSDT"
    expected = {
        key: values
        for key, values in recorded(shared_data / "klines_vision").items()
        if key[0] == "BTCUSDT"
    }
    replay = await world.programs.start("runners.replay", str(folder))
    async with ended(replay):
        async with world.programs.kline_runner() as runner:
            await runner.until(lambda log: "BATCH_WRITTEN" in log)
        first = accounted(runner.log)
        settled = sum(first[n] for n in ("written", "unchanged", "folded", "dead", "ignored"))
        assert first["received"] == settled + pending(world)
        assert first["lost"] == 0
        await replay.communicate()
    async with world.programs.kline_runner() as runner:
        await world.programs.run("runners.replay", str(folder))
        await runner.settled(len(expected))
    assert world.stored() == expected


def pending(world: World) -> int:
    """Frames that the runner left in its journal."""
    with closing(Store(world.programs.journal)) as store:
        return store.last - store.acknowledged


async def test_the_series_of_a_symbol_that_is_taken_is_a_dead_letter(world: World) -> None:
    klines = [kline("BTCUSDT", n) for n in range(3)] + [kline("OLDBTC", n) for n in range(2)]
    config = world.programs.settings_file
    plain = config.read_text()
    table = "[routing.symbol_map]\n"
    mapped = plain.replace(table, table + '"BTC/USDT" = { BINANCE_SPOT = "OLDBTC" }\n')
    config.write_text(mapped)
    async with world.programs.kline_runner() as runner:
        await publish_to(world.endpoint, [one for one in klines if one.symbol == "OLDBTC"])
        await runner.settled(2)
    config.write_text(plain)  # the settings forget it; the register in the mart does not
    async with world.programs.kline_runner() as runner:
        await publish_to(world.endpoint, [one for one in klines if one.symbol == "BTCUSDT"])
        await runner.settled(3)
    assert accounted(runner.log)["dead"] == 3
    with closing(Store(world.programs.journal)) as store:
        assert [letter.code for letter in store.dead_letters()] == ["SERIES_TAKEN"] * 3


def kline(symbol: str, minute: int) -> Candle:
    """A 1m kline of a symbol."""
    opened = 1_704_067_200_000_000_000 + minute * 60_000_000_000
    return Candle(
        venue="BINANCE_SPOT",
        symbol=symbol,
        event_time=opened + 59_999_000_000,
        interval="1m",
        open_time=opened,
        close_time=opened + 59_999_000_000,
        open=1.0,
        high=2.0,
        low=0.5,
        close=1.5,
        volume=3.0,
    )


def test_the_recorded_files_are_the_ones_that_the_series_name(shared_data: Path) -> None:
    counted: dict[tuple[str, str], int] = defaultdict(int)
    for symbol, interval, _ in recorded(shared_data / "klines_vision"):
        counted[symbol, interval] += 1
    assert set(counted) == set(SERIES)
