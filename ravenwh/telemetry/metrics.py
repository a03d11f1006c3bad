"""What a runner counts and measures, in the text format of Prometheus."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping

import attrs
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["Metrics", "Reading"]

OFFSETS = 1024
"""Clock offsets that are kept of a venue, newest last."""

VENUES = 1024
"""Venues whose clocks are followed."""

TALLIES: Mapping[str, str] = {
    "books_unknown": "Changes of books that gave no best prices, as no snapshot came before them.",
    "points_ambiguous": "Points for which a replay may choose another slot.",
}
"""Counts of the parts of some runners, and what they say."""

LEVELS: Mapping[str, str] = {
    "tick_days_expiring": "Days of measurements that are dropped soon and are not exported.",
}
"""The same of what may fall again."""


@attrs.frozen(kw_only=True)
class Reading:
    """The state of a worker at one moment: its counts, and what is on the way.

    ``frames`` are its counts by what became of a frame. Their identity: received + recovered =
    written + unchanged + folded + expired + dead + ignored + ``in_journal``. Times are in seconds.
    ``tallies`` are counts that only some runners have: ``TALLIES`` and ``LEVELS`` have their names.
    """

    frames: Mapping[str, int]
    in_journal: int
    messages_missing: int
    gaps_open: int
    oldest_unwritten_s: float
    lag_s: float
    journal_bytes: int
    dead_letter_bytes: int
    dead_letters_collapsed: int
    dead_letters_dropped: int
    is_ready: bool
    tallies: Mapping[str, int] = attrs.field(factory=dict)


class Metrics:
    """The meter of a worker; ``read`` gives its state whenever somebody asks, None before it is.

    One reading a scrape, so that the identity of the counts holds in what is told.
    """

    def __init__(self, read: Callable[[], Reading | None]) -> None:
        self._registry = CollectorRegistry()
        self._offsets: dict[str, deque[float]] = {}
        self._rows = Histogram(
            "ravenwh_batch_rows",
            "Messages of a batch.",
            registry=self._registry,
            buckets=(1, 10, 100, 1000, 2500, 5000, 10000, 50000),
        )
        self._seconds = Histogram(
            "ravenwh_batch_seconds",
            "Time from the first try to write a batch until it was settled, waits included.",
            registry=self._registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
        )
        self._retries = Counter(
            "ravenwh_retries",
            "Tries that failed and were repeated, by the class of the error.",
            ["cause"],
            registry=self._registry,
        )
        self._registry.register(_State(read, self._quantiles))

    def wrote(self, *, rows: int, took_s: float) -> None:
        """A batch was settled."""
        self._rows.observe(rows)
        self._seconds.observe(took_s)

    def retried(self, cause: str) -> None:
        """A try failed, and is going to be repeated."""
        self._retries.labels(cause).inc()

    def offset(self, venue: str, offset_s: float) -> None:
        """How long after its event_time a message of the venue was received; may be negative."""
        kept = self._offsets.get(venue)
        if kept is None:
            if len(self._offsets) >= VENUES:
                return
            kept = self._offsets[venue] = deque(maxlen=OFFSETS)
        kept.append(offset_s)

    def page(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)

    def _quantiles(self) -> Iterator[tuple[str, str, float]]:
        """Venue, quantile, seconds."""
        for venue, kept in self._offsets.items():
            ordered = sorted(kept)
            for quantile in (0.5, 0.99):
                yield venue, f"{quantile:g}", ordered[int(quantile * (len(ordered) - 1))]


@attrs.frozen
class _State(Collector):
    """What is read at a scrape."""

    read: Callable[[], Reading | None]
    quantiles: Callable[[], Iterator[tuple[str, str, float]]]

    def collect(self) -> Iterator[Metric]:
        reading = self.read()
        yield _gauge(
            "ravenwh_ready",
            "1 where the runner can do its work now.",
            float(reading is not None and reading.is_ready),
        )
        if reading is None:
            return
        frames = CounterMetricFamily(
            "ravenwh_frames", "Frames by what became of them.", labels=["outcome"]
        )
        for outcome, count in reading.frames.items():
            frames.add_metric([outcome], count)
        yield frames
        for name, text, count in (
            (
                "messages_missing",
                "Messages that were published, or expected, and never came.",
                reading.messages_missing,
            ),
            (
                "dead_letters_collapsed",
                "Dead letters that were only counted, as too many were alike.",
                reading.dead_letters_collapsed,
            ),
            (
                "dead_letters_dropped",
                "Dead letters that were given up at their limit.",
                reading.dead_letters_dropped,
            ),
            *_of(TALLIES, reading),
        ):
            yield CounterMetricFamily(f"ravenwh_{name}", text, value=count)
        for name, text, value in (
            ("frames_in_journal", "Frames that wait to be written.", reading.in_journal),
            ("gaps_open", "Gaps that are not repaired or noted yet.", reading.gaps_open),
            (
                "oldest_unwritten_seconds",
                "Age of the oldest frame that waits to be written.",
                reading.oldest_unwritten_s,
            ),
            (
                "lag_seconds",
                "Time from socket to commit of the oldest frame in the last batch.",
                reading.lag_s,
            ),
            ("journal_bytes", "Bytes of the frames in the journal.", reading.journal_bytes),
            ("dead_letter_bytes", "Bytes of the dead letters.", reading.dead_letter_bytes),
            *_of(LEVELS, reading),
        ):
            yield _gauge(f"ravenwh_{name}", text, value)
        offsets = GaugeMetricFamily(
            "ravenwh_clock_offset_seconds",
            "Time from event_time to our socket, by venue.",
            labels=["venue", "quantile"],
        )
        for venue, quantile, seconds in self.quantiles():
            offsets.add_metric([venue, quantile], seconds)
        yield offsets


def _of(named: Mapping[str, str], reading: Reading) -> list[tuple[str, str, int]]:
    """Those of the parts' own counts that stand here, with what they say."""
    return [(name, named[name], count) for name, count in reading.tallies.items() if name in named]


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
