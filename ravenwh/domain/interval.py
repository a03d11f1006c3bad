"""The kline intervals: a code and its fixed duration.

A month (``1M`` at Binance, ``1mo`` in its archive) is none of them: it has no fixed duration, so
that neither its gaps nor its rollups could be told by arithmetic. Monthly values are read from
``1d``. Codes are case-sensitive: ``1m`` is a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from types import MappingProxyType

import attrs

from ravenwh.domain.errors import Rejected

__all__ = ["INTERVALS", "Interval", "parse_interval"]


@attrs.frozen(kw_only=True)
class Interval:
    """A code of ``dim__interval`` with how long its periods are."""

    code: str
    duration: timedelta

    @property
    def duration_ns(self) -> int:
        """The duration in nanoseconds."""
        return self.duration // timedelta(microseconds=1) * 1000

    def __str__(self) -> str:
        return self.code


INTERVALS: Mapping[str, Interval] = MappingProxyType(
    {
        code: Interval(code=code, duration=duration)
        for code, duration in {
            "1s": timedelta(seconds=1),
            "1m": timedelta(minutes=1),
            "3m": timedelta(minutes=3),
            "5m": timedelta(minutes=5),
            "15m": timedelta(minutes=15),
            "30m": timedelta(minutes=30),
            "1h": timedelta(hours=1),
            "2h": timedelta(hours=2),
            "4h": timedelta(hours=4),
            "6h": timedelta(hours=6),
            "8h": timedelta(hours=8),
            "12h": timedelta(hours=12),
            "1d": timedelta(days=1),
            "3d": timedelta(days=3),
            "1w": timedelta(weeks=1),
        }.items()
    }
)
"""Every kline interval by its code, shortest first."""

_MONTHS = frozenset({"1M", "1mo", "1MO", "1month"})
_LONGEST_SHOWN = 40


def parse_interval(code: str) -> Interval:
    """The interval of a code. Raises Rejected (``UNKNOWN_INTERVAL``) with the nearest codes."""
    interval = INTERVALS.get(code)
    if interval is not None:
        return interval
    if code in _MONTHS:
        hint = "a month has no fixed length; take 1d, and group it by month"
    else:
        folded = code[:_LONGEST_SHOWN].strip().lower()
        near = [folded] if folded in INTERVALS else get_close_matches(folded, INTERVALS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "a code is a number and a unit"
    shown = code if len(code) <= _LONGEST_SHOWN else code[:_LONGEST_SHOWN] + "..."
    raise Rejected(
        f"interval {shown!r} is not known: {hint}; allowed: {', '.join(INTERVALS)}",
        code="UNKNOWN_INTERVAL",
    )
