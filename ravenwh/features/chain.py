"""The bars of one profile, made from one stream of trades."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Self

import msgspec
import numpy as np

from ravenwh.domain.errors import Refused
from ravenwh.domain.messages import Trade
from ravenwh.features.bar import Bar, Growing
from ravenwh.features.measure import (
    Expected,
    end_slice,
    finish,
    most_ticks_of,
    theta_of,
    threshold_of,
)
from ravenwh.features.profile import Profile, TickImbalance, TickRun, Vpin
from ravenwh.features.sieve import Floats, Mask, Sieve, Times

__all__ = ["Bar", "Chain"]

SHORTEST, LONGEST = 64, 65_536
"""Trades that are looked at together for the end of a bar; as many as the last one had, then twice
as many, so that neither short nor long bars make it slow. No bar depends on it."""


class _State(msgspec.Struct, kw_only=True):
    parameters_hash: str
    sieve: Sieve = msgspec.field(default_factory=Sieve)
    bar: Growing = msgspec.field(default_factory=Growing)
    expected: Expected = msgspec.field(default_factory=Expected)
    last_opened_us: int = 0
    last_seq: int = 0


class Chain:
    """Makes bars: ``push`` takes trades one by one, ``take`` many, ``extend`` arrays; any mixed."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._window = SHORTEST
        self._go_on(_State(parameters_hash=profile.parameters_hash))

    def _go_on(self, state: _State) -> None:
        self._state = state
        self._bar = state.bar
        self._threshold = threshold_of(self.profile, state.bar, state.expected)
        self._most_ticks = most_ticks_of(self.profile, state.expected)

    @property
    def counts(self) -> dict[str, int]:
        """Trades so far: passed, invalid, duplicate, late (those that passed, too late)."""
        sieve = self._state.sieve
        return {name: getattr(sieve, name) for name in ("passed", "invalid", "duplicate", "late")}

    @property
    def ticks(self) -> int:
        """Trades in the bar that has not ended."""
        return self._bar.ticks

    @property
    def opened_at(self) -> int | None:
        """The ``open_time`` of the bar that has not ended; None where it has no trade yet."""
        return self._bar.open_time if self._bar.ticks else None

    @property
    def latest(self) -> int:
        """The time of the latest trade so far; 2009-01-01 before the first."""
        return self._state.sieve.latest

    @property
    def expected_ticks(self) -> float | None:
        """E[T], the trades that a bar is expected to have; None in the warm-up, and of VPIN."""
        return self._state.expected.ticks or None

    def save(self) -> bytes:
        """All of it, to go on from this trade; up to 100 kB where trades have ids."""
        return msgspec.msgpack.encode(self._state)

    @classmethod
    def restored(cls, profile: Profile, saved: bytes) -> Self:
        """The chain as it was saved. Raises Refused for bytes of another profile, or none."""
        try:
            state = msgspec.msgpack.decode(saved, type=_State)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(f"the saved state of a chain cannot be read: {error}") from error
        if state.parameters_hash != profile.parameters_hash:
            raise Refused(
                f"the saved chain has parameters {state.parameters_hash}, the profile has "
                f"{profile.parameters_hash}: give changed parameters another name"
            )
        chain = cls(profile)
        chain._go_on(state)
        return chain

    def note_gap(self) -> None:
        """Trades may be missing here: the bar that is open, or the next one, says so."""
        self._bar.after_gap = True

    def push(self, trade: Trade) -> Bar | None:
        """Take one trade; the bar that it ends."""
        price, quantity = trade.price, trade.quantity
        time = self._state.sieve.time_of(trade.event_time, price, quantity, trade.trade_id)
        if time is None:
            return None
        bar = self._bar
        if bar.ticks == 0:
            bar.open_time, bar.open, bar.high, bar.low = time, price, price, price
        elif price > bar.high:
            bar.high = price
        elif price < bar.low:
            bar.low = price
        bar.ticks += 1
        bar.volume += quantity
        if trade.side == "buy":
            bar.buys += 1
            bar.signed_volume += quantity
        else:
            bar.signed_volume -= quantity
        bar.close_time, bar.close = time, price
        if theta_of(self.profile, bar) >= self._threshold or bar.ticks >= self._most_ticks:
            return self._reached()
        return None

    def take(self, trades: Sequence[Trade]) -> list[Bar]:
        """Take trades in their order, many at a time; the bars that they end, in theirs.

        Times are nanoseconds since 1970; what is passed over is in ``counts``.
        """
        count = len(trades)
        return self.extend(
            np.fromiter((one.event_time for one in trades), np.int64, count),
            np.fromiter((one.price for one in trades), np.float64, count),
            np.fromiter((one.quantity for one in trades), np.float64, count),
            np.fromiter((one.side == "buy" for one in trades), np.bool_, count),
            [one.trade_id for one in trades],
        )

    def extend(
        self,
        times: Times,
        prices: Floats,
        quantities: Floats,
        is_buy: Mask,
        ids: Sequence[str | None] | None = None,
    ) -> list[Bar]:
        """Take trades as arrays, in their order; the bars that they end.

        ``times`` are nanoseconds since 1970 (int64), prices and quantities float64; ``is_buy`` is
        the taker's side. ``ids`` may be left out where none repeats. Raises Refused, and takes
        nothing, where their lengths differ.
        """
        lengths = [len(times), len(prices), len(quantities), len(is_buy)]
        lengths += [] if ids is None else [len(ids)]
        if len(set(lengths)) != 1:
            raise Refused(f"trades as arrays: found lengths {lengths}, allowed is one length")
        times, passes = self._state.sieve.mask_of(times, prices, quantities, ids)
        if len(times) != len(passes):
            prices, quantities, is_buy = prices[passes], quantities[passes], is_buy[passes]
        signed = np.where(is_buy, quantities, -quantities)
        bars: list[Bar] = []
        at, count, taken = 0, len(times), 0
        while at < count:
            upto = min(count, at + self._window)
            if isinstance(self.profile, Vpin):
                end, reached = self._slices_in(self.profile, at, upto, prices, quantities)
            else:
                end, reached = self._end_in(at, upto, signed, is_buy)
            self._take(times[at:end], prices[at:end], quantities, signed, is_buy, at, end)
            taken += end - at
            if not reached:
                self._window = min(2 * self._window, LONGEST)
            else:
                self._window, taken = min(max(taken, SHORTEST), LONGEST), 0
                bars.append(self._ended())
            at = end
        return bars

    def _end_in(self, at: int, upto: int, signed: Floats, is_buy: Mask) -> tuple[int, bool]:
        """Behind the trade that reaches the threshold, or behind the last, and whether it does."""
        bar, profile = self._bar, self.profile
        if self._most_ticks <= bar.ticks + upto - at:
            return at + int(self._most_ticks) - bar.ticks, True
        match profile:
            case TickImbalance() | TickRun():
                buys = bar.buys + np.cumsum(is_buy[at:upto])
                ticks = bar.ticks + np.arange(1, upto - at + 1)
                sells = ticks - buys
                is_run = isinstance(profile, TickRun)
                theta = np.maximum(buys, sells) if is_run else np.abs(buys - sells)
            case _:
                theta = np.abs(_running(bar.signed_volume, signed[at:upto]))
        reached = theta >= self._threshold
        first = int(np.argmax(reached))
        return (at + first + 1, True) if reached[first] else (upto, False)

    def _slices_in(
        self, profile: Vpin, at: int, upto: int, prices: Floats, quantities: Floats
    ) -> tuple[int, bool]:
        """The same of a bucket, whose slices are ended on the way; each costs one search."""
        bar, before = self._bar, self._bar.volume
        volumes = _running(before, quantities[at:upto]).tolist()
        place, is_full = 0, False
        while not is_full:
            place = bisect_left(volumes, self._threshold, place)
            if place == len(volumes):
                break
            bar.volume, bar.close = volumes[place], float(prices[at + place])
            is_full = self._slice_ended(profile)
        bar.volume = before
        return (at + place + 1, True) if is_full else (upto, False)

    def _take(
        self,
        times: Times,
        prices: Floats,
        quantities: Floats,
        signed: Floats,
        is_buy: Mask,
        at: int,
        end: int,
    ) -> None:
        """Add the trades from ``at`` to before ``end`` to the bar."""
        bar = self._bar
        high, low = float(prices.max()), float(prices.min())
        if bar.ticks == 0:
            bar.open_time, bar.open, bar.high, bar.low = int(times[0]), float(prices[0]), high, low
        else:
            bar.high, bar.low = max(bar.high, high), min(bar.low, low)
        bar.ticks += end - at
        bar.buys += int(np.count_nonzero(is_buy[at:end]))
        bar.volume = float(_running(bar.volume, quantities[at:end])[-1])
        bar.signed_volume = float(_running(bar.signed_volume, signed[at:end])[-1])
        bar.close_time, bar.close = int(times[-1]), float(prices[-1])

    def _reached(self) -> Bar | None:
        """The bar, where it ends with the threshold; a bucket may only have ended a slice."""
        if isinstance(self.profile, Vpin) and not self._slice_ended(self.profile):
            return None
        return self._ended()

    def _slice_ended(self, profile: Vpin) -> bool:
        """End a slice; whether the bucket ends with it."""
        bar = self._bar
        end_slice(profile, bar, self._state.expected)
        if bar.volume >= profile.bucket_volume:
            return True
        self._threshold = threshold_of(profile, bar, self._state.expected)
        return False

    def _ended(self) -> Bar:
        """The bar that is full; the next one begins."""
        state, bar, profile = self._state, self._bar, self.profile
        opened_us = bar.open_time // 1000  # a table's times have no nanoseconds
        seq = state.last_seq + 1 if opened_us == state.last_opened_us else 0
        state.last_opened_us, state.last_seq = opened_us, seq
        done = Bar(
            open_time=bar.open_time,
            close_time=bar.close_time,
            bar_seq=seq,
            open=bar.open,
            high=bar.high,
            low=bar.low,
            close=bar.close,
            volume=bar.volume,
            buy_ticks=bar.buys,
            total_ticks=bar.ticks,
            after_gap=bar.after_gap,
            **finish(profile, bar, state.expected),
        )
        state.bar = Growing()
        self._go_on(state)
        return done


def _running(before: float, values: Floats) -> Floats:
    """Running sums behind what was there, added one by one as ``push`` adds them."""
    sums: Floats = np.add.accumulate(np.concatenate(([before], values)))
    return sums[1:]
