"""Gaps in the numbers of streams."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ravenwh.feed import wire
from ravenwh.ingest.limits import AHEAD_NS, FOLLOWED, LONGEST_TOPIC
from ravenwh.ingest.sequences import NEVER, Sequences
from ravenwh.ports import Frame, Gap, Position, Stream

EPOCH = 1_704_067_200_000_000_000
TOPIC = b"BINANCE_SPOT:CANDLE:BTCUSDT "


def frame(seq: int, *, epoch: int = EPOCH, topic: bytes = TOPIC, header: bytes = b"") -> Frame:
    return Frame("main", topic, header or wire.header(epoch, seq), b"", EPOCH + 77)


def sequences(known: dict[Stream, Position] | None = None) -> Sequences:
    return Sequences(known or {}, position_of=wire.position)


def ranges(gaps: list[Gap] | tuple[Gap, ...]) -> list[tuple[int | None, int | None, int | None]]:
    return [(gap.first_seq, gap.last_seq, gap.missing) for gap in gaps]


def followed(seqs: list[int], *, known: Position | None = None) -> list[tuple[int, int, int]]:
    """The gaps of a stream whose frames come one by one."""
    stream = sequences({("main", TOPIC): known} if known else {})
    found = []
    for seq in seqs:
        seen = stream.look([frame(seq)])
        stream.follow(seen.positions)
        found += ranges(list(seen.gaps))
    return found


def test_numbers_in_order_have_no_gap() -> None:
    assert followed([1, 2, 3, 4]) == []


def test_a_jump_is_a_gap_of_what_lies_between() -> None:
    assert followed([1, 2, 6, 7, 9]) == [(3, 5, 3), (8, 8, 1)]


def test_what_went_by_before_the_first_frame_is_not_owed() -> None:
    assert followed([5, 6]) == [(1, 4, 0)]


def test_a_late_or_repeated_frame_moves_nothing() -> None:
    assert followed([1, 2, 3, 2, 1, 3, 4]) == []


def test_an_earlier_run_is_gone_on_from() -> None:
    assert followed([14], known=(EPOCH, 10)) == [(11, 13, 3)]


def test_a_restarted_publisher_is_no_gap_but_owes_its_first_numbers() -> None:
    stream = sequences({("main", TOPIC): (EPOCH, 10)})
    assert stream.look([frame(1, epoch=EPOCH + 1)]).gaps == []
    (gap,) = stream.look([frame(4, epoch=EPOCH + 1)]).gaps
    assert (gap.epoch, gap.first_seq, gap.last_seq, gap.missing) == (EPOCH + 1, 1, 3, 3)


def test_a_publisher_whose_clock_was_set_back_is_followed_from_its_first_frame() -> None:
    stream = sequences({("main", TOPIC): (EPOCH, 10)})
    assert stream.look([frame(7, epoch=EPOCH - 1)]).positions == {}
    seen = stream.look([frame(1, epoch=EPOCH - 1)])
    assert seen.positions == {("main", TOPIC): (EPOCH - 1, 1)}


def test_nothing_is_followed_before_it_is_journaled() -> None:
    stream = sequences()
    stream.look([frame(1), frame(2)])
    assert stream["main", TOPIC] is None
    assert ranges(list(stream.look([frame(2)]).gaps)) == [(1, 1, 0)]


def test_a_frame_without_a_number_is_passed_over() -> None:
    seen = sequences().look([frame(0, header=b"short"), frame(0, header=b"\xff" * 16)])
    assert (seen.positions, seen.gaps) == ({}, [])


def test_a_publisher_of_the_future_is_none_and_hides_no_gap_of_the_true_one() -> None:
    stream = sequences({("main", TOPIC): (EPOCH, 10)})
    assert stream.look([frame(9, epoch=EPOCH + 2 * AHEAD_NS)]).positions == {}
    assert ranges(list(stream.look([frame(13)]).gaps)) == [(11, 12, 2)]


def test_what_was_called_off_is_not_owed_when_it_is_wanted_again() -> None:
    stream = sequences({("main", TOPIC): (EPOCH, 10), ("main", b"other "): (EPOCH, 3)})
    forgotten = stream.known(lambda stream: stream[1] == TOPIC)
    assert forgotten == [("main", TOPIC)]
    stream.follow(dict.fromkeys(forgotten, NEVER))
    assert stream.known(lambda stream: True) == [("main", b"other ")]
    assert ranges(list(stream.look([frame(90)]).gaps)) == [(1, 89, 0)]


def test_topics_without_end_fill_no_memory() -> None:
    known: dict[Stream, Position] = {("main", b"%d" % i): (EPOCH, 1) for i in range(FOLLOWED)}
    stream = sequences(known)
    seen = stream.look([frame(5, topic=b"one more"), frame(3, topic=b"7")])
    assert seen.positions == {("main", b"7"): (EPOCH, 3)}


def test_a_topic_that_no_name_has_fills_no_memory_either() -> None:
    seen = sequences().look([frame(1, topic=b"x" * (LONGEST_TOPIC + 1))])
    assert (seen.positions, seen.gaps) == ({}, [])


@given(
    kept=st.sets(st.integers(1, 200), min_size=1),
    cuts=st.lists(st.integers(0, 200), max_size=5),
)
def test_gaps_and_frames_together_are_all_numbers(kept: set[int], cuts: list[int]) -> None:
    stream = sequences({("main", TOPIC): (EPOCH, 0)})
    numbers = sorted(kept)
    edges = [0, *sorted(min(cut, len(numbers)) for cut in cuts), len(numbers)]
    missing: set[int] = set()
    for low, high in itertools.pairwise(edges):
        seen = stream.look([frame(seq) for seq in numbers[low:high]])
        stream.follow(seen.positions)
        for gap in seen.gaps:
            assert gap.first_seq is not None
            assert gap.last_seq is not None
            assert gap.missing == gap.last_seq - gap.first_seq + 1
            missing |= set(range(gap.first_seq, gap.last_seq + 1))
    assert missing | kept == set(range(1, max(kept) + 1))
    assert not missing & kept
