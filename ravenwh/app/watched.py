"""A runner as its health pages show it."""

from __future__ import annotations

from typing import Any

import attrs

from ravenwh.ingest import Worker
from ravenwh.journal import Store
from ravenwh.telemetry.metrics import Reading

__all__ = ["Watched"]

NOT_FRAMES = frozenset({"missing"})
"""What the counts hold beside frames by what became of them."""


@attrs.define
class Watched:
    """What can be told of a runner: before its worker is there, only what it waits for."""

    waiting_for: str = "the database and the journal are being opened"
    _parts: tuple[Worker[Any], Store] | None = attrs.field(default=None, init=False)

    def follow(self, worker: Worker[Any], store: Store) -> None:
        """From now on tell of these."""
        self._parts = (worker, store)

    @property
    def troubles(self) -> list[str]:
        """Why it cannot do its work now; nothing where it can."""
        if self._parts is None:
            return [f"starting: {self.waiting_for}"]
        worker, _ = self._parts
        return worker.troubles

    def reading(self) -> Reading | None:
        """Its state at this moment; None before there is one."""
        if self._parts is None:
            return None
        worker, store = self._parts
        counts = attrs.asdict(worker.counts)
        return Reading(
            frames={name: count for name, count in counts.items() if name not in NOT_FRAMES},
            in_journal=worker.in_journal,
            messages_missing=worker.counts.missing,
            gaps_open=len(store.gaps()),
            oldest_unwritten_s=worker.oldest_unwritten_s,
            lag_s=worker.lag_s,
            journal_bytes=store.bytes,
            dead_letter_bytes=store.dead_letter_bytes,
            is_ready=not worker.troubles,
        )
