"""Streams that have fallen silent: how often each one speaks is learned from itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import attrs
from loguru import logger

from ravenwh.ports import Frame, Stream

__all__ = ["Silence"]

FOLLOWED = 65_536
LEAST = 5
"""Frames after which a rhythm is known."""

FADES = 0.02
"""How fast a longer pause is forgotten for shorter ones, a frame."""

NAMED = 5
"""Streams that an alarm names; the others it counts."""


@attrs.define
class _Rhythm:
    last: int
    pause: float = 0.0
    """The longest pause of late, in nanoseconds."""
    frames: int = 1
    is_silent: bool = False

    def heard(self, at: int) -> None:
        """It spoke."""
        pause = at - self.last
        if not self.is_silent:  # what was an alarm is no rhythm
            self.pause = max(pause, self.pause + FADES * (pause - self.pause))
            self.frames += 1
        self.last = max(self.last, at)


@attrs.define(kw_only=True)
class Silence:
    """Tells when streams that used to speak do not, and when they do again.

    A stream is silent when it has said nothing for ``factor`` times its longest pause of late, and
    for ``floor_s`` at least, while its venue spoke; a venue is when none of its streams has spoken
    for so long. So a venue that falls silent is one alarm, however many streams it has. A feed from
    which nothing ever came is silent after ``start_s``.

    ``feeds`` gives the feeds that something is wanted of now. ``venue_of`` names who speaks on a
    stream; ``is_expected`` says whether it should speak at a time: not after its delisting, not in
    a maintenance window. Times are nanoseconds since 1970, UTC.
    """

    feeds: Callable[[], Iterable[str]]
    venue_of: Callable[[Stream], str]
    is_expected: Callable[[Stream, int], bool] = lambda stream, now: True
    floor_s: float = 30.0
    factor: float = 3.0
    start_s: float = 120.0
    _streams: dict[Stream, _Rhythm] = attrs.field(factory=dict, init=False)
    _venues: dict[str, _Rhythm] = attrs.field(factory=dict, init=False)
    _of_venue: dict[str, list[Stream]] = attrs.field(
        factory=lambda: defaultdict[str, list[Stream]](list), init=False
    )
    _asked_since: dict[str, int] = attrs.field(factory=dict, init=False)
    _spoke: set[str] = attrs.field(factory=set, init=False)
    _mute: set[str] = attrs.field(factory=set, init=False)

    def heard(self, frames: Iterable[Frame]) -> None:
        """Learn from frames that came, in their order."""
        for stream, at in {(f.feed, f.topic): f.received_at for f in frames}.items():
            known = self._streams.get(stream)
            if known is not None:
                known.heard(at)
            elif len(self._streams) < FOLLOWED:
                self._streams[stream] = _Rhythm(at)
                self._of_venue[self.venue_of(stream)].append(stream)
            self._spoke.add(stream[0])

    @property
    def troubles(self) -> list[str]:
        """What is silent that should not be, for readiness: feeds, and venues as a whole."""
        return [f"nothing comes from feed {feed}" for feed in sorted(self._mute)] + [
            f"all {len(self._of_venue[venue])} streams of {venue} are silent"
            for venue, rhythm in sorted(self._venues.items())
            if rhythm.is_silent
        ]
