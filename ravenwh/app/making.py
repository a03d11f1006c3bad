"""Bars made of trades: what ``runners.make_bars`` does between its journal and its socket."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import attrs
import msgspec
from loguru import logger

from ravenwh.domain.messages import Candle, Trade
from ravenwh.features import Profile, to_candle
from ravenwh.features.maker import Maker
from ravenwh.ingest.order import Before, InOrder, Place, Taken
from ravenwh.journal import MakingStore, Progress
from ravenwh.ports import Entry, Frame, Gap, Position, Stream, WriteResult

__all__ = ["PRODUCER", "BarMaking"]

PRODUCER = "make_bars"

KEEP_EVERY_S = 10.0
"""How often the states are kept. After a kill, the trades since then are made into bars again."""

PATIENCE_S = 60.0
"""How long trades are held for one before them, while its publisher does not answer."""

AHEAD_NS = 86_400_000_000_000
"""A trade further than this after its arrival is wrong, and no bar may take its time."""

MOST_SYMBOLS = 65_536
"""Symbols that bars are made of; trades of others are passed over."""

Key = tuple[str, str]  # venue, symbol
OTHERS: Key = ("", "")  # symbols beyond those

_SEEN = "seen"
_decode_candles = msgspec.msgpack.Decoder(list[Candle]).decode
_decode_place = msgspec.msgpack.Decoder(Place).decode
_encode = msgspec.msgpack.Encoder().encode


@attrs.define(kw_only=True, eq=False)
class BarMaking:
    """Takes trades in the order of their numbers, and publishes the bars that they end.

    It is the Holding, the Sink and the Making of a worker and its journal. A trade is taken when it
    is offered and none before it may still come; it is written when the bars that it ended are
    published.

    Raises Refused where a profile has other parameters than the chain that is to go on.
    """

    profiles: Mapping[str, Profile]
    store: MakingStore
    publish: Callable[[Candle], Awaitable[None]]
    position_of: Callable[[Frame], Position | None]
    _order: InOrder[Trade] = attrs.field(init=False)
    _makers: dict[Key, Maker] = attrs.field(factory=dict, init=False)
    _seen: int = attrs.field(default=0, init=False)
    """The last entry of the journal that the makers have in them."""
    _kept_before: float = attrs.field(factory=time.monotonic, init=False)
    _changed: set[Key] = attrs.field(factory=set, init=False)
    _moved: set[Stream] = attrs.field(factory=set, init=False)
    _is_to_be_kept: bool = attrs.field(default=False, init=False)
    _bars: deque[Candle] = attrs.field(factory=deque, init=False)
    _made: list[Candle] = attrs.field(factory=list, init=False)
    _ended: int = attrs.field(default=0, init=False)
    _began: int = attrs.field(factory=time.time_ns, init=False)
    _cuts: dict[str, int] = attrs.field(factory=dict, init=False)
    _cut_of: dict[Key, int] = attrs.field(factory=dict, init=False)
    _beyond: Counter[Key] = attrs.field(factory=Counter, init=False)
    _told: dict[Key, Mapping[str, int]] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        """Go on from what was kept."""
        places: dict[Stream, Place] = {}
        for name, body in self.store.states().items():
            kind, *parts = name.split(" ", 2)
            if kind == "maker":
                key = (parts[0], parts[1])
                self._makers[key] = Maker.restored(self.profiles, body)
                self._told[key] = self._counts(key)
            elif kind == "place":
                places[parts[0], bytes.fromhex(parts[1])] = _decode_place(body)
            elif kind == _SEEN:
                self._seen = int(body)
        self._order = InOrder(places, position_of=self.position_of, open_gaps=self._open_gaps)
        self.store.attach(self)

    def __len__(self) -> int:
        """How many trades are held."""
        return len(self._order)

    def connected(self, feed: str) -> None:
        """A way to the feed's publisher begins: what has no numbers may lack trades since."""
        self._cuts[feed] = time.time_ns()

    async def publish_again(self) -> None:
        """Publish what was made last, which subscribers may not have received before we ended."""
        for body in self.store.made():
            for candle in _decode_candles(body):
                await self.publish(candle)

    def offer(self, entry: Entry, trade: Trade, /) -> tuple[list[tuple[Entry, Trade]], int]:
        """Take a trade, or hold it until its turn; what was taken, and how many passed over."""
        number, frame = entry
        if number <= self._seen and self.position_of(frame) is None:
            return [], 1  # an operator had it worked off again: it is in a bar
        held = len(self._order)
        taken = self._order.offer(entry, trade)
        self._seen = max(self._seen, number)
        if not taken and len(self._order) == held:
            return [], 1
        return self._make(taken), 0

    def passed(self, is_end: bool, /) -> list[tuple[Entry, Trade]]:
        """Take what was held for trades that do not come any more."""
        if not is_end:
            return []
        taken = self._order.settle()
        self._is_to_be_kept = self._is_to_be_kept or bool(taken)
        return self._make(taken)

    @property
    def is_waiting(self) -> bool:
        """Whether trades are held for others."""
        return len(self._order) > 0

    def held(self) -> list[Entry]:
        """The entries of the trades that are held."""
        return self._order.held()

    async def write(self, messages: Sequence[Trade]) -> WriteResult:
        """Publish the bars that were ended; of the trades, those that ended one are written.

        What the journal does not tell is kept before: that trades were given up, which after a kill
        must not be waited for again, as what comes late would make other bars than those that were
        published; and that a connection was made anew.
        """
        if self._is_to_be_kept:
            self.store.keep()
            self._is_to_be_kept = False
        while self._bars:
            await self.publish(self._bars[0])
            self._bars.popleft()
        ended, self._ended = self._ended, 0
        return WriteResult(written=ended, folded=len(messages) - ended)

    def is_due(self) -> bool:
        """Whether it is time to keep the states."""
        return time.monotonic() - self._kept_before >= KEEP_EVERY_S

    def progress(self) -> Progress:
        """The states that changed, and the bars that were made."""
        states = {f"maker {' '.join(key)}": self._makers[key].save() for key in self._changed}
        for feed, topic in self._moved:
            place = self._order.place((feed, topic))
            if place is not None:
                states[f"place {feed} {topic.hex()}"] = _encode(place)
        states[_SEEN] = str(self._seen).encode()
        return Progress(states=states, made=_encode(self._made) if self._made else None)

    def kept(self) -> None:
        """They are in the journal."""
        self._tell_odd()
        self._changed.clear()
        self._moved.clear()
        self._made.clear()
        self._kept_before = time.monotonic()

    def _make(self, taken: Iterable[Taken[Trade]]) -> list[tuple[Entry, Trade]]:
        """Take trades, in their turn."""
        made = []
        for entry, trade, before in taken:
            self._take(entry[1], trade, before)
            made.append((entry, trade))
        return made

    def _take(self, frame: Frame, trade: Trade, before: Before) -> None:
        key = (trade.venue, trade.symbol)
        maker = self._maker(key)
        self._moved.add((frame.feed, frame.topic))
        if maker is None or trade.event_time > frame.received_at + AHEAD_NS:
            self._beyond[key if maker is not None else OTHERS] += 1
            return
        self._changed.add(key)
        if before is Before.GAP:
            self._is_to_be_kept = True
            maker.note_gap()
        elif before is Before.RESTART:
            maker.note_restart()
        elif self._is_after_cut(frame, key):
            self._is_to_be_kept = True
            maker.note_restart()
        bars = maker.push(trade)
        self._ended += bool(bars)
        for name, bar in bars:
            candle = to_candle(
                bar,
                profile=self.profiles[name],
                name=name,
                venue=trade.venue,
                symbol=trade.symbol,
                producer=PRODUCER,
            )
            self._bars.append(candle)
            self._made.append(candle)

    def _is_after_cut(self, frame: Frame, key: Key) -> bool:
        """Whether it has no number, and is a symbol's first since the way to its feed was made."""
        cut = self._cuts.get(frame.feed, self._began)
        is_first = self._cut_of.get(key, 0) < cut <= frame.received_at
        if not is_first or self.position_of(frame) is not None:
            return False
        self._cut_of[key] = cut
        return True

    def _counts(self, key: Key) -> dict[str, int]:
        """Trades of a symbol that are in no bar, and why; and those that came late."""
        maker = self._makers.get(key)
        counts = {} if maker is None else maker.counts
        names = ("invalid", "duplicate", "repeated", "late")
        return {name: counts.get(name, 0) for name in names} | {"beyond": self._beyond[key]}

    def _tell_odd(self) -> None:
        for key in sorted(self._changed | self._beyond.keys()):
            now, before = self._counts(key), self._told.get(key, {})
            if now != before:
                self._told[key] = now
                new = {name: count - before.get(name, 0) for name, count in now.items()}
                line = logger.bind(venue=key[0], symbol=key[1])
                if late := new.pop("late"):
                    line.bind(trades=late).info("TRADES_LATE")
                if any(new.values()):
                    line.bind(**new).warning("TRADES_PASSED_OVER")

    def _open_gaps(self) -> list[Gap]:
        """The gaps whose trades may still come."""
        oldest = time.time_ns() - int(PATIENCE_S * 1e9)
        return [gap for _, gap in self.store.gaps() if gap.detected_at > oldest]

    def _maker(self, key: Key) -> Maker | None:
        maker = self._makers.get(key)
        if maker is None and len(self._makers) < MOST_SYMBOLS:
            maker = self._makers[key] = Maker(self.profiles)
        return maker
