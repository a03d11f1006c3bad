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


def make(**options: object) -> Silence:
    return Silence(feeds=["main"], venue_of=venue_of, **options)  # type: ignore[arg-type]


def test_each_stream_has_its_own_rhythm(lines: list[tuple[str, dict[str, object]]]) -> None:
    silence = make()
    speak(silence, FAST, range(0, 600, 1))
    speak(silence, SLOW, range(0, 600, 60))
    speak(silence, OTHER, range(0, 600, 1))
    silence.check(625 * S)
    assert lines == []
    silence.check(640 * S)  # the fast ones are silent for 41 s, the slow one may be for 180
    assert [(name, extra["venue"], extra["streams"]) for name, extra in lines] == [
        ("STREAMS_SILENT", "BINANCE_SPOT", 1),
        ("STREAMS_SILENT", "OKX_SPOT", 1),
    ]
    assert silence.troubles == ["all 1 streams of OKX_SPOT are silent"]
    silence.check(721 * S)
    assert silence.troubles == [
        "all 2 streams of BINANCE_SPOT are silent",
        "all 1 streams of OKX_SPOT are silent",
    ]
    assert len(lines) == 3  # told once


def test_a_silent_venue_is_one_alarm(lines: list[tuple[str, dict[str, object]]]) -> None:
    silence = make()
    for number in range(500):
        speak(silence, b"BINANCE_SPOT:TRADE:C%dUSDT " % number, range(0, 60, 5))
    silence.check(100 * S)
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
