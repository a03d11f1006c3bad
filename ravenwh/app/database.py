"""Where the warehouse is: the server of the settings, or the embedded one while it is needed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.errors import RavenwhError
from ravenwh.domain.settings import Settings
from ravenwh.embedded import EmbeddedPostgres, default_root
from ravenwh.warehouse.engine import make_engine

__all__ = ["Database", "database_of", "embedded_of", "engine_of", "engine_on"]


def embedded_of(settings: Settings) -> EmbeddedPostgres:
    """The embedded server of the settings, not started."""
    own = settings.embedded
    return EmbeddedPostgres(root=own.data_dir or default_root(), bin_dir=own.bin_dir, port=own.port)


@attrs.frozen(kw_only=True)
class Database:
    """The database of the settings while it is needed: its address, and how to bring it back."""

    url: str
    libpq_url: str
    embedded: EmbeddedPostgres | None = None

    async def revive(self) -> None:
        """Start the embedded server again if it was killed; what is another's is left to it."""
        if self.embedded is not None:
            with contextlib.suppress(RavenwhError):  # it is tried again with the next batch
                await asyncio.to_thread(self.embedded.start)


@contextlib.contextmanager
def database_of(settings: Settings) -> Iterator[Database]:
    """The database of the settings; the embedded one runs meanwhile."""
    timescale = settings.timescale
    if not timescale.url.embedded:
        yield Database(url=timescale.address(), libpq_url=timescale.address(driver="postgresql"))
        return
    with embedded_of(settings) as server:
        yield Database(url=server.url, libpq_url=server.libpq_url, embedded=server)


@contextlib.asynccontextmanager
async def engine_on(
    database: Database,
    settings: Settings,
    *,
    schema: str | None = None,
    pooled: bool = True,
    connect_s: float = 10.0,
    statement_s: float | None = 60.0,
) -> AsyncIterator[AsyncEngine]:
    """An engine on the mart of the settings; closed at the end.

    ``schema`` is where statements on the models go, if not to the schema of the settings.
    """
    secret = settings.timescale.password
    engine = make_engine(
        database.url,
        schema=settings.timescale.schema if schema is None else schema,
        password=None if secret is None else secret.reveal,
        pooled=pooled,
        connect_s=connect_s,
        statement_s=statement_s,
    )
    try:
        yield engine
    finally:
        await engine.dispose()


@contextlib.asynccontextmanager
async def engine_of(settings: Settings, **options: Any) -> AsyncIterator[AsyncEngine]:
    """The same, with the database for as long as the engine."""
    with database_of(settings) as database:
        async with engine_on(database, settings, **options) as engine:
            yield engine
