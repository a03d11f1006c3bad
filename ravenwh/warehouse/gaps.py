"""The ledger of what never came: ``ops__feed_gap``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.series import from_ns
from ravenwh.ports import Gap
from ravenwh.schema import FEED_GAPS
from ravenwh.warehouse.errors import translated

__all__ = ["FeedGaps"]

LONGEST = 400  # characters of a topic, which an index takes whatever they are
LARGEST = 2**63 - 1

KEY = ("feed", "topic", "epoch", "first_seq", "start_time")
"""What tells two gaps apart: the columns of the table's unique constraint, nulls being equal."""


@attrs.frozen(kw_only=True)
class FeedGaps:
    """Keeps each gap once, however often it is told."""

    engine: AsyncEngine

    async def note(self, gaps: Sequence[Gap]) -> None:
        """Keep the gaps, as they are known now. Raises Unavailable."""
        statement = insert(FEED_GAPS)
        known_now = {
            name: statement.excluded[name] for name in ("last_seq", "end_time", "missing", "reason")
        }
        await self._execute(
            statement.on_conflict_do_update(
                index_elements=list(KEY), set_=known_now | {"repaired_at": None}
            ),
            [_row(gap) for gap in gaps],
        )

    async def repaired(self, gaps: Sequence[Gap]) -> None:
        """Mark those that are kept. Raises Unavailable."""
        statement = (
            sa.update(FEED_GAPS)
            .where(
                *(
                    FEED_GAPS.c[name].is_not_distinct_from(
                        sa.bindparam(f"key_{name}", type_=FEED_GAPS.c[name].type)
                    )
                    for name in KEY
                )
            )
            .values(repaired_at=sa.bindparam("repaired_at"))
        )
        rows = [_row(gap) for gap in gaps]
        await self._execute(
            statement,
            [
                {f"key_{name}": row[name] for name in KEY} | {"repaired_at": row["repaired_at"]}
                for row in rows
            ],
        )

    async def _execute(self, statement: sa.Executable, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        with translated():
            async with self.engine.begin() as connection:
                await connection.execute(statement, rows)


def _row(gap: Gap) -> dict[str, Any]:
    row: dict[str, Any] = attrs.asdict(gap)
    row["topic"] = _text(gap.topic)
    row["missing"] = None if gap.missing is None else min(gap.missing, LARGEST)
    for name in ("start_time", "end_time", "detected_at", "repaired_at"):
        row[name] = None if row[name] is None else from_ns(row[name])
    return row


def _text(topic: bytes) -> str:
    """A topic as the table and its index take it.

    What is not UTF-8, or no text, is shown by escapes; what is too long for any name is cut, and
    told apart by a checksum.
    """
    text = topic.decode("utf-8", "backslashreplace").rstrip(" ").replace("\x00", "\\x00")
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]} ({len(topic)} bytes, {crc32(topic):08x})"
