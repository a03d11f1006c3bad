"""Publishers of feeds, told what is wanted of them as far as they take requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import attrs
from loguru import logger

from ravenwh.domain.errors import RavenwhError, Unavailable
from ravenwh.feed.control import Changed, Collection, ControlError
from ravenwh.feed.control_client import ControlClient

__all__ = ["Publishers"]

PATIENCE_S = 2.0
"""How long a publisher may take to answer while somebody waits for our answer."""

AGAIN_S = 15.0
"""How long a publisher that does not answer is left alone."""


@attrs.define(kw_only=True, eq=False)
class Publishers:
    """Tells publishers what to collect: when it changes, and after each connection.

    A publisher that was restarted knows nothing of what it was told. ``wanted`` gives the
    collections of a feed, ``is_wanted`` whether one is wanted still; ``clients`` ask the publisher
    of a feed, where it has a control endpoint.
    """

    wanted: Callable[[str], list[Collection]]
    is_wanted: Callable[[Collection], bool]
    clients: Mapping[str, ControlClient] = attrs.field(factory=dict)
    _due: set[str] = attrs.field(factory=set, init=False)
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _silent: set[str] = attrs.field(factory=set, init=False)

    def tell_soon(self, feed: str) -> None:
        """Tell the publisher of a feed all that is wanted of it, if it can be told."""
        if feed in self.clients:
            self._due.add(feed)
            self._news.set()

    async def keep_told(self) -> None:
        """Tell those that are due, until cancelled; who does not answer, after a while again."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S if self._due else None):
                    await self._news.wait()
            self._news.clear()
            for feed in sorted(self._due):
                self._due.discard(feed)
                await self._tell(feed, self.clients[feed])

    async def ask(
        self, feed: str, ask: Callable[[ControlClient], Awaitable[Changed]], away: set[str]
    ) -> str:
        """Have the publisher do the same; what it says, or why it could not be asked.

        Publishers of feeds that are ``away`` are not waited for; one that does not answer gets
        there. Raises ControlError for what it refuses.
        """
        client = self.clients.get(feed)
        if client is None or feed in away:
            return ""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return (await ask(client)).note
        except (TimeoutError, Unavailable) as error:
            away.add(feed)
            self.tell_soon(feed)
            why = str(error) or f"it has not answered for {PATIENCE_S:g} s"
            return f"the publisher was not told, and is told what is wanted when it answers: {why}"
        except ControlError as error:
            if _takes_no_requests(error):
                return ""
            raise

    async def _tell(self, feed: str, client: ControlClient) -> None:
        wanted = self.wanted(feed)
        refused: list[RavenwhError] = []
        for collection in wanted:
            if not self.is_wanted(collection):
                continue  # it was stopped meanwhile
            try:
                await client.start_collection(collection)
            except Unavailable as error:
                self._due.add(feed)
                if feed in self._silent:
                    return
                self._silent.add(feed)
                refused.append(error)
                break
            except RavenwhError as error:
                if _takes_no_requests(error):
                    break
                refused.append(error)
        if feed not in self._due:
            self._silent.discard(feed)
        if refused:
            logger.bind(
                feed=feed, refused=len(refused), of=len(wanted), reason=str(refused[0])
            ).warning("COLLECTIONS_REFUSED")


def _takes_no_requests(error: RavenwhError) -> bool:
    """Whether a publisher sends what it sends, and nobody can tell it what."""
    return isinstance(error, ControlError) and error.code == "NOT_SERVED"
