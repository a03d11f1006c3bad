"""Trades to make bars of: recorded ones, random ones, and ways to give them to a chain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np

from ravenwh.domain.messages import Trade
from ravenwh.features import (
    Bar,
    Chain,
    Profile,
    TickImbalance,
    TickRun,
    VolumeImbalance,
    Vpin,
)
from ravenwh.sources.catalog import find_files

START = 1_723_161_240_000_000_000
MS = 10**6


def recorded(shared_data: Path) -> dict[str, list[Trade]]:
    """All recorded trades, by market and year; days that follow each other are one stream."""
    streams: dict[str, list[Trade]] = {}
    for market in ("spot", "um"):
        folder = shared_data / "trades_vision" / market
        files, _ = find_files([folder], venue=f"BINANCE_{market.upper()}")
        for file in files:
            stream = streams.setdefault(f"{market} {file.path.stem.split('-')[2]}", [])
            stream.extend(one for one in file.messages(bad) if isinstance(one, Trade))
    return streams


def bad(label: str, line: int, reason: str) -> None:
    raise AssertionError(f"{label}:{line}: {reason}")


def trade(
    at_ms: int,
    price: float = 100.0,
    quantity: float = 1.0,
    side: str = "buy",
    trade_id: str | None = None,
) -> Trade:
    return Trade(
        venue="BINANCE_FUTURES",
        symbol="BTCUSDT",
        event_time=START + at_ms * MS,
        price=price,
        quantity=quantity,
        side="buy" if side == "buy" else "sell",
        trade_id=trade_id,
    )


def random_trades(random: Random, count: int) -> list[Trade]:
    """Trades that come in bursts and in runs of one side; some series have dyadic quantities."""
    at, price, side = 0, 100 * random.random() + 0.01, "buy"
    stays, burst = random.choice([0.5, 0.7, 0.95]), random.choice([0.0, 0.5, 0.95])
    digits = random.choice([0, 1, 4])
    dyadic = random.random() < 0.5
    trades = []
    for number in range(count):
        at += 0 if random.random() < burst else random.randrange(1, 50)
        price = max(0.01, round(price * (1 + random.gauss(0, 0.001)), digits + 2))
        side = side if random.random() < stays else random.choice(["buy", "sell"])
        size = random.expovariate(1)
        quantity = (1 + int(size * 1024)) / 1024 if dyadic else round(size, digits) or 0.001
        trades.append(trade(at, price, quantity, side, str(number)))
    return trades


def random_profile(random: Random) -> Profile:
    """One that makes several bars of a hundred trades."""
    ticks, span = random.randrange(1, 30), random.randrange(1, 12)
    bounds = {"least": random.choice([0.1, 0.5, 1]), "most": random.choice([1, 2, 10])}
    floor = random.choice([0.0001, 0.05, 0.3, 1])
    match random.randrange(4):
        case 0:
            return TickImbalance(expected_ticks=ticks, span=span, least_imbalance=floor, **bounds)
        case 1:
            return TickRun(expected_ticks=ticks, span=span, **bounds)
        case 2:
            return VolumeImbalance(expected_ticks=ticks, span=span, least_imbalance=floor, **bounds)
        case _:
            return Vpin(
                bucket_volume=random.choice([0.5, 3, 10.7, 25]),
                slices=random.choice([1, 2, 3, 10]),
                buckets=random.randrange(1, 8),
            )


def pushed(chain: Chain, trades: Iterable[Trade]) -> list[Bar]:
    return [bar for one in trades if (bar := chain.push(one)) is not None]


def extended(chain: Chain, trades: Sequence[Trade], *, with_ids: bool = True) -> list[Bar]:
    return chain.extend(
        np.array([one.event_time for one in trades], np.int64),
        np.array([one.price for one in trades], np.float64),
        np.array([one.quantity for one in trades], np.float64),
        np.array([one.side == "buy" for one in trades], np.bool_),
        [one.trade_id for one in trades] if with_ids else None,
    )


def pieces(trades: Sequence[Trade], sizes: Iterator[int]) -> Iterator[Sequence[Trade]]:
    """The trades in pieces of these sizes, an empty one among them now and then."""
    at = 0
    while at < len(trades):
        size = next(sizes)
        yield trades[at : at + size]
        at += size
