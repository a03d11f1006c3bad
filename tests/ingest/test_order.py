"""Frames in the order of their numbers: each once, holes filled or lost, restarts told."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravenwh.domain.messages import Trade
from ravenwh.feed import wire
from ravenwh.ingest import order
from ravenwh.ingest.order import Before, InOrder, Taken
from ravenwh.ports import Frame, Gap, Stream

STREAM: Stream = ("f", b"V:TRADE:S ")
Out = tuple[int, int, Before]
"""Epoch, number, and what is before it."""


class Fed:
    """An order that is fed numbers, and tells those that come out."""

    def __init__(self, before: InOrder[Trade] | None = None) -> None:
        place = None if before is None else before.place(STREAM)
        self.gaps: list[Gap] = []
        self.order = InOrder[Trade](
            {STREAM: place} if place else {},
            position_of=wire.position,
            open_gaps=lambda: self.gaps,
        )
        self.number = 0

    def offer(self, epoch: int, *numbers: int) -> list[Out]:
        out: list[Out] = []
        for seq in numbers:
            self.number += 1
            frame = Frame(*STREAM, wire.header(epoch, seq), b"", self.number)
            out += told(self.order.offer((self.number, frame), message(seq)))
        return out

    def settle(self) -> list[Out]:
        return told(self.order.settle())


def message(seq: int) -> Trade:
    return Trade(
        venue="V",
        symbol="S",
        event_time=seq,
        price=1.0,
        quantity=1.0,
        side="buy",
        trade_id=str(seq),
    )


def told(taken: list[Taken[Trade]]) -> list[Out]:
    out = []
    for (_, frame), trade, before in taken:
        position = wire.position(frame)
        assert position is not None
        assert trade.event_time == position[1]
        out.append((*position, before))
    return out


def gap(epoch: int, first: int, last: int) -> Gap:
    return Gap(
        feed=STREAM[0],
        topic=STREAM[1],
        epoch=epoch,
        first_seq=first,
        last_seq=last,
        reason="",
        detected_at=0,
    )


FIRST, SO_ON = Before.RESTART, Before.NOTHING


def test_numbers_in_order_come_out_at_once() -> None:
    fed = Fed()
    assert fed.offer(7, 1, 2, 3) == [(7, 1, FIRST), (7, 2, SO_ON), (7, 3, SO_ON)]
    assert len(fed.order) == 0
    assert fed.order.place(STREAM) == ((7, 3),)


def test_what_is_behind_a_hole_waits_until_it_is_filled() -> None:
    fed = Fed()
    fed.offer(7, 1)
    assert fed.offer(7, 4, 3, 5, 4) == []
    assert sorted(entry[0] for entry in fed.order.held()) == [2, 3, 4]
    fed.gaps = [gap(7, 2, 2)]
    assert fed.settle() == []
    assert fed.offer(7, 2) == [(7, n, SO_ON) for n in (2, 3, 4, 5)]
    assert fed.order.held() == []


def test_a_hole_that_no_open_gap_covers_is_lost_once_and_for_all() -> None:
    fed = Fed()
    fed.offer(7, 1)
    fed.offer(7, 5, 8)
    fed.gaps = [gap(7, 6, 7), gap(8, 2, 4)]
    assert fed.settle() == [(7, 5, Before.GAP)]
    assert fed.offer(7, 3, 5) == []  # too late
    fed.gaps = []
    assert fed.settle() == [(7, 8, Before.GAP)]
    assert fed.settle() == []
    assert fed.offer(7, 9) == [(7, 9, SO_ON)]


def test_a_new_epoch_comes_after_what_waits_of_the_old_one() -> None:
    fed = Fed()
    fed.offer(7, 1)
    assert fed.offer(7, 3) == []
    assert fed.offer(8, 1, 2) == []
    assert fed.offer(7, 2) == [(7, 2, SO_ON), (7, 3, SO_ON), (8, 1, FIRST), (8, 2, SO_ON)]
    assert fed.offer(7, 1, 2, 3) == []
    assert fed.offer(7, 4) == [(7, 4, FIRST)]  # two publishers take turns
    assert fed.offer(8, 3) == [(8, 3, FIRST)]


def test_the_first_numbers_of_an_epoch_are_waited_for_too() -> None:
    fed = Fed()
    assert fed.offer(7, 5) == []
    fed.gaps = [gap(7, 1, 4)]
    assert fed.settle() == []
    fed.gaps = []
    assert fed.settle() == [(7, 5, FIRST)]


def test_another_run_goes_on_from_the_place() -> None:
    fed = Fed()
    fed.offer(7, 1, 2)
    fed.offer(8, 1)
    again = Fed(fed.order)
    assert again.offer(7, 1, 2) == []
    assert again.offer(8, 1, 2) == [(8, 2, SO_ON)]


def test_frames_without_a_number_come_as_they_arrive() -> None:
    ordered = InOrder[Trade]({}, position_of=wire.position, open_gaps=list)
    entry = (1, Frame("f", b"t", b"", b"", 0))
    assert ordered.offer(entry, message(1)) == [(entry, message(1), SO_ON)]
    assert ordered.place(("f", b"t")) is None


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MOST_HELD", 10)
    monkeypatch.setattr(order, "FOLLOWED", 1)
    fed = Fed()
    fed.offer(7, 1)
    out = fed.offer(7, *range(3, 14))
    assert out[0] == (7, 3, Before.GAP)
    assert len(fed.order) == 0
    other = (99, Frame("f", b"V:TRADE:T ", wire.header(7, 5), b"", 0))
    assert fed.order.offer(other, message(5)) == [(other, message(5), SO_ON)]
    for epoch in range(8, 20):
        fed.offer(epoch, 1)
    assert fed.order.place(STREAM) == tuple((epoch, 1) for epoch in range(16, 20))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_any_order_of_arrival_comes_out_in_order_each_once(seed: int) -> None:
    random = Random(seed)
    epochs = {epoch: random.randrange(1, 30) for epoch in (7, 8)}
    lost = {(e, s) for e, last in epochs.items() for s in range(1, last) if random.random() < 0.2}
    arriving: list[tuple[int, int]] = []
    for epoch, last in epochs.items():
        numbers = [s for s in range(1, last + 1) if (epoch, s) not in lost]
        if random.random() < 0.5:
            random.shuffle(numbers)
        arriving += [(epoch, s) for s in numbers for _ in range(random.choice([1, 1, 2]))]
    fed = Fed()
    fed.gaps = [gap(7, 1, 1000), gap(8, 1, 1000)]
    out: list[Out] = []
    for epoch, seq in arriving:
        out += fed.offer(epoch, seq) + fed.settle()
        if random.random() < 0.1 and not len(fed.order):
            gaps, fed = fed.gaps, Fed(fed.order)
            fed.gaps = gaps
    fed.gaps = []
    out += fed.settle()
    came = sorted(set(arriving))
    assert [(epoch, seq) for epoch, seq, _ in out] == came
    for (epoch, seq, before), previous in zip(out, [None, *came], strict=False):
        if previous is None or previous[0] != epoch:
            assert before is Before.RESTART
        else:
            assert before is (SO_ON if previous[1] + 1 == seq else Before.GAP)
