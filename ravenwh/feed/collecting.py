"""What is collected, and how requests change it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ravenwh.feed.control import (
    EVERYTHING,
    Changed,
    Collected,
    Collection,
    ControlError,
    ListCollections,
    Served,
    StartCollection,
    StopAllCollections,
    StopCollection,
)
from ravenwh.feed.control_server import Handlers
from ravenwh.feed.wire import shown

__all__ = ["Collections", "Fixed", "collection_handlers"]


class Collections(Protocol):
    """The collections of a runner or publisher, as requests change them.

    One request is done at a time. Raises ControlError where a venue, data type or symbol is not to
    be had here, Unavailable where it may be later, Refused for what may not be done.
    """

    async def start(self, wanted: Collection) -> Changed:
        """Collect it from now on, also after a restart. May be repeated."""
        ...

    async def stop(self, unwanted: Collection) -> Changed:
        """Collect it no longer, also after a restart. May be repeated."""
        ...

    async def list_all(self) -> Collected:
        """What is collected."""
        ...

    async def stop_all(self) -> Collected:
        """Collect nothing any more; what was collected."""
        ...


def collection_handlers(collections: Collections) -> Handlers:
    """What a ControlServer answers about collections."""

    async def start(request: StartCollection) -> Served:
        return await collections.start(request.collection), ()

    async def stop(request: StopCollection) -> Served:
        return await collections.stop(request.collection), ()

    async def list_all(_: ListCollections) -> Served:
        return await collections.list_all(), ()

    async def stop_all(_: StopAllCollections) -> Served:
        return await collections.stop_all(), ()

    return {
        StartCollection: start,
        StopCollection: stop,
        ListCollections: list_all,
        StopAllCollections: stop_all,
    }


class Fixed:
    """The collections of a publisher that sends all it has, whatever is asked of it.

    To start one that there is changes nothing. To stop one changes nothing either, and the answer
    says so: other subscribers may want it, and to the one who asked it need not be sent.
    """

    NOTE = "this publisher sends all that it has: nothing was changed"

    def __init__(self, collections: Iterable[Collection]) -> None:
        self._collections = tuple(sorted(set(collections)))

    async def start(self, wanted: Collection) -> Changed:
        """Nothing to be done, if there is such a one. Raises ControlError if not."""
        self._require(wanted)
        return Changed(changed=False, note=self.NOTE)

    async def stop(self, unwanted: Collection) -> Changed:
        """Nothing is done, if there is such a one. Raises ControlError if not."""
        self._require(unwanted)
        return Changed(changed=False, note=self.NOTE)

    async def list_all(self) -> Collected:
        """All that is sent."""
        return Collected(collections=self._collections)

    async def stop_all(self) -> Collected:
        """None was stopped."""
        return Collected(collections=(), note=self.NOTE)

    def _require(self, asked: Collection) -> None:
        left = self._collections
        venues = {one.venue for one in left}
        if asked.venue not in venues:
            raise ControlError("UNKNOWN_VENUE", _here("venue", asked.venue, venues))
        left = tuple(one for one in left if one.venue == asked.venue)
        types = {one.data_type for one in left}
        if asked.data_type not in types:
            raise ControlError("UNKNOWN_DATA_TYPE", _here("data_type", asked.data_type, types))
        symbols = {one.symbol for one in left if one.data_type == asked.data_type}
        if asked.symbol not in symbols | {EVERYTHING}:
            raise ControlError("UNKNOWN_SYMBOL", _here("symbol", asked.symbol, symbols))


def _here(what: str, found: str, allowed: set[str]) -> str:
    names = ", ".join(sorted(allowed)[:20])
    more = ", ..." if len(allowed) > 20 else ""
    return f"{what}: found {shown(found)}, allowed here are {names}{more}"
