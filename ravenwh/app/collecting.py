"""What a runner collects: what the settings say, and what control requests changed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping

import attrs
from loguru import logger

from ravenwh.app.instruments import What, own_symbols, wanted_symbols
from ravenwh.app.wires import WIRES
from ravenwh.domain.errors import RavenwhError, Refused, SettingsError, Unavailable
from ravenwh.domain.messages import Message
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Settings
from ravenwh.feed import wire
from ravenwh.feed.control import EVERYTHING, Changed, Collected, Collection, ControlError
from ravenwh.feed.control_client import ControlClient
from ravenwh.feed.subscriber import ZmqSource
from ravenwh.journal import Store
from ravenwh.ports import Stream

__all__ = ["Collecting", "feed_of", "given_of", "topics_of"]

Key = tuple[str, str]  # venue, data type
Forget = Callable[[Callable[[Stream], bool]], None]


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


@attrs.define(kw_only=True, eq=False)
class Collecting:
    """The collections of a runner, as the source is subscribed and the journal remembers.

    ``given`` are those of the settings. What control requests add or take away is kept in the
    journal, and told to the feed's publisher where it has a control endpoint: then, and again after
    each connection, as a publisher that was restarted knows nothing of it. What was sent while
    nobody wanted it is not owed to us, so the streams of what is wanted anew are forgotten.
    """

    settings: Settings
    register: Register
    journal: Store
    data_types: frozenset[str]
    given: frozenset[Collection]
    _wanted: set[Collection] = attrs.field(init=False)
    _names: dict[Key, frozenset[str] | None] = attrs.field(factory=dict, init=False)
    _source: ZmqSource | None = attrs.field(default=None, init=False)
    _forget: Forget | None = attrs.field(default=None, init=False)
    _clients: Mapping[str, ControlClient] = attrs.field(factory=dict, init=False)
    _connected: set[str] = attrs.field(factory=set, init=False)
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

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
        names = self._names.get(
            (message.venue, str(message.__struct_config__.tag)), frozenset[str]()
        )
        return names is None or message.symbol in names

    def attach(
        self, source: ZmqSource, clients: Mapping[str, ControlClient], forget: Forget
    ) -> None:
        """Change the subscriptions of this source from now on, and ask these publishers.

        ``forget`` has streams forgotten: first those that the settings do not want any more.
        """
        self._source, self._clients, self._forget = source, clients, forget
        wanted = self._streams_of(self._wanted)
        forget(lambda stream: not _is_among(stream, wanted))
        self._connected.update(clients)
        self._news.set()

    def connected(self, feed: str) -> None:
        """A publisher may have been restarted: tell it again what is wanted."""
        if feed in self._clients:
            self._connected.add(feed)
            self._news.set()

    async def keep_told(self) -> None:
        """Tell publishers what is wanted of them, after each connection, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._connected:
                feed = self._connected.pop()
                await self._tell(feed, self._clients[feed])

    async def _tell(self, feed: str, client: ControlClient) -> None:
        refused: list[RavenwhError] = []
        wanted = [c for c in sorted(self._wanted) if feed_of(self.settings, c) == feed]
        for collection in wanted:
            try:
                await client.start_collection(collection)
            except Unavailable as error:
                refused.append(error)
                break  # it is told after the next connection
            except RavenwhError as error:
                if _takes_no_requests(error):
                    break
                refused.append(error)
        if refused:
            logger.bind(
                feed=feed, refused=len(refused), of=len(wanted), reason=str(refused[0])
            ).warning("COLLECTIONS_REFUSED")

    async def start(self, wanted: Collection) -> Changed:
        """Subscribe, ask the publisher, and remember it."""
        self._require(wanted)
        feed, topics = self._place(wanted)
        self._names_of([wanted])  # raises for a symbol that can have no series
        note = await self._ask(feed, lambda client: client.start_collection(wanted))
        is_new = wanted not in self._wanted
        if is_new and self._forget is not None:
            anew, before = self._streams_of([wanted]), self._streams_of(self._wanted)
            self._forget(lambda stream: _is_among(stream, anew) and not _is_among(stream, before))
        self._remember(wanted, is_wanted=True)
        for topic in topics:
            self._subscribed.subscribe(feed, topic)
        return Changed(changed=is_new, note=note)

    async def stop(self, unwanted: Collection) -> Changed:
        """Unsubscribe, ask the publisher, and remember it."""
        self._require(unwanted)
        everything = Collection(unwanted.venue, unwanted.data_type, EVERYTHING)
        if unwanted not in self._wanted:
            if everything in self._wanted:
                raise ControlError(
                    "REFUSED",
                    f"{unwanted} is a part of {everything}, which is collected as a whole: stop "
                    "that, then start the symbols that are wanted",
                )
            return Changed(changed=False)
        return Changed(changed=True, note=await self._end(unwanted))

    async def list_all(self) -> Collected:
        """What is collected now."""
        return Collected(collections=tuple(sorted(self._wanted)))

    async def stop_all(self) -> Collected:
        """Collect nothing any more."""
        stopped = tuple(sorted(self._wanted))
        notes = {await self._end(collection) for collection in stopped}
        return Collected(collections=stopped, note="; ".join(sorted(notes - {""})))

    async def _end(self, unwanted: Collection) -> str:
        feed, topics = self._place(unwanted)
        try:
            note = await self._ask(feed, lambda client: client.stop_collection(unwanted))
        except RavenwhError as error:  # whatever the publisher says, we need not take it
            note = f"it is not taken any more, but the publisher did not stop it: {error}"
        self._remember(unwanted, is_wanted=False)
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

    async def _ask(self, feed: str, ask: Callable[[ControlClient], Awaitable[Changed]]) -> str:
        """Have the publisher do the same; what it says, or why it could not be asked."""
        client = self._clients.get(feed)
        if client is None:
            return ""
        try:
            return (await ask(client)).note
        except Unavailable as error:
            self._connected.add(feed)
            return f"the publisher was not asked, and is asked after the next connection: {error}"
        except ControlError as error:
            if _takes_no_requests(error):
                return ""
            raise

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
            names = own_symbols({one.venue: symbols}, self.register)
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
                more = own_symbols({key[0]: (collection.symbol,)}, self.register)[key[0]]
                names[key] = known | (more or frozenset())
        return names


def _is_among(stream: Stream, starts: Mapping[str, tuple[bytes, ...]]) -> bool:
    feed, name = stream
    return name.startswith(starts.get(feed, ()))


def _takes_no_requests(error: RavenwhError) -> bool:
    """Whether a publisher sends what it sends, and nobody can tell it what."""
    return isinstance(error, ControlError) and error.code == "NOT_SERVED"
