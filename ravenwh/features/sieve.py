"""Which trades count: what is no trade, what came twice, what came late."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import msgspec
import numpy as np
import numpy.typing as npt

from ravenwh.domain.series import EARLIEST_NS, LATEST_NS

__all__ = ["Sieve"]

REMEMBERED = 4096
"""Ids, at least, that are known to have come. Publishers resend within seconds, not hours."""

MOST = 1e18
"""The largest price or quantity: far above any, and far below where sums grow infinite."""

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Sieve(msgspec.Struct, kw_only=True):
    """Lets a trade pass or counts why not; keeps time from going back.

    ``invalid``: a price or a quantity that is NaN, not above zero or above 1e18, or a time outside
    of 2009 to 2100. ``duplicate``: an id that came before, among the last 4,096. ``late``: an
    earlier time than that of a trade before it; it passes, at the latest time so far. A trade
    without an id is never a duplicate: two equal ones may well be two.
    """

    latest: int = EARLIEST_NS
    passed: int = 0
    invalid: int = 0
    duplicate: int = 0
    late: int = 0
    ids: dict[str, None] = msgspec.field(default_factory=dict)
    """Oldest first."""

    def time_of(self, time: int, price: float, quantity: float, trade_id: str | None) -> int | None:
        """The time at which the trade counts, None where it does not."""
        if not (
            0.0 < price <= MOST and 0.0 < quantity <= MOST and EARLIEST_NS <= time <= LATEST_NS
        ):
            self.invalid += 1
            return None
        if trade_id is not None and not self._is_new(trade_id):
            return None
        self.passed += 1
        if time >= self.latest:
            self.latest = time
            return time
        self.late += 1
        return self.latest

    def mask_of(
        self, times: Times, prices: Floats, quantities: Floats, ids: Sequence[str | None] | None
    ) -> tuple[Times, Mask]:
        """The same of many: the times of those that count, and which they are."""
        passes = (prices > 0.0) & (prices <= MOST) & (quantities > 0.0) & (quantities <= MOST)
        passes &= (times >= EARLIEST_NS) & (times <= LATEST_NS)
        self.invalid += int(len(passes) - np.count_nonzero(passes))
        if ids is not None:
            self._pass_over_repeated(passes, ids)
        counted = times[passes]
        self.passed += len(counted)
        if not len(counted):
            return counted, passes
        running = np.maximum.accumulate(np.maximum(counted, self.latest))
        self.late += int(np.count_nonzero(running != counted))
        self.latest = int(running[-1])
        return running, passes

    def _pass_over_repeated(self, passes: Mask, ids: Sequence[str | None]) -> None:
        at = 0
        while at < len(ids):
            block = ids[at : at + 2 * REMEMBERED - len(self.ids)]
            found = passes[at : at + len(block)]
            new = dict.fromkeys(block)
            if len(new) == len(block) and self.ids.keys().isdisjoint(new) and found.all():
                new.pop(None, None)
                self.ids.update(new)  # type: ignore[arg-type]  # without None
                self._forget()
            else:
                for index in np.flatnonzero(found).tolist():
                    trade_id = block[index]
                    if trade_id is not None and not self._is_new(trade_id):
                        found[index] = False
            at += len(block)

    def _is_new(self, trade_id: str) -> bool:
        if trade_id in self.ids:
            self.duplicate += 1
            return False
        self.ids[trade_id] = None
        self._forget()
        return True

    def _forget(self) -> None:
        """Keep the newest ids, as many as are remembered, once there are twice as many.

        The older half goes at once: a dictionary from whose front single entries are taken is
        searched through what they leave behind, which costs more than all the rest.
        """
        if len(self.ids) == 2 * REMEMBERED:
            self.ids = dict.fromkeys(islice(self.ids, REMEMBERED, None))
