"""What an operator does after a restore, and after a cause of dead letters was mended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs
import psycopg
import pytest

from ravenwh.domain.messages import Candle
from tests.programs import Programs
from tests.publish import publish_to
from tests.servers import PgServer

MINUTE = 60_000_000_000
START = 1_704_067_200_000_000_000  # 2024-01-01


@attrs.frozen(kw_only=True)
class World:
    """The programs, set to a database that can be changed for another."""

    programs: Programs
    endpoint: str
    server: PgServer

    def use(self, database: str, symbol_map: str = "") -> None:
        self.programs.configure(f"""
            timescale.url = {json.dumps(self.server.url(database))}
            journal.dir = "journal"
            feeds.default.endpoint = "{self.endpoint}"
            [routing.symbol_map]
            {symbol_map}
        """)

    async def write(self, *klines: Candle) -> str:
        """Publish them to the runner; what it has logged when it has written what it can."""
        async with self.programs.kline_runner() as runner:
            if klines:
                await publish_to(self.endpoint, klines)
                await runner.settled(len(klines), held=sum(not one.closed for one in klines))
        return runner.log

    async def command(self, *arguments: str, code: int = 0) -> str:
        """What ``ravenwh`` says; its errors, if it is to fail."""
        out, err = await self.programs.run("ravenwh", *arguments, code=code)
        return err if code else out

    def stored(self, database: str) -> list[tuple[object, ...]]:
        """Every kline of a database."""
        with psycopg.connect(self.server.url(database, driver="")) as connection:
            return connection.execute(
                "SELECT coin, quote, exchange, open_time, open, high, low, close, volume"
                " FROM mart.kline_1m ORDER BY 1, 2, 3, 4"
            ).fetchall()


@pytest.fixture
def world(tmp_path: Path, pg_server: PgServer) -> World:
    return World(
        programs=Programs(folder=tmp_path), endpoint=f"ipc://{tmp_path}/feed", server=pg_server
    )


@pytest.fixture
def first(pg_server: PgServer, mart_template: str) -> Iterator[str]:
    with pg_server.fresh_database(template=mart_template) as name:
        yield name


def kline(symbol: str, minute: int, *, closed: bool = True) -> Candle:
    opened = START + minute * MINUTE
    return Candle(
        venue="BINANCE_SPOT",
        symbol=symbol,
        event_time=opened + 59_999_000_000,
        interval="1m",
        open_time=opened,
        close_time=opened + 59_999_000_000,
        open=1.0 + minute,
        high=2.0 + minute,
        low=0.5,
        close=1.5,
        volume=3.0,
        closed=closed,
    )


async def test_a_restored_database_is_given_what_it_lacks(world: World, first: str) -> None:
    world.use(first)
    symbols = [f"{coin}USDT" for coin in ("BTC", "ETH", "XRP")]
    await world.write(*(kline(symbol, n) for n in range(50) for symbol in symbols))
    # this one is open at the time of the backup, and written after it
    log = await world.write(kline("BTCUSDT", 50, closed=False))
    assert "written=1" not in log
    backed_up_at = datetime.now(UTC)
    with world.server.fresh_database(template=first) as restored:
        await world.write(kline("BTCUSDT", 51))
        await world.write(*(kline(symbol, n) for n in range(52, 90) for symbol in symbols))
        full = world.stored(first)
        assert (len(full), len(world.stored(restored))) == (3 * 88 + 2, 150)

        world.use(restored)
        since = ("journal", "replay", "--since", backed_up_at.isoformat())
        async with world.programs.kline_runner():
            assert "held by the kline runner (pid" in await world.command(*since, code=1)
        too_early = await world.command("journal", "replay", "--since", "soon", code=2)
        assert "allowed are dates and times" in too_early
        said = await world.command(*since, "--service", "kline")
        assert "frames are put back" in said
        status = json.loads(await world.command("journal", "status", "--json"))
        assert status[0]["waiting"] >= 3 * 38 + 2
        await world.write()
        assert world.stored(restored) == full
        status = json.loads(await world.command("journal", "status", "--json"))
        assert status[0]["waiting"] == 0


async def test_dead_letters_are_written_when_their_cause_is_mended(
    world: World, first: str
) -> None:
    world.use(first)
    unknown = [kline(symbol, n) for n in range(20) for symbol in ("NOSUCHA", "NOSUCHB")]
    async with world.programs.kline_runner() as runner:
        await publish_to(world.endpoint, [*unknown, kline("BTCUSDT", 0)])
        await runner.settled(41)
        await runner.until(lambda log: "dead=40" in log or log.count("DEAD_LETTER") >= 2)
        listed = await world.command("dead-letters", "list")  # while it runs
        assert "default BINANCE_SPOT:CANDLE UNKNOWN_SYMBOL: " in listed
        refused = await world.command("dead-letters", "replay", code=1)
        assert "held by the kline runner (pid" in refused
    assert "UNKNOWN_SYMBOL: 40 kept" in await world.command("dead-letters", "list")
    lines = (await world.command("dead-letters", "list", "--each", "--json")).splitlines()
    letters = [json.loads(line) for line in lines]
    assert {one["topic"] for one in letters} == {
        "BINANCE_SPOT:CANDLE:NOSUCHA ",
        "BINANCE_SPOT:CANDLE:NOSUCHB ",
    }
    shown = await world.command("dead-letters", "show", str(letters[0]["seq"]))
    assert '"symbol": "NOSUCHA"' in shown
    assert "UnknownSymbol, UNKNOWN_SYMBOL" in shown
    assert "there is no dead letter 999" in await world.command(
        "dead-letters", "show", "999", code=1
    )

    world.use(first, '"NEW/USDT" = { BINANCE_SPOT = "NOSUCHA" }')
    assert "40 letters are put back" in await world.command(
        "dead-letters", "replay", "--code", "UNKNOWN_SYMBOL"
    )
    log = await world.write()
    assert "written=20" in log
    stored = world.stored(first)
    assert [row[0] for row in stored] == ["BTC", *["NEW"] * 20]
    assert "UNKNOWN_SYMBOL: 20 kept" in await world.command("dead-letters", "list")

    kept = ("dead-letters", "drop", "--feed", "default", "--yes")
    assert "20 letters are removed" in await world.command(*kept)
    assert "there are no dead letters" in await world.command("dead-letters", "list")
    assert "no dead letter is so" in await world.command(*kept, code=1)
    await world.write()
    assert world.stored(first) == stored
