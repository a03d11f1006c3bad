"""What a runner collects: what the settings say, and what control requests changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import attrs
from loguru import logger

from ravenwh.app.instruments import OwnSymbols, What, own_symbols, symbol_of, wanted_symbols
from ravenwh.app.telling import Publishers
from ravenwh.app.wires import WIRES
from ravenwh.domain.errors import (
    RavenwhError,
    Refused,
    SettingsError,
    Unavailable,
    UnknownSymbol,
)
from ravenwh.domain.messages import DATA_TYPES, Message
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Settings
from ravenwh.domain.symbols import RULES
from ravenwh.feed import wire
from ravenwh.feed.control import EVERYTHING, Changed, Collected, Collection, ControlError
from ravenwh.feed.control_client import ControlClient
from ravenwh.feed.subscriber import ZmqSource
from ravenwh.journal import Store
from ravenwh.ports import Stream

__all__ = ["Collecting", "feed_of", "given_of", "tell_guessed", "topics_of"]

Key = tuple[str, str]  # venue, data type
Forget = Callable[[Callable[[Stream], bool]], None]

_DATA_TYPES: Mapping[type[Message], str] = {kind: name for name, kind in DATA_TYPES.items()}
_NONE: frozenset[str] = frozenset()


def given_of(
    settings: Settings, register: Register, data_type: str, what: What = "binance_klines"
) -> frozenset[Collection]:
    """What a section of the settings says to collect. Raises as ``wanted_symbols`` does."""
    return frozenset(
        Collection(venue, data_type, symbol)
        for venue, symbols in wanted_symbols(settings, register, what).items()
        for symbol in (symbols or (EVERYTHING,))
    )


def feed_of(settings: Settings, collection: Collection) -> str:
    """The feed that it comes from. Raises SettingsError where the settings name none."""
    return settings.upstream_for(collection.venue, collection.data_type).feed


def topics_of(settings: Settings, collection: Collection) -> tuple[bytes, ...]:
    """What to subscribe to for it, on the wire of its feed."""
    spoken = WIRES[settings.feeds[feed_of(settings, collection)].wire]
    symbols = None if collection.symbol == EVERYTHING else (collection.symbol,)
    return spoken.subscriptions(collection.data_type, {collection.venue: symbols})


def tell_guessed(settings: Settings, wanted: Iterable[Collection]) -> None:
    """Warn of the venues whose feed nobody named, so that the default one stands in for it."""
    for venue, data_type in sorted({(one.venue, one.data_type) for one in wanted}):
        upstream = settings.upstream_for(venue, data_type)
        if upstream.guessed:
            logger.bind(venue=venue, data_type=data_type, feed=upstream.feed).warning(
                "FEED_BY_DEFAULT"
            )


@attrs.define(kw_only=True, eq=False)
class Collecting:
    """The collections of a runner, as the source is subscribed and the journal remembers.

    ``given`` are those of the settings. What control requests add or take away is kept in the
    journal, and told to the feed's publisher where it has a control endpoint: then, and again after
    each connection, as a publisher that was restarted knows nothing of it. What was sent while
    nobody wanted it is not owed to us, so the streams of what is wanted anew are forgotten.
    ``own_symbols`` refuses symbols that can have no series, where they must.
    """

    settings: Settings
    register: Register
    journal: Store
    data_types: frozenset[str]
    given: frozenset[Collection]
    own_symbols: OwnSymbols = own_symbols
    _wanted: set[Collection] = attrs.field(init=False)
    _names: dict[Key, frozenset[str] | None] = attrs.field(factory=dict, init=False)
    _source: ZmqSource | None = attrs.field(default=None, init=False)
    _forget: Forget | None = attrs.field(default=None, init=False)
    _publishers: Publishers = attrs.field(init=False)

    @_wanted.default
    def _as_remembered(self) -> set[Collection]:
        wanted = set(self.given)
        for key, is_wanted in sorted(self.journal.collections().items()):
            collection = Collection(*key)
            if not is_wanted:
                wanted.discard(collection)
            elif collection in wanted or self._is_to_be_had(collection):
                wanted.add(collection)
        return wanted

    @_publishers.default
    def _told_what_is_wanted(self) -> Publishers:
        return Publishers(
            wanted=lambda feed: [
                one for one in sorted(self._wanted) if feed_of(self.settings, one) == feed
            ],
            is_wanted=lambda collection: collection in self._wanted,
        )

    def _is_to_be_had(self, remembered: Collection) -> bool:
        """Whether the settings still have a feed and a meaning for it; told where they do not."""
        try:
            self._streams_of([remembered])
            topics_of(self.settings, remembered)
        except RavenwhError as error:
            logger.bind(collection=str(remembered), reason=str(error)).warning(
                "COLLECTION_LEFT_OUT"
            )
            return False
        return True

    def __attrs_post_init__(self) -> None:
        """Know what to want."""
        self._learn()

    @property
    def wanted(self) -> frozenset[Collection]:
        """What is collected now."""
        return frozenset(self._wanted)

    def wants(self, message: Message) -> bool:
        """Whether the message belongs to what is collected."""
        names = self._names.get((message.venue, _DATA_TYPES[type(message)]), _NONE)
        return names is None or message.symbol in names

    def attach(
        self, source: ZmqSource, clients: Mapping[str, ControlClient], forget: Forget
    ) -> None:
        """Change the subscriptions of this source from now on, and ask these publishers.

        ``forget`` has streams forgotten: first those that the settings do not want any more.
        """
        self._source, self._publishers.clients, self._forget = source, clients, forget
        wanted = self._streams_of(self._wanted)
        forget(lambda stream: not _is_among(stream, wanted))
        for feed in clients:
            self._publishers.tell_soon(feed)

    def connected(self, feed: str) -> None:
        """A publisher may have been restarted: tell it again what is wanted."""
        self._publishers.tell_soon(feed)

    async def keep_told(self) -> None:
        """Tell publishers what is wanted of them, again and again, until cancelled."""
        await self._publishers.keep_told()

    async def start(self, wanted: Collection) -> Changed:
        """Subscribe, ask the publisher, and remember it; COIN/QUOTE is its symbol there."""
        self._require(wanted)
        wanted = self._as_the_venue_writes(wanted)
        feed, topics = self._place(wanted)
        self._names_of([wanted])  # raises for a symbol that can have no series
        note = await self._publishers.ask(
            feed, lambda client: client.start_collection(wanted), set()
        )
        is_new = wanted not in self._wanted
        if is_new and self._forget is not None:
            anew, before = self._streams_of([wanted]), self._streams_of(self._wanted)
            self._forget(lambda stream: _is_among(stream, anew) and not _is_among(stream, before))
        if is_new:
            tell_guessed(self.settings, [wanted])
        self._remember(wanted, is_wanted=True)
        for topic in topics:
            self._subscribed.subscribe(feed, topic)
        return Changed(changed=is_new, note=note)

    async def stop(self, unwanted: Collection) -> Changed:
        """Unsubscribe, ask the publisher, and remember it; COIN/QUOTE is its symbol there."""
        self._require(unwanted)
        unwanted = self._as_the_venue_writes(unwanted)
        everything = Collection(unwanted.venue, unwanted.data_type, EVERYTHING)
        if unwanted not in self._wanted:
            if everything in self._wanted:
                raise ControlError(
                    "REFUSED",
                    f"{unwanted} is a part of {everything}, which is collected as a whole: stop "
                    "that, then start the symbols that are wanted",
                )
            return Changed(changed=False)
        return Changed(changed=True, note=await self._end(unwanted, set()))

    async def list_all(self) -> Collected:
        """What is collected now."""
        return Collected(collections=tuple(sorted(self._wanted)))

    async def stop_all(self) -> Collected:
        """Collect nothing any more."""
        stopped = tuple(sorted(self._wanted))
        away = set[str]()
        notes = {await self._end(collection, away) for collection in stopped}
        return Collected(collections=stopped, note="; ".join(sorted(notes - {""})))

    async def _end(self, unwanted: Collection, away: set[str]) -> str:
        feed, topics = self._place(unwanted)
        self._remember(unwanted, is_wanted=False)  # first, so that nobody asks for it any more
        try:
            note = await self._publishers.ask(
                feed, lambda client: client.stop_collection(unwanted), away
            )
        except RavenwhError as error:  # whatever the publisher says, we need not take it
            note = f"it is not taken any more, but the publisher did not stop it: {error}"
        needed = {
            topic
            for left in self._wanted
            if feed_of(self.settings, left) == feed
            for topic in topics_of(self.settings, left)
        }
        for topic in set(topics) - needed:
            self._subscribed.unsubscribe(feed, topic)
        return note

    @property
    def _subscribed(self) -> ZmqSource:
        if self._source is None:
            raise Unavailable("the runner is not subscribed yet; ask again")
        return self._source

    def _require(self, asked: Collection) -> None:
        if asked.data_type not in self.data_types:
            allowed = ", ".join(sorted(self.data_types))
            raise ControlError(
                "UNKNOWN_DATA_TYPE",
                f"data_type: found {asked.data_type}, this runner collects {allowed}",
            )

    def _as_the_venue_writes(self, asked: Collection) -> Collection:
        """The same with the venue's symbol. Raises ControlError and UnknownSymbol.

        What is collected already is itself, however it is written: so it can be stopped. Indices
        have names of their own, which the rule of their venue need not read; and a venue that only
        the settings name has no rule.
        """
        if asked in self._wanted:
            return asked
        venue, symbol = asked.venue, asked.symbol
        known = self._known_venues()
        if venue not in known:
            raise ControlError(
                "UNKNOWN_VENUE",
                f"venue: found {wire.shown(venue)}, allowed are {', '.join(sorted(known))}, and "
                'others once the settings name them, as in routing.upstreams."VENUE:DATA_TYPE"',
            )
        if symbol == EVERYTHING:
            return asked
        try:
            self.register.resolve(venue, symbol)
        except UnknownSymbol:
            is_pair, is_index = "/" in symbol, asked.data_type == "PRICE_INDEX"
            if is_pair and not is_index:
                name = symbol_of(venue, symbol, self.register)
                return Collection(venue, asked.data_type, name)
            if is_pair or (venue in RULES and not is_index):
                raise
        return asked

    def _known_venues(self) -> set[str]:
        """Those with a rule, and those that the settings name, or that are collected."""
        named = (key.partition(":")[0] for key in self.settings.routing.upstreams)
        return {
            *RULES,
            *(listed.exchange for listed in self.register.listings),
            *(venue for venue in named if venue != "default"),
            *(one.venue for one in self.given | self._wanted),
        }

    def _place(self, collection: Collection) -> tuple[str, tuple[bytes, ...]]:
        """The feed, which must be open, and the topics there."""
        try:
            feed = feed_of(self.settings, collection)
            topics = topics_of(self.settings, collection)
        except SettingsError as error:
            raise ControlError("UNKNOWN_VENUE", str(error)) from None
        if feed not in self._subscribed.addresses:
            open_now = ", ".join(sorted(self._subscribed.addresses))
            raise Refused(
                f"{collection} comes from feed {feed}, and this runner has only {open_now} open: "
                "name it in the settings and restart"
            )
        return feed, topics

    def _remember(self, collection: Collection, *, is_wanted: bool) -> None:
        (self._wanted.add if is_wanted else self._wanted.discard)(collection)
        as_given = (collection in self.given) == is_wanted
        self.journal.set_collection(
            collection.venue,
            collection.data_type,
            collection.symbol,
            wanted=None if as_given else is_wanted,
        )
        self._learn()

    def _learn(self) -> None:
        self._names = self._names_of(self._wanted)

    def _streams_of(self, wanted: Iterable[Collection]) -> dict[str, tuple[bytes, ...]]:
        """What the streams of these begin with, by feed: those of numbers and of cadence alike.

        Raises as a start does.
        """
        found: dict[str, set[bytes]] = defaultdict(set)
        for one in wanted:
            symbols = None if one.symbol == EVERYTHING else (one.symbol,)
            names = self.own_symbols({one.venue: symbols}, self.register)
            found[feed_of(self.settings, one)].update(wire.subscriptions(one.data_type, names))
        return {feed: tuple(starts) for feed, starts in found.items()}

    def _names_of(self, wanted: Iterable[Collection]) -> dict[Key, frozenset[str] | None]:
        """The symbols as messages name them, by venue and data type; None for all."""
        names: dict[Key, frozenset[str] | None] = {}
        for collection in wanted:
            key = (collection.venue, collection.data_type)
            if collection.symbol == EVERYTHING:
                names[key] = None
            elif (known := names.get(key, frozenset())) is not None:
                more = self.own_symbols({key[0]: (collection.symbol,)}, self.register)[key[0]]
                names[key] = known | (more or frozenset())
        return names


def _is_among(stream: Stream, starts: Mapping[str, tuple[bytes, ...]]) -> bool:
    feed, name = stream
    return name.startswith(starts.get(feed, ()))
