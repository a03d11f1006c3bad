"""A runner as its health pages show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ravenwh.ingest import Worker
from ravenwh.journal import Store
from ravenwh.telemetry.metrics import Reading

__all__ = ["Watched"]

NOT_FRAMES = frozenset({"missing"})
"""What the counts hold beside frames by what became of them."""

Tallies = Callable[[], Mapping[str, int]]


@attrs.define
class Watched:
    """What can be told of a runner: before its worker is there, only that it starts."""

    _parts: tuple[Worker[Any], Store, Callable[[], str | None], Tallies] | None = attrs.field(
        default=None, init=False
    )

    def follow(
        self,
        worker: Worker[Any],
        store: Store,
        waiting_for: Callable[[], str | None],
        tallies: Tallies = dict,
    ) -> None:
        """From now on tell of these, of what the sink waits for, and of the parts' own counts."""
        self._parts = (worker, store, waiting_for, tallies)

    @property
    def troubles(self) -> list[str]:
        """Why it cannot do its work now; nothing where it can."""
        if self._parts is None:
            return ["starting: the journal and the sockets are being opened"]
        worker, _, waiting_for, _ = self._parts
        why = waiting_for()
        return ([] if why is None else [why]) + worker.troubles

    def reading(self) -> Reading | None:
        """Its state at this moment; None before there is one."""
        if self._parts is None:
            return None
        worker, store, _, tallies = self._parts
        counts = attrs.asdict(worker.counts)
        return Reading(
            frames={name: count for name, count in counts.items() if name not in NOT_FRAMES},
            in_journal=worker.in_journal,
            messages_missing=worker.counts.missing,
            gaps_open=store.open_gaps,
            oldest_unwritten_s=worker.oldest_unwritten_s,
            lag_s=worker.lag_s,
            journal_bytes=store.bytes,
            dead_letter_bytes=store.dead_letter_bytes,
            dead_letters_collapsed=store.dead_letters_collapsed,
            dead_letters_dropped=store.dead_letters_dropped,
            is_ready=not self.troubles,
            tallies=tallies(),
        )
