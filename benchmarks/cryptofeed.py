"""How fast cryptofeed's frames become messages, and books of them, on one core.

Run it with ``python -m benchmarks.cryptofeed [SECONDS]``. What counts is the ratio to the same JSON
read into dictionaries by msgspec, in the same run: less is not possible in Python.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ravenwh.domain.book import Books
from ravenwh.domain.messages import OrderBook
from ravenwh.domain.register import Register
from ravenwh.feed.cryptofeed.decoder import CryptofeedDecoder
from ravenwh.ports import Frame

ROUNDS = 5
FRAMES = 2_000
LEVELS = 1_000
SYMBOL = "BTC-USDT-PERP"
AT = 1_723_161_255.342


def frame(key: str, **fields: Any) -> Frame:
    """A frame as cryptofeed writes it."""
    body = {"exchange": "BINANCE_FUTURES", "symbol": SYMBOL, **fields}
    body |= {"timestamp": AT, "receipt_timestamp": AT - 1.2680966}
    payload = json.dumps(body, separators=(",", ":")).encode()
    return Frame("benchmark", f"BINANCE_FUTURES-{key}-{SYMBOL}".encode(), b"", payload, 0)


def trade(number: int) -> Frame:
    """One trade."""
    price = round(61_837.6 + number % 100 / 10, 1)
    return frame("trades", side="sell", amount=0.02, price=price, id=str(number), type=None)


def candle(number: int) -> Frame:
    """One version of an open kline."""
    return frame(
        "candles",
        start=AT // 60 * 60,
        stop=AT // 60 * 60 + 59.999,
        interval="1m",
        trades=number,
        open=61_837.6,
        close=61_848.5,
        high=61_850.0,
        low=61_800.1,
        volume=12.345,
        closed=False,
    )


def snapshot(number: int) -> Frame:
    """A whole book of 1,000 levels on each side."""
    bid = {f"{61_800 - level / 10:.1f}": 1.5 for level in range(LEVELS)}
    ask = {f"{61_800.1 + level / 10:.1f}": 1.5 for level in range(LEVELS)}
    return frame("book", book={"bid": bid, "ask": ask})


def delta(number: int) -> Frame:
    """A change of 30 levels on each side, most of them near the best; as recorded in 2024."""
    random.seed(number)
    offsets = [min(LEVELS, int(random.expovariate(1 / 60))) / 10 for _ in range(60)]
    sizes = [random.choice([0, 0.5, 1.25, 3]) for _ in range(60)]
    bid = [[round(61_800 - offset, 1), size] for offset, size in zip(offsets, sizes, strict=True)]
    ask = [[round(61_800.1 + offset, 1), size] for offset, size in zip(offsets, sizes, strict=True)]
    return frame("book", delta={"bid": bid[:30], "ask": ask[30:]})


def rates(work: Callable[[], int], seconds: float) -> Iterator[float]:
    """Frames a second of each round, of the processor's time: one core, whoever else is on it."""
    for _ in range(ROUNDS):
        done, start = 0, time.process_time()
        while (took := time.process_time() - start) < seconds:
            done += work()
        yield done / took


def main(seconds: float) -> None:
    """Print the table."""
    decode = CryptofeedDecoder(register=Register())
    read = msgspec.json.Decoder().decode
    print(f"{'frame':10} {'bytes':>7} {'to dict':>12} {'to message':>12} {'ratio':>6}")
    for make in (trade, candle, delta, snapshot):
        frames = [make(number) for number in range(FRAMES if make is not snapshot else 100)]

        def plain(frames: list[Frame] = frames) -> int:
            for one in frames:
                read(one.payload)
            return len(frames)

        def ours(frames: list[Frame] = frames) -> int:
            for one in frames:
                decode(one)
            return len(frames)

        least, most = (statistics.median(rates(work, seconds)) for work in (plain, ours))
        size = sum(one.size for one in frames) // len(frames)
        print(f"{make.__name__:10} {size:>7} {least:>12,.0f} {most:>12,.0f} {most / least:>6.2f}")

    books = Books()
    first = decode(snapshot(0))
    messages = [decode(delta(number)) for number in range(FRAMES)]
    assert isinstance(first, OrderBook)

    def applied() -> int:
        books.apply(first)
        for message in messages:
            assert isinstance(message, OrderBook)
            books.apply(message)
        return len(messages)

    rate = statistics.median(rates(applied, seconds))
    print(f"{'a delta of 60 levels applied to its book':50} {rate:>12,.0f} a second")
    assert books.skipped == books.broken == 0


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.5)
