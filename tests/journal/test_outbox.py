"""Gaps that wait: kept over restarts, settled once, and bounded whatever a feed does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loguru import logger

from ravenwh.journal import Store, outbox
from ravenwh.ports import Gap


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "j.sqlite")
    yield opened
    opened.close()


def gap(first: int, last: int | None = None, **changes: object) -> Gap:
    last = first if last is None else last
    one = Gap(
        feed="f",
        topic=b"T:1 ",
        epoch=1,
        first_seq=first,
        last_seq=last,
        missing=last - first + 1,
        reason="not received",
        detected_at=1000 + first,
    )
    return attrs.evolve(one, **changes)


def ranges(store: Store) -> list[tuple[int | None, int | None]]:
    return [(one.first_seq, one.last_seq) for _, one in store.gaps()]


def test_what_garbage_says_is_missing_is_counted_as_far_as_numbers_go(store: Store) -> None:
    store.append([], gaps=[gap(1, 2**63 - 1)])
    store.append([], gaps=[gap(2**63, 2**63 + 7, missing=2**63 - 1)])
    ((_, one),) = store.gaps()
    assert one.missing == 2**63 - 1


def test_a_gap_is_there_until_it_is_settled(tmp_path: Path) -> None:
    store = Store(tmp_path / "j.sqlite")
    cadence = gap(
        1, epoch=None, first_seq=None, last_seq=None, start_time=5, end_time=9, missing=None
    )
    store.append([], gaps=[gap(3, 5), cadence])
    store.append([], gaps=[gap(9, topic=b"T:2 ")])
    store.close()
    store = Store(tmp_path / "j.sqlite")
    assert [one for _, one in store.gaps()] == [gap(3, 5), cadence, gap(9, topic=b"T:2 ")]
    numbers = [number for number, _ in store.gaps()]
    store.settle_gaps(numbers[:2])
    store.settle_gaps(numbers[:2])
    assert store.open_gaps == 1
    store.append([], gaps=[gap(7)])
    store.settle_gaps(numbers[:2])  # numbers are not used again
    assert [one for _, one in store.gaps()] == [gap(9, topic=b"T:2 "), gap(7)]
    store.close()


def test_a_gap_that_goes_on_is_one_gap(store: Store) -> None:
    store.append([], gaps=[gap(1, 2), gap(3)])
    store.append([], gaps=[gap(4, 9), gap(10, epoch=2), gap(11, epoch=2, missing=0)])
    first, second, third = (one for _, one in store.gaps())
    assert first == gap(1, 9)
    assert (second, third) == (gap(10, epoch=2), gap(11, epoch=2, missing=0))
    times = {"epoch": None, "first_seq": None, "last_seq": None, "topic": b"K "}
    store.append([], gaps=[gap(1, start_time=60, end_time=120, missing=1, **times)])
    store.append([], gaps=[gap(1, start_time=120, end_time=180, missing=None, **times)])
    (_, fourth) = store.gaps()[-1]
    assert (fourth.start_time, fourth.end_time, fourth.missing) == (60, 180, None)


def test_what_was_given_out_does_not_change(store: Store) -> None:
    store.append([], gaps=[gap(1, 2)])
    ((number, given_out),) = store.gaps()
    store.append([], gaps=[gap(3)])
    store.settle_gaps([number])
    assert given_out == gap(1, 2)
    assert [one for _, one in store.gaps()] == [gap(3)]


def test_what_an_earlier_run_may_have_given_out_does_not_change(tmp_path: Path) -> None:
    store = Store(tmp_path / "j.sqlite")
    store.append([], gaps=[gap(1, 2)])
    store.close()
    store = Store(tmp_path / "j.sqlite")
    store.append([], gaps=[gap(3)])
    assert ranges(store) == [(1, 2), (3, 3)]
    store.close()


def test_a_flood_of_gaps_of_a_stream_becomes_one_that_counts_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PER_STREAM", 3)
    lines: list[str] = []
    handler = logger.add(lambda line: lines.append(str(line)), format="{message}")
    for n in range(1, 40):
        store.append([], gaps=[gap(10 * n)])
        assert len(store.gaps()) <= 3
    logger.remove(handler)
    assert store.open_gaps == 4
    assert ranges(store) == [(10, 10), (20, 20), (30, 30)]
    assert set(lines) == {"GAPS_COALESCED\n"}
    store.settle_gaps([number for number, _ in store.gaps()])
    ((_, rest),) = store.gaps()
    assert (rest.first_seq, rest.last_seq, rest.missing) == (40, 390, 36)
    assert rest.epoch == 1


def test_a_flood_of_epochs_or_of_streams_becomes_one_of_the_feed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PER_STREAM", 2)
    monkeypatch.setattr(outbox, "ROWS", 10)
    for n in range(1, 101):
        store.append([], gaps=[gap(1, epoch=n)])
    for n in range(1, 101):
        store.append([], gaps=[gap(1, 5, topic=b"T:%d " % (n + 1), feed="g")])
        store.append([], gaps=[gap(1, 5, topic=b"T:%d " % (n + 1), feed="g", missing=0)])
    assert store.open_gaps <= 13
    of_feed = [one for _, one in store.gaps() if one.topic == b""]
    assert {one.reason for one in of_feed} == {"too many gaps to tell apart"}
    assert {(one.feed, one.missing == 0) for one in of_feed} == {
        ("f", False),
        ("g", False),
        ("g", True),
    }
    for one in of_feed:
        assert one.epoch is None
        assert one.start_time is not None
        assert one.end_time is not None
        assert one.start_time < one.end_time
    assert settled_all(store) == 100 + 500


def settled_all(store: Store) -> int:
    """Settle what is given out until nothing is left; how many messages were missing."""
    missing = 0
    for _ in range(10):
        given_out = store.gaps()
        missing += sum(one.missing or 0 for _, one in given_out)
        store.settle_gaps([number for number, _ in given_out])
    assert store.open_gaps == 0
    return missing


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("gap"), st.integers(0, 4), st.integers(1, 3)),
        st.tuples(st.just("settle"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(STEPS)
def test_no_gap_is_without_its_count(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[tuple[str, int, int]],
) -> None:
    monkeypatch.setattr(outbox, "PER_STREAM", 2)
    monkeypatch.setattr(outbox, "ROWS", 5)
    path = tmp_path_factory.mktemp("gaps") / "j.sqlite"
    store, told, settled, at = Store(path), 0, 0, 0
    for step, number, size in steps:
        if step == "gap":
            at += 10
            told += size
            store.append([], gaps=[gap(at, at + size - 1, topic=b"T:%d " % number)])
        elif step == "settle":
            given_out = store.gaps()[:number]
            store.append([], gaps=[gap(at + 1, topic=given_out[-1][1].topic)] if given_out else [])
            told += bool(given_out)
            at += 1
            settled += sum(one.missing or 0 for _, one in given_out)
            store.settle_gaps([n for n, _ in given_out])
        else:
            store.close()
            store = Store(path)
        assert store.open_gaps <= 5 + 1 + 2 + 1
    assert settled + settled_all(store) == told
    store.close()
