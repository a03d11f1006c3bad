"""Streams that fall silent, and speak again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from loguru import logger

from ravenwh.ingest.silence import Silence
from ravenwh.ports import Frame, Stream

S = 1_000_000_000
FAST, SLOW = b"BINANCE_SPOT:TRADE:BTCUSDT ", b"BINANCE_SPOT:CANDLE:BTCUSDT "
OTHER = b"OKX_SPOT:TRADE:BTC-USDT "


def venue_of(stream: Stream) -> str:
    return stream[1].split(b":")[0].decode()


@pytest.fixture
def lines() -> Iterator[list[tuple[str, dict[str, object]]]]:
    found: list[tuple[str, dict[str, object]]] = []
    logger.enable("ravenwh")
    handler = logger.add(
        lambda line: found.append((line.record["message"], dict(line.record["extra"])))
    )
    yield found
    logger.remove(handler)


def speak(silence: Silence, topic: bytes, times: range) -> None:
    for at in times:
        silence.heard([Frame("main", topic, b"", b"", at * S)])


def play(silence: Silence, streams: dict[bytes, range], until: int) -> None:
    """Frames of all streams in the order of their times, with a look every 5 seconds."""
    frames = sorted((at, topic) for topic, times in streams.items() for at in times)
    looks = iter(range(0, until + 1, 5))
    look = next(looks)
    for at, topic in [*frames, (until + 1, b"")]:
        while look <= until and look < at:
            silence.check(look * S)
            look = next(looks, until + 1)
        if topic:
            silence.heard([Frame("main", topic, b"", b"", at * S)])


def make(**options: object) -> Silence:
    return Silence(**{"feeds": lambda: ["main"], "venue_of": venue_of} | options)  # type: ignore[arg-type]


def told(lines: list[tuple[str, dict[str, object]]]) -> list[tuple[object, ...]]:
    """Name, venue and how many of the streams, a line."""
    return [(name, extra["venue"], extra["streams"]) for name, extra in lines]


def test_each_stream_has_its_own_rhythm(lines: list[tuple[str, dict[str, object]]]) -> None:
    silence = make()
    streams = {FAST: range(600), OTHER: range(600), SLOW: range(0, 900, 20)}
    play(silence, streams, until=800)
    assert told(lines) == [
        ("STREAMS_SILENT", "OKX_SPOT", 1),
        ("STREAMS_SILENT", "BINANCE_SPOT", 1),  # of which the slow one speaks
    ]
    assert lines[1][1]["named"] == ["BINANCE_SPOT:TRADE:BTCUSDT"]
    assert silence.troubles == ["all 1 streams of OKX_SPOT are silent"]


def test_streams_that_fall_silent_one_after_the_other_are_few_alarms(
    lines: list[tuple[str, dict[str, object]]],
) -> None:
    silence = make()
    streams = {b"BINANCE_SPOT:TRADE:C%dUSDT " % n: range(0, 100 + n, 2) for n in range(100)}
    play(silence, streams | {SLOW: range(400)}, until=400)
    assert sum(extra["streams"] for _, extra in lines) == 100  # type: ignore[misc]
    assert len(lines) == 3
    assert silence.troubles == []


def test_all_streams_of_a_venue_may_end_at_other_times_and_are_one_alarm(
    lines: list[tuple[str, dict[str, object]]],
) -> None:
    silence = make()  # each speaks once a minute, at its own second
    streams = {b"BINANCE_SPOT:CANDLE:C%dUSDT " % n: range(n % 60, 600, 60) for n in range(500)}
    play(silence, streams, until=1200)
    assert told(lines) == [("STREAMS_SILENT", "BINANCE_SPOT", 500)]
    assert silence.troubles == ["all 500 streams of BINANCE_SPOT are silent"]


def test_a_silent_venue_is_one_alarm(lines: list[tuple[str, dict[str, object]]]) -> None:
    silence = make()
    streams = {b"BINANCE_SPOT:TRADE:C%dUSDT " % n: range(0, 60, 5) for n in range(500)}
    play(silence, streams, until=200)
    ((name, extra),) = lines
    assert (name, extra["streams"], extra["of"]) == ("STREAMS_SILENT", 500, 500)
    assert len(extra["named"]) == 5  # type: ignore[arg-type]


def test_it_is_heard_again_and_the_outage_teaches_nothing(
    lines: list[tuple[str, dict[str, object]]],
) -> None:
    silence = make()
    speak(silence, FAST, range(60))
    silence.check(100 * S)
    speak(silence, FAST, range(3600, 3660))
    silence.check(3661 * S)
    assert [name for name, _ in lines] == ["STREAMS_SILENT", "STREAMS_HEARD_AGAIN"]
    assert silence.troubles == []
    silence.check(3700 * S)
    assert [name for name, _ in lines][-1] == "STREAMS_SILENT"


def test_what_need_not_speak_is_no_alarm(lines: list[tuple[str, dict[str, object]]]) -> None:
    silence = make(is_expected=lambda stream, now: stream[1] != FAST or now < 90 * S)
    speak(silence, FAST, range(60))
    silence.check(100 * S)
    assert lines == []
    assert silence.troubles == []


def test_a_stream_that_hardly_spoke_has_no_rhythm_yet(
    lines: list[tuple[str, dict[str, object]]],
) -> None:
    silence = make()
    speak(silence, FAST, range(4))
    silence.check(10_000 * S)
    assert lines == []


def test_a_feed_that_never_spoke_is_told(lines: list[tuple[str, dict[str, object]]]) -> None:
    silence = make()
    silence.check(0)
    silence.check(120 * S)
    assert lines == []
    silence.check(121 * S)
    silence.check(200 * S)
    assert [(name, extra["feed"]) for name, extra in lines] == [("FEED_SILENT", "main")]
    assert silence.troubles == ["nothing comes from feed main"]
    speak(silence, FAST, range(201, 202))
    silence.check(202 * S)
    assert silence.troubles == []


def test_a_feed_of_which_nothing_is_wanted_is_not_missed(
    lines: list[tuple[str, dict[str, object]]],
) -> None:
    wanted = ["main"]
    silence = make(feeds=lambda: wanted)
    silence.check(0)
    wanted.clear()
    silence.check(500 * S)
    assert silence.troubles == []
    wanted.append("main")
    silence.check(600 * S)
    silence.check(700 * S)
    assert lines == []
    silence.check(721 * S)
    assert [name for name, _ in lines] == ["FEED_SILENT"]


def test_after_a_maintenance_the_rhythm_is_what_it_was(
    lines: list[tuple[str, dict[str, object]]],
) -> None:
    silence = make(is_expected=lambda stream, now: not 600 * S <= now < 7800 * S)
    streams = [b"BINANCE_SPOT:CANDLE:C%dUSDT " % number for number in range(20)]
    before, after = range(0, 600, 60), range(7790, 8400, 60)
    spoken = {topic: [*before, *after] for topic in streams[:-1]}  # one does not come back
    play(silence, spoken | {streams[-1]: [*before]}, until=9200)  # type: ignore[arg-type]
    assert told(lines) == [
        ("STREAMS_SILENT", "BINANCE_SPOT", 1),
        ("STREAMS_SILENT", "BINANCE_SPOT", 20),
    ]


def test_who_speaks_less_often_from_now_on_is_one_alarm(
    lines: list[tuple[str, dict[str, object]]],
) -> None:
    silence = make()
    times = [*range(600), *range(600, 3600, 80)]
    play(silence, {FAST: times}, until=3600)  # type: ignore[dict-item]
    assert [name for name, _ in lines] == ["STREAMS_SILENT", "STREAMS_HEARD_AGAIN"]
