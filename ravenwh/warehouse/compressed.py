"""Writes into compressed chunks, beyond what TimescaleDB decompresses in one statement.

A compressed row cannot be replaced in place: the upsert first decompresses the whole compressed
batch (up to 1,000 rows of one series) that holds its key. TimescaleDB ends a statement whose
decompressed rows pass ``timescaledb.max_tuples_decompressed_per_dml_transaction``, 100,000 by
default; despite the name they are counted a statement (2.24.0, ``chunk_tuple_routing.c``). So 5,000
klines reach it when they are the same minutes of more than a hundred series, and not when they are
of a few.

The way through: each series and day in a transaction of its own, in which the limit is lifted. That
holds for any size: the limit guards against statements that decompress no one knows how much, and
of a series and day that is known and little (three compressed batches of 1m klines, 90 of 1s ones),
so that each transaction is short, however large the batch, however low the limit was set. Any role
may lift it, in its own transaction. Turning the chunk into the rowstore first takes its owner's
right and an exclusive lock, rewrites all series for the few that changed, and was hardly quicker
for a correction of every row. What was decompressed stays in the rowstore until the columnstore
policy compresses the chunk again.

No guard is needed against the bitmap heap scans under which UPDATE and DELETE miss rows of partly
compressed chunks (TimescaleDB before 2.25 on PostgreSQL 16 and older): the upsert scans no chunk,
it finds what it replaces through the unique index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from ravenwh.warehouse.errors import state_of

__all__ = ["by_series_and_day", "is_over_limit", "lift_limit"]

RowT = TypeVar("RowT")
Key = tuple[Any, ...]  # ids of the series, open_time, what else is of the key

OVER_LIMIT = "53400"  # configuration_limit_exceeded

LIFT = sa.text(
    "SELECT set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true)"
)


def is_over_limit(error: DBAPIError) -> bool:
    """Whether the statement was ended for what it would have decompressed."""
    return state_of(error) == OVER_LIMIT


async def lift_limit(connection: AsyncConnection) -> None:
    """No limit until the end of the open transaction."""
    await connection.execute(LIFT)


def by_series_and_day(rows: Mapping[Key, RowT]) -> Iterator[dict[Key, RowT]]:
    """The rows in parts of one series and UTC day, in the order of the key."""
    for _, keys in groupby(sorted(rows), key=lambda key: (key[0], key[1].date())):
        yield {key: rows[key] for key in keys}
