"""Bars made of a journal of trades: the same ones after any kill, in any order of arrival."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger

from ravenwh.app import making
from ravenwh.app.making import BarMaking
from ravenwh.domain.errors import Refused
from ravenwh.domain.messages import Candle, Trade
from ravenwh.features import Chain, Profile, TickImbalance, TickRun, Vpin, to_candle
from ravenwh.feed import wire
from ravenwh.ingest.sequences import Sequences
from ravenwh.journal import MakingStore, Redo
from ravenwh.journal.redo import PutBack
from ravenwh.ports import Entry, Frame, WriteResult
from tests.features.streams import random_trades, trade

PROFILES: dict[str, Profile] = {
    "tib_a": TickImbalance(expected_ticks=12, span=4),
    "trb_a": TickRun(expected_ticks=7),
    "vpin_a": Vpin(bucket_volume=5.0, slices=3, buckets=4),
}
Key = tuple[str, str, int, int]


def frame_of(one: Trade, epoch: int, seq: int, *, feed: str = "f") -> Frame:
    """A frame of the raven wire, or, without a number, as one of a wire that has none."""
    topic, payload = wire.encode(one)
    return Frame(feed, topic, wire.header(epoch, seq) if seq else b"", payload, time.time_ns())


def decoded(frame: Frame) -> Trade:
    message = msgspec.msgpack.decode(frame.payload, type=Trade)
    assert isinstance(message, Trade)
    return message


def bars_of(trades: Iterable[Trade]) -> dict[Key, Candle]:
    """The bars of the trades in their order, each chain alone."""
    found = {}
    for name, profile in PROFILES.items():
        chain = Chain(profile)
        for one in trades:
            bar = chain.push(one)
            if bar is not None:
                candle = to_candle(
                    bar,
                    profile=profile,
                    name=name,
                    venue=one.venue,
                    symbol=one.symbol,
                    producer=making.PRODUCER,
                )
                found[key_of(candle)] = candle
    return found


def key_of(candle: Candle) -> Key:
    return candle.interval, candle.symbol, candle.open_time, candle.bar_seq


@attrs.define
class Stand:
    """A making at work on a journal, as a worker has it at work; it may be killed at any time."""

    path: Path
    profiles: dict[str, Profile] = attrs.field(factory=lambda: PROFILES)
    store: MakingStore = attrs.field(init=False)
    making: BarMaking = attrs.field(init=False)
    sequences: Sequences = attrs.field(init=False)
    received: dict[Key, Candle] = attrs.field(factory=dict)
    """What a subscriber has that was there since the last start."""
    ever: dict[Key, Candle] = attrs.field(factory=dict)
    counted: WriteResult = attrs.field(factory=WriteResult)
    cursor: int = 0
    batch: list[Trade] = attrs.field(factory=list)
    held: list[Entry] = attrs.field(factory=list)

    async def publish(self, candle: Candle) -> None:
        """A subscriber receives it; what comes again is the same."""
        key = key_of(candle)
        assert self.ever.setdefault(key, candle) == candle
        self.received[key] = candle

    async def start(self) -> None:
        """Begin, and take up what an earlier run left."""
        self.store = MakingStore(self.path, keep_s=3600)
        self.making = BarMaking(
            profiles=self.profiles,
            store=self.store,
            publish=self.publish,
            position_of=wire.position,
        )
        self.sequences = Sequences(self.store.positions(), position_of=wire.position)
        self.received, self.batch = {}, []
        await self.making.publish_again()
        self.cursor = self.store.acknowledged
        for entry in self.store.held():
            self._offer(entry)

    def kill(self) -> None:
        """End without a word."""
        self.store.close()

    def arrive(self, *frames: Frame) -> None:
        """Journal frames, with the gaps that they show."""
        seen = self.sequences.look(frames)
        self.store.append(frames, positions=seen.positions, gaps=seen.gaps)
        self.sequences.follow(seen.positions)

    def repaired(self) -> None:
        """What is missing does not come any more."""
        self.store.settle_gaps([number for number, _ in self.store.gaps()])

    def take(self, limit: int = 10**6) -> None:
        """Read on in the journal."""
        for entry in self.store.read(self.cursor, limit, 1 << 30):
            self._offer(entry)
            self.cursor = entry[0]

    def _offer(self, entry: Entry) -> None:
        taken, folded = self.making.offer(entry, decoded(entry[1]))
        self.batch += [one for _, one in taken]
        self.counted = self.counted.followed_by(WriteResult(folded=folded), after=0)

    async def write(self) -> None:
        """Commit the batch: all but its acknowledgement."""
        passed = self.making.passed(self.cursor == self.store.last)
        self.batch += [one for _, one in passed]
        self.held = self.making.held()
        result = await self.making.write(self.batch)
        self.counted = self.counted.followed_by(result, after=0)
        self.batch = []

    def acknowledge(self) -> None:
        """The rest of it, right behind ``write``."""
        self.store.acknowledge(self.cursor, self.held)


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    stand = Stand(tmp_path / "j.sqlite")
    await stand.start()
    yield stand
    stand.kill()


@contextmanager
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    handler = logger.add(lambda line: lines.append(str(line)), format="{message} {extra}")
    try:
        yield lines
    finally:
        logger.remove(handler)


def numbered(trades: Sequence[Trade], epoch: int = 1) -> list[Frame]:
    return [frame_of(one, epoch, seq) for seq, one in enumerate(trades, 1)]


def arrivals(random: Random, frames: Sequence[Frame]) -> Iterator[tuple[list[Frame], bool]]:
    """The frames in pieces, some of them late, and whether nothing is missing at that time."""
    at, late = 0, list[Frame]()
    while at < len(frames) or late:
        piece = list(frames[at : at + random.randrange(1, 40)])
        at += len(piece)
        lost = random.randrange(len(piece) // 2 + 1) if at < len(frames) else 0
        late += piece[:lost]
        piece = piece[lost:]
        if late and (at >= len(frames) or random.random() < 0.5):
            random.shuffle(late)
            found = random.randrange(1, len(late) + 1)
            piece += late[:found]
            del late[:found]
        yield piece, not late


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9))
async def test_killed_at_any_moment_the_bars_are_those_of_one_go(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Frames late, lost and found again, states kept now and then, and a kill at every step."""
    random = Random(seed)
    trades = random_trades(random, 400)
    stand = Stand(tmp_path_factory.mktemp("j") / "j.sqlite")
    await stand.start()
    for piece, is_whole in arrivals(random, numbered(trades)):
        stand.arrive(*piece)
        if is_whole:
            stand.repaired()
        for _ in range(random.randrange(3)):
            stand.take(random.randrange(1, 50))
            if random.random() < 0.7:
                await stand.write()
                if random.random() < 0.7:
                    stand.acknowledge()
            if random.random() < 0.2:
                stand.store.keep()
            if random.random() < 0.3:
                stand.kill()
                await stand.start()
    for _ in range(2):
        stand.take()
        await stand.write()
        assert stand.received == bars_of(trades)
        stand.kill()
        await stand.start()
    stand.kill()


async def test_trades_that_are_in_no_kept_state_are_taken_once(stand: Stand) -> None:
    trades = random_trades(Random(5), 100)
    frames = numbered(trades)
    stand.arrive(*frames[:60])
    stand.take()
    await stand.write()
    stand.acknowledge()
    stand.store.keep()
    stand.arrive(*frames[40:80])  # twenty of them again
    stand.take()
    await stand.write()
    stand.kill()
    await stand.start()
    stand.arrive(*frames[80:])
    stand.take()
    await stand.write()
    assert stand.received == bars_of(trades)


async def test_every_trade_is_counted_once(stand: Stand) -> None:
    frames = numbered(random_trades(Random(5), 100))
    stand.arrive(*frames[:50], *frames[40:60], *frames[70:])
    stand.take()
    await stand.write()
    assert len(stand.making) == 30
    stand.repaired()
    await stand.write()
    assert stand.counted.written + stand.counted.folded == 100
    assert 0 < stand.counted.written < 60


async def test_what_never_comes_is_told_by_the_bar(stand: Stand) -> None:
    trades = random_trades(Random(7), 60)
    frames = numbered(trades)
    stand.arrive(*frames[:20], *frames[30:])
    stand.take()
    await stand.write()
    at_first = dict(stand.received)
    assert stand.making.is_waiting
    stand.repaired()
    await stand.write()
    assert not stand.making.is_waiting
    expected = bars_of([*trades[:20], *trades[30:]])
    assert stand.received.keys() == expected.keys()
    flags = {
        name: [one.after_gap for key, one in stand.received.items() if key[0] == name]
        for name in PROFILES
    }
    assert all(sum(each) == 1 for each in flags.values())
    assert not any(candle.after_gap for candle in at_first.values())


async def test_what_was_given_up_stays_so_though_it_comes_after_a_kill(stand: Stand) -> None:
    trades = random_trades(Random(7), 60)
    frames = numbered(trades)
    stand.arrive(*frames[:20], *frames[30:])
    stand.repaired()
    stand.take()
    await stand.write()  # bars are published now that are made without the ten
    stand.arrive(*frames[20:30])
    stand.kill()  # before anything was acknowledged
    await stand.start()
    stand.take()
    await stand.write()
    assert stand.received == stand.ever


async def test_a_publisher_that_does_not_answer_is_not_waited_for_without_end(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = numbered(random_trades(Random(7), 60))
    stand.arrive(*frames[:20], *frames[30:])
    stand.take()
    await stand.write()
    assert stand.making.is_waiting
    monkeypatch.setattr(making, "PATIENCE_S", -(10.0**12))
    await stand.write()
    assert not stand.making.is_waiting


async def test_a_restarted_publisher_that_begins_again_loses_nothing(stand: Stand) -> None:
    trades = random_trades(Random(9), 200)
    stand.arrive(*numbered(trades)[:90])
    stand.arrive(*numbered(trades, epoch=2))
    stand.take()
    with logged() as lines:
        await stand.write()
        stand.store.keep()
    assert stand.received == bars_of(trades)
    assert "TRADES_PASSED_OVER" in lines[-1]
    assert "'duplicate': 90" in lines[-1]


async def test_a_wire_without_numbers_may_lack_trades_after_each_connection(stand: Stand) -> None:
    def of(first: int, last: int, received_at: int) -> list[Frame]:
        frames = [frame_of(trade(n, trade_id=str(n)), 0, 0) for n in range(first, last)]
        return [msgspec.structs.replace(one, received_at=received_at) for one in frames]

    def flags() -> list[bool]:
        return [one.after_gap for key, one in stand.received.items() if key[0] == "trb_a"]

    now = time.time_ns()
    stand.arrive(*of(0, 14, now))
    stand.take()
    await stand.write()
    assert flags() == [False, False]
    stand.making.connected("f")
    now = time.time_ns() + 1
    stand.arrive(*of(14, 28, now))
    stand.take()
    await stand.write()
    assert flags() == [False, False, True, False]
    stand.making.connected("f")
    now = time.time_ns() + 1
    stand.arrive(*of(20, 42, now))  # begins with some that came before: none is missing
    stand.take()
    await stand.write()
    assert flags() == [False, False, True, False, False, False]


async def test_a_connection_made_anew_is_not_forgotten_by_a_kill(stand: Stand) -> None:
    frames = [frame_of(trade(n, trade_id=str(n)), 0, 0) for n in range(21)]
    stand.arrive(*frames[:10])
    stand.take()
    await stand.write()
    stand.making.connected("f")
    late = [msgspec.structs.replace(one, received_at=time.time_ns() + 1) for one in frames[10:]]
    stand.arrive(*late)
    stand.take()
    await stand.write()  # bars are published now that may lack trades, and say so
    stand.kill()  # before anything was acknowledged
    await stand.start()
    stand.take()
    await stand.write()
    bars = [one for key, one in stand.received.items() if key[0] == "trb_a"]
    assert [one.after_gap for one in bars] == [False, True, False]
    assert stand.received == stand.ever


async def test_an_operator_may_have_all_of_it_worked_off_again(stand: Stand) -> None:
    trades = random_trades(Random(3), 100)
    nameless = [msgspec.structs.replace(one, symbol="ETHUSDT", trade_id=None) for one in trades]
    frames, bare = numbered(trades), [frame_of(one, 0, 0) for one in nameless]
    stand.arrive(*frames, *bare)
    stand.take()
    await stand.write()
    stand.acknowledge()
    stand.store.keep()
    before = dict(stand.ever)
    stand.kill()
    redo = Redo(stand.path, keep_s=3600)
    redo.put_back(PutBack(after=0, frames=redo.last))
    redo.close()
    await stand.start()
    assert stand.cursor == 0
    stand.take()
    await stand.write()
    assert stand.ever == before


async def test_trades_that_are_none_repeated_or_late_are_counted(stand: Stand) -> None:
    good = [trade(n, trade_id=str(n)) for n in range(12)]
    nothing, unknown = trade(4, quantity=0.0), trade(5, price=float("nan"))
    late = trade(2, trade_id="late")
    stand.arrive(*numbered([*good[:5], nothing, unknown, good[3], late, *good[5:]]))
    stand.take()
    with logged() as lines:
        await stand.write()
        stand.store.keep()
    assert stand.received == bars_of([*good[:5], late, *good[5:]])
    of = "{'venue': 'BINANCE_FUTURES', 'symbol': 'BTCUSDT', "
    told = "'invalid': 2, 'duplicate': 1, 'repeated': 0, 'beyond': 0}"
    assert lines == [
        f"TRADES_LATE {of}'trades': 1}}\n",
        f"TRADES_PASSED_OVER {of}{told}\n",
    ]
    with logged() as lines:
        stand.store.keep()
    assert lines == []


async def test_a_trade_from_the_future_spoils_no_bar(stand: Stand) -> None:
    trades = [trade(n) for n in range(7)]
    wrong = trade(10 * 365 * 24 * 3_600_000)
    stand.arrive(*numbered([*trades[:3], wrong, *trades[3:]]))
    stand.take()
    with logged() as lines:
        await stand.write()
        stand.store.keep()
    assert {key: one.close_time for key, one in stand.received.items()} == {
        key: one.close_time for key, one in bars_of(trades).items()
    }
    assert "'beyond': 1" in lines[-1]


async def test_too_many_symbols_are_passed_over(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "MOST_SYMBOLS", 1)
    others = [msgspec.structs.replace(trade(n), symbol=f"S{n}") for n in range(20)]
    stand.arrive(*(frame_of(one, 1, 1) for one in [trade(0), *others]))
    stand.take()
    with logged() as lines:
        await stand.write()
        stand.store.keep()
    assert "'beyond': 20" in "".join(lines)


async def test_changed_parameters_need_another_name(stand: Stand) -> None:
    stand.arrive(*numbered([trade(0)]))
    stand.take()
    await stand.write()
    stand.store.keep()
    stand.kill()
    stand.profiles = PROFILES | {"trb_a": TickRun(expected_ticks=8)}
    with pytest.raises(Refused, match=r"profile trb_a: .* give changed parameters another name"):
        await stand.start()


async def test_states_are_kept_now_and_then(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "KEEP_EVERY_S", 3600.0)
    stand.arrive(*numbered([trade(0)]))
    stand.take()
    await stand.write()
    stand.acknowledge()
    assert stand.store.acknowledged == 0
    monkeypatch.setattr(making, "KEEP_EVERY_S", 0.0)
    stand.acknowledge()
    assert stand.store.acknowledged == 1
