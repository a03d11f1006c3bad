"""What a replay sends, in which order, at which pace, and what it says of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

from ravenwh.domain.errors import Refused, Unavailable
from ravenwh.domain.messages import Candle, Message, Trade
from ravenwh.domain.series import TimeRange
from ravenwh.sources.replay import Replay, Subject
from ravenwh.sources.report import Report
from ravenwh.sources.request import Request

OPEN = 1_704_067_200_000
MINUTE = 60_000
ALWAYS = TimeRange(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 2, tzinfo=UTC))


def kline_file(
    folder: Path, symbol: str, part: str, opens: list[int], *, interval: str = "1m"
) -> Path:
    length = {"1m": MINUTE, "1s": 1000}[interval]
    path = folder / f"{symbol}-{interval}-{part}.csv"
    path.write_text(
        "".join(
            f"{OPEN + at * length},1,1,1,1,1,{OPEN + (at + 1) * length - 1},1,1,1,1,0\n"
            for at in opens
        )
    )
    return path


@attrs.define
class Wire:
    """A publisher that keeps what it is given, and the loop's time at which it was."""

    sent: list[Message] = attrs.field(factory=list)
    at_s: list[float] = attrs.field(factory=list)
    waited_for: set[Subject] | None = None
    after: asyncio.Event = attrs.field(factory=asyncio.Event)
    """Set when ``stop_after`` messages are sent."""
    stop_after: int = -1
    stuck: bool = False

    async def publish(self, message: Message) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        self.sent.append(message)
        self.at_s.append(asyncio.get_running_loop().time())
        if len(self.sent) == self.stop_after:
            self.after.set()

    async def wait_for_subscribers(self, subjects: Collection[Subject]) -> None:
        assert not self.sent
        self.waited_for = set(subjects)

    @property
    def order(self) -> list[tuple[str, int]]:
        return [
            (message.symbol, (message.open_time // 10**6 - OPEN) // MINUTE)
            for message in self.sent
            if isinstance(message, Candle)
        ]


async def replay(
    wire: Wire, request: Request, bad: list[tuple[str, int, str]] | None = None
) -> Report:
    tracks, rows = request.tracks()
    progress: list[tuple[int, int]] = []
    report = await Replay(
        tracks=tracks,
        rows=rows,
        publish=wire.publish,
        wait_for_subscribers=wire.wait_for_subscribers,
        on_bad=lambda *told: (bad if bad is not None else []).append(told),
        on_progress=lambda done, of: progress.append((done, of)),
        speed=request.speed,
        span=request.span,
        stop_grace_s=0.05,
    ).run(wire.after)
    if not report.interrupted:
        done, of = progress[-1]
        assert done == report.sent + report.bad + report.outside
        assert of == rows
    return report


async def test_at_full_speed_files_are_sent_in_the_order_given(tmp_path: Path) -> None:
    late = kline_file(tmp_path, "BTCUSDT", "b", [2, 3])
    early = kline_file(tmp_path, "BTCUSDT", "a", [0, 1])
    other = kline_file(tmp_path, "ETHUSDT", "a", [1])
    wire = Wire()
    report = await replay(wire, Request(paths=(late, other, early)))
    assert wire.order == [
        ("BTCUSDT", 2),
        ("BTCUSDT", 3),
        ("ETHUSDT", 1),
        ("BTCUSDT", 0),
        ("BTCUSDT", 1),
    ]
    assert wire.waited_for == {
        ("BINANCE_SPOT", "CANDLE", "BTCUSDT"),
        ("BINANCE_SPOT", "CANDLE", "ETHUSDT"),
    }
    assert report.lines() == [
        "sent 4 klines of BTCUSDT 1m from 2 files, 0 bad rows",
        "sent 1 kline of ETHUSDT 1m from 1 file, 0 bad rows",
        "sent 5 messages of 2 series, 0 bad rows",
    ]
    assert report.exit_code == 0


async def test_klines_and_trades_of_one_simulated_market() -> None:
    span = TimeRange(
        start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 1, 0, 5, tzinfo=UTC)
    )
    wire = Wire()
    request = Request(simulate=("BTCUSDT",), kinds=("klines", "trades"), span=span)
    report = await replay(wire, request)
    assert [type(message) for message in wire.sent[4:6]] == [Candle, Trade]
    counts = [message.trade_count or 0 for message in wire.sent if isinstance(message, Candle)]
    assert (len(counts), sum(counts)) == (5, len(wire.sent) - 5)
    assert wire.waited_for == {
        ("BINANCE_SPOT", "CANDLE", "BTCUSDT"),
        ("BINANCE_SPOT", "TRADE", "BTCUSDT"),
    }
    assert report.lines()[:2] == [
        "sent 5 synthetic klines of BTCUSDT 1m from the simulator, 0 bad rows",
        f"sent {sum(counts)} synthetic trades of BTCUSDT from the simulator, 0 bad rows",
    ]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Request(paths=(Path(),), kinds=("klines", "trades")), "holds one kind"),
        (Request(simulate=("X",), kinds=("aggTrades",), span=ALWAYS), "but no aggTrades"),
        (Request(simulate=("X",)), "needs a range"),
        (Request(), "nothing to replay"),
    ],
)
def test_what_cannot_be_replayed_is_refused(request_: Request, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        request_.tracks()


async def test_at_a_pace_series_are_merged_by_event_time(tmp_path: Path) -> None:
    first = kline_file(tmp_path, "BTCUSDT", "a", [0, 1])
    second = kline_file(tmp_path, "BTCUSDT", "b", [3])
    other = kline_file(tmp_path, "ETHUSDT", "a", [0, 2, 4])
    wire = Wire()
    await replay(wire, Request(paths=(first, second, other), speed=1e6))
    assert [minute for _, minute in wire.order] == [0, 0, 1, 2, 3, 4]
    assert [symbol[:3] for symbol, _ in wire.order] == ["BTC", "ETH", "BTC", "ETH", "BTC", "ETH"]


async def test_the_pace_is_that_of_the_event_times(tmp_path: Path) -> None:
    file = kline_file(tmp_path, "BTCUSDT", "a", [0, 1, 2, 12, 11], interval="1s")
    wire = Wire()
    await replay(wire, Request(paths=(file,), speed=60))
    since = [at - wire.at_s[0] for at in wire.at_s]
    due = [0, 1 / 60, 2 / 60, 12 / 60, 12 / 60]  # what is behind its time is sent at once
    assert all(at >= want - 1e-3 for at, want in zip(since, due, strict=True))


async def test_a_bad_row_is_counted_and_the_rest_is_sent(tmp_path: Path) -> None:
    file = kline_file(tmp_path, "BTCUSDT", "a", [0, 1, 2])
    file.write_text(file.read_text().replace("\n", "\nrubbish\n", 1))
    wire, bad = Wire(), list[tuple[str, int, str]]()
    report = await replay(wire, Request(paths=(file,)), bad)
    assert [minute for _, minute in wire.order] == [0, 1, 2]
    assert [(label, line) for label, line, _ in bad] == [(str(file), 2)]
    assert report.lines() == ["sent 3 klines of BTCUSDT 1m from 1 file, 1 bad row"]
    assert (report.bad, report.exit_code) == (1, 1)


async def test_a_range_leaves_the_rest_out(tmp_path: Path) -> None:
    file = kline_file(tmp_path, "BTCUSDT", "a", [0, 1, 2, 3])
    wire = Wire()
    span = TimeRange.of_ns((OPEN + MINUTE) * 10**6, (OPEN + 3 * MINUTE) * 10**6)
    report = await replay(wire, Request(paths=(file,), span=span))
    assert [minute for _, minute in wire.order] == [1, 2]
    assert report.lines() == [
        "sent 2 klines of BTCUSDT 1m from 1 file, 0 bad rows, 2 outside the range"
    ]
    assert report.exit_code == 0


async def test_trades_go_under_their_own_subject(tmp_path: Path) -> None:
    file = tmp_path / "BTCUSDT-trades-2024-01-01.csv"
    file.write_text(f"id,price,qty,quote_qty,time,is_buyer_maker\n1,2,3,6,{OPEN},true\n")
    wire = Wire()
    report = await replay(wire, Request(paths=(file,), venue="BINANCE_FUTURES"))
    assert wire.waited_for == {("BINANCE_FUTURES", "TRADE", "BTCUSDT")}
    assert report.lines() == ["sent 1 trade of BTCUSDT from 1 file, 0 bad rows"]


async def test_a_simulated_market_is_said_to_be_synthetic() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    span = TimeRange(start=start, end=start.replace(hour=1))
    wire = Wire()
    report = await replay(wire, Request(simulate=("BTCUSDT",), span=span))
    assert len(wire.sent) == 60
    assert report.lines() == [
        "sent 60 synthetic klines of BTCUSDT 1m from the simulator, 0 bad rows"
    ]


async def test_a_stop_ends_between_two_messages_and_says_so(tmp_path: Path) -> None:
    file = kline_file(tmp_path, "BTCUSDT", "a", list(range(100)))
    wire = Wire(stop_after=7)
    report = await replay(wire, Request(paths=(file,)))
    assert len(wire.sent) == report.sent == 7
    assert report.interrupted
    assert report.exit_code == 1
    assert report.lines() == [
        "sent 7 klines of BTCUSDT 1m from 1 file, 0 bad rows",
        "stopped before the end; what is missing can be replayed again, whole",
    ]


async def test_a_stop_ends_a_long_pause(tmp_path: Path) -> None:
    file = kline_file(tmp_path, "BTCUSDT", "a", [0, 1])
    wire = Wire(stop_after=1)
    async with asyncio.timeout(45):  # the second message is due in a minute
        report = await replay(wire, Request(paths=(file,), speed=1))
    assert (report.sent, report.interrupted) == (1, True)


async def test_a_stop_ends_a_publish_that_does_not_return(tmp_path: Path) -> None:
    file = kline_file(tmp_path, "BTCUSDT", "a", [0])
    wire = Wire(stuck=True)
    wire.after.set()
    async with asyncio.timeout(60):
        report = await replay(wire, Request(paths=(file,)))
    assert (report.sent, report.interrupted) == (0, True)


async def test_without_a_subscriber_nothing_is_sent(tmp_path: Path) -> None:
    class Nobody(Wire):
        async def wait_for_subscribers(self, subjects: Collection[Subject]) -> None:
            raise Unavailable("nobody subscribed")

    wire = Nobody()
    with pytest.raises(Unavailable, match="nobody subscribed"):
        await replay(wire, Request(paths=(kline_file(tmp_path, "BTCUSDT", "a", [0]),)))
    assert not wire.sent


async def test_what_publish_raises_comes_out(tmp_path: Path) -> None:
    class Broken(Wire):
        async def publish(self, message: Message) -> None:
            raise Refused("the publisher was closed")

    with pytest.raises(Refused, match="the publisher was closed"):
        await replay(Broken(), Request(paths=(kline_file(tmp_path, "BTCUSDT", "a", [0]),)))


def test_one_damaged_file_refuses_all_before_anything_is_sent(tmp_path: Path) -> None:
    good = kline_file(tmp_path, "BTCUSDT", "a", [0])
    wrong = kline_file(tmp_path, "BTCUSDT", "b", [1])
    wrong.with_name(wrong.name + ".CHECKSUM").write_text(f"{'0' * 64}  {wrong.name}\n")
    with pytest.raises(Refused, match=r"is not what its \.CHECKSUM says"):
        Request(paths=(good, wrong)).tracks()


def test_a_request_for_nothing_is_refused() -> None:
    with pytest.raises(Refused, match="nothing to replay"):
        Request().tracks()
    with pytest.raises(Refused, match="needs a range"):
        Request(simulate=("BTCUSDT",)).tracks()


@attrs.define
class SlowTrack:
    """A track whose source does not answer before it is let."""

    asked: threading.Event = attrs.field(factory=threading.Event)
    answered: threading.Event = attrs.field(factory=threading.Event)
    venue: str = "BINANCE_SPOT"
    symbol: str = "BTCUSDT"
    interval: None = None
    noun: str = "trades"
    origin: str = "somewhere"
    subjects: tuple[Subject, ...] = (("BINANCE_SPOT", "TRADE", "BTCUSDT"),)

    def check(self) -> int:
        return 0

    def messages(self, on_bad: object) -> Iterator[Trade]:
        self.asked.set()
        self.answered.wait(30)
        yield Trade(
            venue=self.venue,
            symbol=self.symbol,
            event_time=0,
            price=1.0,
            quantity=1.0,
            side="buy",
        )


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_a_slow_source_holds_up_nothing_else(is_stopped: bool) -> None:
    wire, track = Wire(), SlowTrack()
    replaying = Replay(
        tracks=[track],
        publish=wire.publish,
        wait_for_subscribers=wire.wait_for_subscribers,
        on_bad=lambda *told: None,
        stop_grace_s=0.05,
    )
    running = asyncio.create_task(replaying.run(wire.after))
    await asyncio.to_thread(track.asked.wait, 30)  # and this loop goes on
    if is_stopped:
        wire.after.set()
    track.answered.set()
    report = await running
    assert (report.sent, report.interrupted) == ((0, True) if is_stopped else (1, False))
