"""When a stream may be silent: after its delisting, and while its venue is maintained."""

from __future__ import annotations

from collections.abc import Callable

from ravenwh.app.wires import venue_of
from ravenwh.domain.errors import DecodeError, Rejected
from ravenwh.domain.register import Register
from ravenwh.domain.series import to_ns
from ravenwh.domain.settings import Settings
from ravenwh.domain.settings.routing import window_of
from ravenwh.feed import wire
from ravenwh.ports import Stream

__all__ = ["expected_by"]


def expected_by(settings: Settings, register: Register) -> Callable[[Stream, int], bool]:
    """Whether a stream should speak at a time, in nanoseconds since 1970."""
    windows = {
        venue: [tuple(to_ns(bound) for bound in window_of(text)) for text in planned]
        for venue, planned in settings.routing.maintenance.items()
    }

    def is_expected(stream: Stream, now: int) -> bool:
        if any(start <= now < end for start, end in windows.get(venue_of(stream), ())):
            return False
        try:
            topic = wire.parse_topic(stream[1])
            instrument = register.resolve(topic.venue, topic.symbol, now)
        except (DecodeError, Rejected):  # another wire, or a symbol that nobody knows
            return True
        return instrument.delisted_at is None or now < to_ns(instrument.delisted_at)

    return is_expected
