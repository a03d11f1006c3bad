"""What bounds a worker, and what it counts."""

from __future__ import annotations

import attrs

from ravenwh.ingest.backoff import Backoff

__all__ = ["AHEAD_NS", "FOLLOWED", "LONGEST_TOPIC", "Counts", "Limits"]

AHEAD_NS = 86_400_000_000_000
"""A time further than this after its frame's arrival is wrong, and must not make us deaf to true
ones. The clocks of venues are ahead by seconds; history is as far in the past as it likes."""

FOLLOWED = 65_536
LONGEST_TOPIC = 2_000
"""Streams that are followed, and bytes of their topics: a publisher that invents topics without end
fills no memory. No name that anybody can use is so long."""


@attrs.frozen(kw_only=True)
class Limits:
    """When a batch closes, and how long the worker waits for what is away. Times in seconds.

    ``batch_bytes`` are those of frames. What one read of the journal brings is held by the same
    limit, and so are the chunks that the journal is given.
    """

    batch_rows: int = 5000
    batch_bytes: int = 4 << 20
    flush_after_s: float = 0.5
    receive_frames: int = 2000
    retry_initial_s: float = 0.1
    retry_max_s: float = 30.0
    room_retry_s: float = 1.0
    watch_every_s: float = 5.0
    shutdown_grace_s: float = 10.0

    def backoff(self) -> Backoff:
        """The waits for one thing that is away."""
        return Backoff(initial_s=self.retry_initial_s, max_s=self.retry_max_s)


@attrs.define
class Counts:
    """Frames since the start, by what became of them.

    ``received + recovered = written + unchanged + folded + expired + dead + ignored``, and what is
    in the journal. ``expired`` were older than what the sink keeps. ``lost`` counts frames that
    never came into the journal: one that is larger than all of its room, and those in hand when
    the process was told to stop while it was full. ``resent`` counts those of the received that
    were asked for again, ``missing`` messages that never came, as far as the numbers of their
    streams tell.
    """

    received: int = 0
    recovered: int = 0
    written: int = 0
    unchanged: int = 0
    folded: int = 0
    expired: int = 0
    dead: int = 0
    ignored: int = 0
    lost: int = 0
    resent: int = 0
    missing: int = 0
