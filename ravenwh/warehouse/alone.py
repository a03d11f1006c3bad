"""Work that one session at a time does, on a server that several use."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["alone"]


@contextlib.asynccontextmanager
async def alone(connection: AsyncConnection, work: str, schema: str) -> AsyncIterator[bool]:
    """Whether nobody else does this work on the schema, and nobody will until the block ends.

    ``connection`` is in AUTOCOMMIT. An error inside must end the session, which gives the lock
    back.
    """
    name = {"name": f"ravenwh {work} {schema}"}
    is_alone = bool(await connection.scalar(TAKE, name))
    yield is_alone
    if is_alone:
        await connection.execute(GIVE, name)


TAKE = sa.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
GIVE = sa.text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))")
