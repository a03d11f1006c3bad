"""The mart's ledger of gaps, for a runner that has no other business with the mart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
from loguru import logger

from ravenwh.app.database import database_of, engine_on
from ravenwh.domain.errors import RavenwhError, Unavailable
from ravenwh.domain.settings import Settings
from ravenwh.ports import Gap
from ravenwh.warehouse.gaps import FeedGaps

__all__ = ["MartGaps", "mart_gaps"]


@asynccontextmanager
async def mart_gaps(settings: Settings) -> AsyncIterator[MartGaps]:
    """The ledger during the block."""
    async with AsyncExitStack() as stack:
        yield MartGaps(settings=settings, stack=stack)


@attrs.define(kw_only=True)
class MartGaps:
    """``ops__feed_gap``, where all gaps stand; a GapLedger.

    The database is not looked for before there is a gap to note, and whatever is wrong with it, no
    table among that, is Unavailable: gaps wait in the journal, and nothing else waits for them.
    """

    settings: Settings
    stack: AsyncExitStack
    _ledger: FeedGaps | None = attrs.field(default=None, init=False)
    _is_told: bool = attrs.field(default=False, init=False)

    async def note(self, gaps: Sequence[Gap]) -> None:
        """Keep the gaps. Raises Unavailable."""
        await self._tried(lambda ledger: ledger.note(gaps))

    async def repaired(self, gaps: Sequence[Gap]) -> None:
        """Mark those that are kept. Raises Unavailable."""
        await self._tried(lambda ledger: ledger.repaired(gaps))

    async def _tried(self, action: Callable[[FeedGaps], Awaitable[None]]) -> None:
        try:
            await action(await self._opened())
        except RavenwhError as error:
            if not self._is_told:
                self._is_told = True
                logger.bind(reason=str(error)).warning("GAPS_WAIT")
            raise Unavailable(f"gaps cannot be noted: {error}") from error
        self._is_told = False

    async def _opened(self) -> FeedGaps:
        if self._ledger is None:
            database = await asyncio.to_thread(self.stack.enter_context, database_of(self.settings))
            engine = await self.stack.enter_async_context(engine_on(database, self.settings))
            self._ledger = FeedGaps(engine=engine)
        return self._ledger
