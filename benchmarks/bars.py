"""How fast trades become bars, on one core: one by one, from frames, and in arrays.

Run it with ``python -m benchmarks.bars [SECONDS]``. The trades are three days of the simulated
BTCUSDT. What counts is the ratio to the same frames decoded and nothing else, in the same run.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks.cryptofeed import ROUNDS, rates
from ravenwh.cli.terminal import collect_seldom
from ravenwh.domain.messages import Trade
from ravenwh.domain.series import TimeRange
from ravenwh.features import Bar, Chain, Profile, TickImbalance, TickRun, VolumeImbalance, Vpin
from ravenwh.feed import wire
from ravenwh.ports import Frame
from ravenwh.sources.simulator import SimulatedMarket

PROFILES: tuple[Profile, ...] = (
    TickImbalance(),
    TickRun(),
    VolumeImbalance(),
    Vpin(bucket_volume=15.0),
    Vpin(bucket_volume=1.64),
)
"""Bars of some hundreds of trades, and buckets with slices of ten."""


def trades(days: int) -> list[Trade]:
    """Simulated ones, in order."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    span = TimeRange(start=start, end=start + timedelta(days=days))
    return list(SimulatedMarket(symbol="BTCUSDT", venue="BINANCE_FUTURES").trades(span))


def frame(trade: Trade, number: int) -> Frame:
    """As it comes from a publisher."""
    topic, payload = wire.encode(trade)
    return Frame("benchmark", topic, wire.header(1, number), payload, 0)


def main(seconds: float) -> None:
    """Print the table."""
    collect_seldom()  # as runners do
    messages = trades(days=3)
    frames = [frame(one, number) for number, one in enumerate(messages, 1)]
    arrays = (
        np.array([one.event_time for one in messages], np.int64),
        np.array([one.price for one in messages]),
        np.array([one.quantity for one in messages]),
        np.array([one.side == "buy" for one in messages]),
    )
    ids = [one.trade_id for one in messages]

    def decoded(chain: Chain) -> None:
        for one in frames:
            wire.decode(one)

    def from_frames(chain: Chain) -> None:
        for one in frames:
            message = wire.decode(one)
            assert isinstance(message, Trade)
            chain.push(message)

    def pushed(chain: Chain) -> list[Bar]:
        return [bar for one in messages if (bar := chain.push(one)) is not None]

    def extended_with_ids(chain: Chain) -> list[Bar]:
        return chain.extend(*arrays, ids)

    def extended(chain: Chain) -> list[Bar]:
        return chain.extend(*arrays)

    def rate(way: Callable[[Chain], object], profile: Profile) -> float:
        def work() -> int:
            way(Chain(profile))
            return len(messages)

        return statistics.median(rates(work, seconds))

    print(f"{len(messages):,} trades, medians of {ROUNDS} rounds, trades a second of one core")
    print(f"frames decoded and nothing else: {rate(decoded, PROFILES[0]):,.0f}")
    ways = (from_frames, pushed, extended_with_ids, extended)
    print(f"{'kind':16} {'a bar':>6}{''.join(f'{way.__name__:>19}' for way in ways)}")
    for profile in PROFILES:
        bars = pushed(Chain(profile))
        assert bars == extended_with_ids(Chain(profile)) == extended(Chain(profile))
        cells = "".join(f"{rate(way, profile):>19,.0f}" for way in ways)
        print(f"{type(profile).__name__:16} {len(messages) // len(bars):>6}{cells}")

    filled = Chain(PROFILES[0])
    extended_with_ids(filled)
    start = time.process_time()
    for _ in range(100):
        saved = filled.save()
    took = (time.process_time() - start) / 100
    print(f"a chain with {len(saved):,} bytes of state is saved in {took * 1e6:,.0f} µs")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.5)
