"""When a stream may be silent: after its delisting, in a maintenance, and where nobody wants it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from ravenwh.app.wires import subject_of
from ravenwh.domain.register import Register
from ravenwh.domain.series import to_ns
from ravenwh.domain.settings import Settings
from ravenwh.domain.settings.routing import window_of
from ravenwh.ports import Stream

__all__ = ["expected_by"]

Span = tuple[int, int]
FOR_EVER = 2**63


def expected_by(
    settings: Settings, register: Register, wanted: Callable[[str], Iterable[bytes]]
) -> Callable[[Stream, int], bool]:
    """Whether a stream should speak at a time, in nanoseconds since 1970.

    ``wanted`` gives what is subscribed to of a feed now: topics, or prefixes of topics.
    """
    find = subject_of(settings, register)
    windows: dict[str, list[Span]] = {
        venue: [(to_ns(start), to_ns(end)) for start, end in map(window_of, planned)]
        for venue, planned in settings.routing.maintenance.items()
    }
    listed: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for one in register.listings:
        start = 0 if one.listed_at is None else to_ns(one.listed_at)
        end = FOR_EVER if one.delisted_at is None else to_ns(one.delisted_at)
        listed[one.exchange, one.symbol].append((start, end))

    def is_expected(stream: Stream, now: int) -> bool:
        feed, topic = stream
        if not (topic + b" ").startswith(tuple(wanted(feed))):  # cryptofeed's have lost their end
            return False
        venue, symbol = find(stream)
        if _is_in(windows.get(venue, ()), now):
            return False
        spans = () if symbol is None else listed.get((venue, symbol), ())
        return not spans or _is_in(spans, now)

    return is_expected


def _is_in(spans: Iterable[Span], now: int) -> bool:
    return any(start <= now < end for start, end in spans)
