"""Connections: one way to make an engine, the same session settings for everyone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from ravenwh.domain.errors import Unavailable
from ravenwh.schema import HOME_SCHEMA
from ravenwh.warehouse.errors import translated

__all__ = ["answer_of", "make_engine"]


def make_engine(
    url: str | sa.URL,
    *,
    schema: str = HOME_SCHEMA,
    password: Callable[[], str] | None = None,
    pooled: bool = True,
    connect_s: float = 10.0,
    statement_s: float | None = 60.0,
) -> AsyncEngine:
    """An engine whose statements on the models reach ``schema``.

    Sessions run in UTC and with ``search_path = public``, so that no setting of the role changes
    what a statement means. ``password`` is asked at each new connection, and so sees one that was
    changed. ``connect_s`` bounds the time for a connection, ``statement_s`` that for the answer to
    a statement, in seconds: a server that does not answer any more is away, and its connections are
    closed all the same.
    """
    from ravenwh.warehouse.connection import Connection  # the driver takes its time

    connect_args: dict[str, object] = {
        "timeout": connect_s,
        "command_timeout": statement_s,
        "connection_class": Connection,
        "server_settings": {
            "application_name": "ravenwh",
            "search_path": "public",
            "TimeZone": "UTC",
        },
    }
    if password is not None:
        connect_args["password"] = password
    engine = create_async_engine(
        url,
        connect_args=connect_args,
        **({"pool_pre_ping": False, "pool_size": 2} if pooled else {"poolclass": NullPool}),
    )
    if schema == HOME_SCHEMA:
        return engine
    return engine.execution_options(schema_translate_map={HOME_SCHEMA: schema})


async def answer_of(engine: AsyncEngine, *, within_s: float = 10.0) -> None:
    """Have the server answer. Raises Unavailable where it does not, or not in time."""
    try:
        async with asyncio.timeout(within_s):
            with translated():
                async with engine.connect() as connection:
                    await connection.execute(sa.text("SELECT 1"))
    except TimeoutError:
        raise Unavailable(f"the database has not answered for {within_s:g} s") from None
