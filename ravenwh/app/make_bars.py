"""``runners.make_bars``: TRADE of the feeds into bars, published as a raven feed."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import attrs

from ravenwh.app.collecting import feed_of, given_of
from ravenwh.app.feeds import publishing_feed
from ravenwh.app.instruments import register_of
from ravenwh.app.making import BarMaking
from ravenwh.app.work import Parts, Work, run_work
from ravenwh.domain.errors import Refused, SettingsError
from ravenwh.domain.messages import Message, Trade
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Settings
from ravenwh.features import Profile, parse_profile
from ravenwh.feed import wire
from ravenwh.feed.collecting import Collections
from ravenwh.feed.control import EVERYTHING, Changed, Collected, Collection
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.resending import resend_handlers
from ravenwh.ingest import Counts
from ravenwh.journal import MakingStore
from ravenwh.ports import Gap

__all__ = ["run_make_bars"]

LINGER_S = 1.0
"""How long subscribers have for the last bars. What they do not take is published again."""

_EPOCH = struct.Struct(">Q")


async def run_make_bars(settings: Settings, stop: asyncio.Event) -> Counts:
    """Make bars until ``stop`` is set; what became of the trades.

    Those that ended a bar are written, the others folded. Raises SettingsError where the settings
    name no profile, or no feed to publish at, Refused where a profile has other parameters than
    the chain that it is to go on with, and as :func:`~ravenwh.app.work.run_work` does.
    """
    profiles = _profiles(settings)
    given = given_of(settings, register_of(settings), "TRADE", "bars")
    endpoint = _endpoint(settings, given)
    work = Work[Trade](
        service="make_bars", data_types=frozenset({"TRADE"}), given=given, accepts=_is_trade
    )

    @asynccontextmanager
    async def behind(store: MakingStore, register: Register) -> AsyncIterator[Parts[Trade]]:
        store.max_made_bytes = settings.server.ring_bytes
        publisher = Publisher(
            endpoint=endpoint, ring_bytes=settings.server.ring_bytes, epoch=_next_epoch(store)
        )
        try:
            making = BarMaking(
                profiles=profiles,
                store=store,
                publish=publisher.publish,
                position_of=wire.position,
            )
            yield Parts(
                sink=making,
                ledger=_Unkept(),
                holding=making,
                collections=_OfBars,
                handlers=resend_handlers(publisher),
                connected=making.connected,
                beside=making.publish_again,
            )
            store.keep()
        finally:
            await publisher.close(LINGER_S)

    return await run_work(settings, work, stop, journal=MakingStore, behind=behind)


def _is_trade(message: Message) -> bool:
    return isinstance(message, Trade)


def _profiles(settings: Settings) -> Mapping[str, Profile]:
    profiles: dict[str, Profile] = {}
    problems: list[str] = []
    for name, parameters in settings.bars.profiles.items():
        try:
            profiles[name] = parse_profile(name, parameters)
        except Refused as error:
            problems.append(f"bars.profiles.{name}: {error}")
    if not settings.bars.profiles:
        problems.append("bars.profiles: found none; allowed: at least one")
    if problems:
        raise SettingsError(problems)
    return profiles


def _endpoint(settings: Settings, given: frozenset[Collection]) -> Endpoint:
    """Where to publish: at the feed of bars, which trades must not come from."""
    name = settings.bars.feed
    if name is None:
        raise SettingsError(
            ["bars.feed: found nothing; allowed: the name of a feed to publish the bars at"]
        )
    for collection in sorted(given):
        if feed_of(settings, collection) == name:
            raise SettingsError(
                [
                    f'bars.feed: found "{name}", which {collection} comes from; allowed: a feed of '
                    "its own"
                ]
            )
    return publishing_feed(settings, name, "bars.feed", "name another")


def _next_epoch(store: MakingStore) -> int:
    """An epoch that is later than all before it, though the clock was set back."""
    before = store.states().get("epoch")
    epoch = max(time.time_ns(), 1 + (_EPOCH.unpack(before)[0] if before else 0))
    store.set_state("epoch", _EPOCH.pack(epoch))
    return epoch


class _Unkept:
    """What is missing of the trades stands in the log, and in the bars (``after_gap``)."""

    async def note(self, gaps: Sequence[Gap]) -> None:
        """Nothing is kept."""

    async def repaired(self, gaps: Sequence[Gap]) -> None:
        """Nothing is kept."""


@attrs.frozen
class _OfBars:
    """Collections of trades, which are asked for as CANDLE too: subscribers of bars want those."""

    NOTE = "bars of this are made for all subscribers: stop its TRADE to end them"

    _of_trades: Collections

    async def start(self, wanted: Collection) -> Changed:
        """Take its trades, and make its bars.

        Subscribers ask at each connection: where its trades are taken already, nobody is asked.
        """
        if wanted.data_type != "CANDLE":
            return await self._of_trades.start(wanted)
        there = set((await self._of_trades.list_all()).collections)
        trades = [Collection(wanted.venue, "TRADE", s) for s in (wanted.symbol, EVERYTHING)]
        if not there.isdisjoint(trades):
            return Changed(changed=False)
        return await self._of_trades.start(trades[0])

    async def stop(self, unwanted: Collection) -> Changed:
        """Take its trades no longer; to stop its bars alone changes nothing, and says so."""
        if unwanted.data_type == "CANDLE":
            return Changed(changed=False, note=self.NOTE)
        return await self._of_trades.stop(unwanted)

    async def list_all(self) -> Collected:
        """Whose trades are taken."""
        return await self._of_trades.list_all()

    async def stop_all(self) -> Collected:
        """Take no trades any more."""
        return await self._of_trades.stop_all()
