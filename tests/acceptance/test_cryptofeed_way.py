"""Recorded candles of cryptofeed, from its socket through the runner into the mart."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import psycopg
import pytest
import zmq

from ravenwh.journal import Store
from tests.cryptofeed import cryptofeed_to
from tests.programs import Programs
from tests.recorded import messages_of

Row = tuple[str, str, str, int, float, float, float, float, float, int | None]
"""Coin, quote, exchange, open_time in s, open, high, low, close, volume, trades."""

FINAL: set[Row] = {
    ("SUSHI", "USDT", "BINANCE_FUTURES", 1626992700, 7.608, 7.618, 7.607, 7.617, 3005, 113),
    ("CTK", "USDT", "BINANCE_FUTURES", 1626992700, 1.01, 1.012, 1.01, 1.012, 11074, 86),
    ("AKRO", "USDT", "BINANCE_FUTURES", 1626992700, 0.01731, 0.01733, 0.01731, 0.01733, 235736, 29),
    ("KEEP", "USDT", "BINANCE_FUTURES", 1626992700, 0.2463, 0.2466, 0.2458, 0.2466, 8464, 14),
}
HELD: Row = ("CTK", "USDT", "BINANCE_FUTURES", 1626992760, 1.012, 1.012, 1.01, 1.011, 9806, 36)
"""The last version of a kline that the recording leaves open."""


class Stage:
    """The runner's settings and mart, and the end where cryptofeed is."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url.replace("+asyncpg", "")
        self.endpoint = f"ipc://{folder}/feed"
        self.programs = Programs(folder=folder)

    def configure(self, venues: Sequence[str], symbols: Sequence[str]) -> None:
        self.programs.configure(f"""
            timescale.url = {json.dumps(self.url)}
            journal.dir = "journal"
            [feeds.cryptofeed]
            endpoint = "{self.endpoint}"
            mode = "bind"
            wire = "cryptofeed"
            [binance_klines]
            venues = {json.dumps(venues)}
            symbols = {json.dumps(symbols)}
            interval = ["1m"]
        """)

    def publishing(self, *topics: bytes) -> AbstractAsyncContextManager[zmq.Socket[bytes]]:
        """A publisher, once the topics are subscribed to."""
        return cryptofeed_to(self.endpoint, *topics)

    def rows(self) -> set[Row]:
        with psycopg.connect(self.url) as connection:
            return set(
                connection.execute("""
                    SELECT c.coin, q.quote, e.exchange, extract(epoch FROM open_time)::int,
                           open, high, low, close, volume, trade_count
                    FROM mart.fact__kline
                    JOIN mart.dim__coin c USING (coin_id)
                    JOIN mart.dim__quote q USING (quote_id)
                    JOIN mart.dim__exchange e USING (exchange_id)
                """).fetchall()
            )

    def letters(self) -> list[str]:
        with closing(Store(self.programs.journal)) as store:
            return [letter.code for letter in store.dead_letters()]


def accounted(log: str) -> dict[str, int]:
    (line,) = re.findall(r"RUNNER_STOPPED (.*)", log)
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line)}


@pytest.fixture
def stage(tmp_path: Path, mart_url: str) -> Stage:
    return Stage(tmp_path, mart_url)


async def test_recorded_candles_become_rows(stage: Stage, shared_data: Path) -> None:
    messages = messages_of(shared_data / "wire" / "BINANCE_FUTURES.v2.5.0.frames.txt.gz")
    symbols = ["CTKUSDT", "SUSHIUSDT", "AKRO/USDT", "KEEP/USDT"]
    stage.configure(["BINANCE_FUTURES"], symbols)
    async with stage.programs.kline_runner() as runner:
        topics = (b"BINANCE_FUTURES-candles-CTK-USDT-PERP ", b"candles ")
        others = (
            b"BINANCE_FUTURES-candles-%b-USDT-PERP " % c for c in (b"SUSHI", b"AKRO", b"KEEP")
        )
        async with stage.publishing(*topics, *others) as publisher:
            for message in messages:
                publisher.send(message)
            one = next(m for m in messages if m.startswith(topics[0])).partition(b" ")[2]
            for topic in topics:  # a topic that lies, and a coin that nobody asked for
                publisher.send(topic + one.replace(b"CTK", b"DOGE"))
        await runner.settled(67 + 2, held=4)
    counts = accounted(runner.log)
    assert [counts[name] for name in ("received", "written", "folded", "ignored", "dead")] == [
        67 + 2, 4, 67 - 8, 1, 1,
    ]  # fmt: skip
    assert stage.rows() == FINAL

    # what was open stayed in the journal, and the next run goes on with it
    async with stage.programs.kline_runner() as runner:
        async with stage.publishing(*topics) as publisher:
            later = next(m for m in reversed(messages) if m.startswith(topics[0]))
            for old, new in ((b"1626992760", b"1626992820"), (b"1626992819", b"1626992879")):
                later = later.replace(old, new)
            publisher.send(later.replace(b"1626992770.292", b"1626992822.1"))
        await runner.until(lambda log: "BATCH_WRITTEN" in log)
    assert HELD in stage.rows()


async def test_all_of_a_venue_and_nothing_of_its_neighbours(stage: Stage) -> None:
    def candle(exchange: str, symbol: str, topic: str = "") -> bytes:
        body = {
            "exchange": exchange, "symbol": symbol, "start": 1626992700, "stop": 1626992759.999,
            "interval": "1m", "trades": None, "open": 1, "close": 2, "high": 3, "low": 0.5,
            "volume": 7, "closed": True, "timestamp": 1626992761, "receipt_timestamp": 1626992761,
        }  # fmt: skip
        return f"{topic or f'{exchange}-candles-{symbol}'} {json.dumps(body)}".encode()

    stage.configure(["BINANCE_FUTURES", "OKX_PERP"], ["*"])
    async with stage.programs.kline_runner() as runner:
        async with stage.publishing(b"BINANCE_FUTURES-candles-", b"OKX-candles-") as publisher:
            for message in (
                candle("BINANCE_FUTURES", "BTC-USDT-PERP"),
                candle("OKX", "BTC-USDT-PERP", "candles"),
                candle("OKX", "BTC-USDT"),  # ignored: another market of the exchange
                candle("OKX", "BTC-USD-21U24"),  # ignored too
                candle("BINANCE", "BTC-USDT", "candles"),  # ignored too
                candle("BINANCE_FUTURES", "BTC-USDT-PINDEX"),  # dead: no symbol of the venue
                candle("BINANCE_FUTURES", "BTC-USDT-25H28"),  # dead: no series in the mart
                candle("BINANCE", "ETH-USDT"),  # not subscribed to
            ):
                publisher.send(message)
        await runner.settled(7)
    counts = accounted(runner.log)
    assert [counts[name] for name in ("received", "written", "ignored", "dead")] == [7, 2, 3, 2]
    assert {row[:3] for row in stage.rows()} == {
        ("BTC", "USDT", "BINANCE_FUTURES"), ("BTC", "USDT", "OKX_PERP"),
    }  # fmt: skip
    assert sorted(stage.letters()) == ["NOT_IN_MART", "UNKNOWN_SYMBOL"]
