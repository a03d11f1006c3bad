"""Streams that have fallen silent: how often each one speaks is learned from itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs
from loguru import logger

from ravenwh.ingest.limits import FOLLOWED, LONGEST_TOPIC
from ravenwh.ports import Frame, Stream

__all__ = ["Silence"]

SECOND = 1_000_000_000
LEAST = 5
"""Times that somebody spoke, after which the rhythm is known; frames within a second are one."""

FADES = 0.02
"""How fast a longer pause is forgotten for shorter ones, each time."""

NAMED = 5
"""Streams that an alarm names; the others it counts."""


@attrs.define
class _Rhythm:
    """When somebody spoke last, in nanoseconds, and the longest pause of late.

    Of a pause that was a silence only what could still be usual is learned: so an outage does not
    make us patient, and whoever speaks less often from now on is one alarm, and not one each time.
    """

    floor_s: float
    factor: float
    last: int
    pause: float = 0.0
    times: int = 1
    is_silent: bool = False
    _learned_at: int = attrs.field(init=False)

    @_learned_at.default
    def _at_first(self) -> int:
        return self.last

    def heard(self, at: int, *, teaches: bool = True) -> None:
        """It spoke. Where it was not its own silence that ended, nothing is to be learned of it."""
        pause = min(at - self.last, self.limit) if self.is_silent else at - self.last
        if not teaches:
            self._learned_at = at
        elif at - self._learned_at >= SECOND:
            self.pause = max(pause, self.pause + FADES * (pause - self.pause))
            self.times += 1
            self._learned_at = at
        self.last = max(self.last, at)

    @property
    def limit(self) -> float:
        """The longest pause that is no silence, in nanoseconds."""
        return max(self.floor_s * SECOND, self.factor * self.pause)

    def is_over(self, now: int) -> bool:
        """Whether it should have spoken by now."""
        return self.times >= LEAST and now - self.last > self.limit


@attrs.define
class _Venue:
    rhythm: _Rhythm
    streams: dict[Stream, _Rhythm] = attrs.field(factory=dict)
    is_alarmed: bool = False
    alarmed: set[Stream] = attrs.field(factory=set)
    """Streams that are silent by themselves, and should not be."""
    untold: set[Stream] = attrs.field(factory=set)
    told_at: int = 0


@attrs.define(kw_only=True)
class Silence:
    """Tells when streams that used to speak do not, and when they do again.

    A venue is silent when none of its streams has spoken for ``factor`` times its longest pause of
    late, and for ``floor_s`` at least: that is one alarm, however many streams it has. A stream is
    silent by the same rule while its venue speaks; of those a venue has one alarm in
    ``tell_every_s``, which counts them. A feed from which nothing ever came is silent after
    ``start_s``.

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
    tell_every_s: float = 60.0
    _streams: dict[Stream, tuple[_Rhythm, _Venue]] = attrs.field(factory=dict, init=False)
    _venues: dict[str, _Venue] = attrs.field(factory=dict, init=False)
    _wanted_since: dict[str, int] = attrs.field(factory=dict, init=False)
    _spoke: set[str] = attrs.field(factory=set, init=False)
    _mute: set[str] = attrs.field(factory=set, init=False)

    def heard(self, frames: Iterable[Frame]) -> None:
        """Learn from frames that came, in their order."""
        for stream, at in {(f.feed, f.topic): f.received_at for f in frames}.items():
            known = self._streams.get(stream)
            if known is not None:
                rhythm, venue = known
                rhythm.heard(at, teaches=not venue.rhythm.is_silent)
                venue.rhythm.heard(at)
            elif len(self._streams) < FOLLOWED and len(stream[1]) <= LONGEST_TOPIC:
                self._meet(stream, at)

    def _meet(self, stream: Stream, at: int) -> None:
        name = self.venue_of(stream)
        venue = self._venues.setdefault(name, _Venue(_Rhythm(self.floor_s, self.factor, at)))
        venue.streams[stream] = _Rhythm(self.floor_s, self.factor, at)
        venue.rhythm.heard(at)
        self._streams[stream] = (venue.streams[stream], venue)
        self._spoke.add(stream[0])

    @property
    def troubles(self) -> list[str]:
        """What is silent that should not be, for readiness: feeds, and venues as a whole."""
        return [f"nothing comes from feed {feed}" for feed in sorted(self._mute)] + [
            f"all {len(venue.streams)} streams of {name} are silent"
            for name, venue in sorted(self._venues.items())
            if venue.is_alarmed
        ]

    def check(self, now: int) -> None:
        """Look at all streams, and tell what changed."""
        self._check_feeds(now)
        for name, venue in self._venues.items():
            was_silent = venue.rhythm.is_silent
            venue.rhythm.is_silent = venue.rhythm.is_over(now)
            if venue.rhythm.is_silent:
                self._check_silent(name, venue, now)
                continue
            back = 0
            if was_silent:
                for rhythm in venue.streams.values():  # they have as long as ever, from now on
                    rhythm.last = max(rhythm.last, venue.rhythm.last)
                back = len(venue.streams) if venue.is_alarmed else 0
                venue.is_alarmed = False
            self._check_streams(name, venue, now, back)

    def _check_silent(self, name: str, venue: _Venue, now: int) -> None:
        """Nothing comes from the venue: an alarm, if something should."""
        due = [stream for stream in venue.streams if self.is_expected(stream, now)]
        if due and not venue.is_alarmed:
            _tell(name, venue, due, (now - venue.rhythm.last) / SECOND)
        venue.is_alarmed = bool(due)
        venue.untold.clear()

    def _check_streams(self, name: str, venue: _Venue, now: int, back: int) -> None:
        """The venue speaks: its clock is what the silence of each of its streams is held against.

        So all of them that spoke at the same pace fall silent with the venue, and not before it.
        """
        for stream, rhythm in venue.streams.items():
            rhythm.is_silent = rhythm.is_over(venue.rhythm.last)
            if not rhythm.is_silent:
                back += stream in venue.alarmed
                venue.alarmed.discard(stream)
            elif not self.is_expected(stream, now):
                venue.alarmed.discard(stream)
            elif stream not in venue.alarmed:
                venue.alarmed.add(stream)
                venue.untold.add(stream)
        venue.untold &= venue.alarmed
        if venue.untold and now - venue.told_at >= self.tell_every_s * SECOND:
            quiet = max(now - venue.streams[stream].last for stream in venue.untold)
            _tell(name, venue, sorted(venue.untold), quiet / SECOND)
            venue.told_at = now
            venue.untold.clear()
        if back:
            logger.bind(venue=name, streams=back).info("STREAMS_HEARD_AGAIN")

    def _check_feeds(self, now: int) -> None:
        feeds = set(self.feeds())
        self._mute &= feeds
        for feed in self._wanted_since.keys() - feeds:
            del self._wanted_since[feed]
        for feed in sorted(feeds):
            since = self._wanted_since.setdefault(feed, now)
            is_mute = feed not in self._spoke and now - since > self.start_s * SECOND
            if is_mute and feed not in self._mute:
                logger.bind(feed=feed, for_s=round((now - since) / SECOND, 1)).warning(
                    "FEED_SILENT"
                )
            (self._mute.add if is_mute else self._mute.discard)(feed)


def _tell(name: str, venue: _Venue, streams: list[Stream], for_s: float) -> None:
    logger.bind(
        venue=name,
        streams=len(streams),
        of=len(venue.streams),
        named=[topic[:200].decode("utf-8", "replace").strip() for _, topic in streams[:NAMED]],
        for_s=round(for_s, 1),
    ).warning("STREAMS_SILENT")
