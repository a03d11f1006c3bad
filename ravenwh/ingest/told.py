"""Which causes of dead letters the log has told of."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from loguru import logger

from ravenwh.domain.errors import RavenwhError
from ravenwh.ports import Entry

__all__ = ["Told"]

REMEMBERED = 10_000  # causes; beyond, all may be told again
LONGEST_TOPIC = 200  # bytes of a topic in a line


@attrs.frozen
class Told:
    """Tells of each cause on each topic once; the line of the batch has the count."""

    _causes: set[tuple[str, bytes, str]] = attrs.field(factory=set, init=False)

    def tell(self, letters: Sequence[tuple[Entry, RavenwhError]]) -> None:
        """One line for each new cause."""
        for (_, frame), error in letters:
            cause = (frame.feed, frame.topic[:LONGEST_TOPIC], type(error).__name__)
            if cause in self._causes:
                continue
            if len(self._causes) >= REMEMBERED:
                self._causes.clear()
            self._causes.add(cause)
            topic = cause[1].decode("utf-8", "replace")
            logger.bind(feed=frame.feed, topic=topic, reason=str(error)).warning("DEAD_LETTER")
