"""The ring of what was sent: bounded, without holes, and fair to topics that seldom speak."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from ravenwh.feed.ring import MESSAGE_BYTES, Kept, Ring

EACH = 36 + MESSAGE_BYTES
TOPICS = [b"A:TRADE:x ", b"A:TRADE:y ", b"B:CANDLE:x ", b"B:CANDLE:y "]


def payload(number: int, size: int = 36) -> bytes:
    return number.to_bytes(4, "big") + b"." * (size - 4)


def kept(ring: Ring, topic: bytes) -> list[bytes]:
    there = ring.kept(topic)
    assert there is not None
    return ring.payloads(topic, there.oldest, there.last)


def test_what_was_sent_can_be_had_again() -> None:
    ring = Ring(1_000_000)
    for number in range(1, 101):
        assert ring.next_seq(TOPICS[0]) == number
        ring.add(TOPICS[0], payload(number))
    assert ring.kept(TOPICS[0]) == Kept(TOPICS[0], 1, 100)
    assert ring.payloads(TOPICS[0], 41, 43) == [payload(41), payload(42), payload(43)]
    assert ring.kept(TOPICS[1]) is None
    assert (ring.sent, len(ring), ring.size) == (100, 100, 100 * EACH)


def test_what_is_oldest_goes_first_whatever_its_topic() -> None:
    ring = Ring(10 * EACH)
    for number in range(1, 9):
        ring.add(TOPICS[0], payload(number))
    for number in range(1, 9):
        ring.add(TOPICS[1], payload(number))
    assert ring.kept(TOPICS[0]) == Kept(TOPICS[0], 7, 8)
    assert ring.kept(TOPICS[1]) == Kept(TOPICS[1], 1, 8)


def test_a_topic_that_seldom_speaks_is_not_forgotten() -> None:
    ring = Ring(10 * EACH)
    ring.add(TOPICS[2], payload(7))
    for number in range(1, 10_001):
        ring.add(TOPICS[0], payload(number))
    assert kept(ring, TOPICS[2]) == [payload(7)]
    assert ring.kept(TOPICS[0]) == Kept(TOPICS[0], 9_992, 10_000)
    ring.add(TOPICS[2], payload(8))  # its older one may go now, and does in its turn
    for number in range(10_001, 10_021):
        ring.add(TOPICS[0], payload(number))
    assert kept(ring, TOPICS[2]) == [payload(8)]


def test_more_topics_than_there_is_room_for() -> None:
    ring = Ring(3 * EACH)
    for topic in TOPICS:
        ring.add(topic, payload(1))
    assert ring.kept(TOPICS[0]) == Kept(TOPICS[0], 2, 1)  # it had to go, and its number is known
    assert kept(ring, TOPICS[0]) == []
    assert [len(kept(ring, topic)) for topic in TOPICS[1:]] == [1, 1, 1]
    assert ring.next_seq(TOPICS[0]) == 2


def test_a_message_larger_than_the_ring_is_not_kept() -> None:
    ring = Ring(1_000)
    ring.add(TOPICS[0], payload(1))
    ring.add(TOPICS[1], payload(1, size=2_000))
    assert (len(ring), ring.size) == (0, 0)
    ring.add(TOPICS[1], payload(2))
    assert ring.kept(TOPICS[1]) == Kept(TOPICS[1], 2, 2)


def test_topics_come_in_order_from_where_one_asks() -> None:
    ring = Ring(1_000_000)
    for topic in reversed(TOPICS):
        ring.add(topic, payload(1))

    def names(prefix: bytes, after: bytes, limit: int = 10) -> list[bytes]:
        return [kept.topic for kept in ring.topics(prefix, after, limit)]

    assert names(b"", b"") == TOPICS
    assert names(b"A:", b"") == TOPICS[:2]
    assert names(b"B:CANDLE:x", b"") == TOPICS[2:3]
    assert names(b"", TOPICS[1]) == TOPICS[2:]
    assert names(b"A:", TOPICS[0]) == TOPICS[1:2]
    assert names(b"B", TOPICS[0]) == TOPICS[2:]
    assert names(b"", b"", 2) == TOPICS[:2]
    assert names(b"C", b"") == []
    assert names(b"", b"\xff") == []


@given(
    st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(min_value=4, max_value=400))),
    st.integers(min_value=1, max_value=3_000),
)
def test_it_is_a_window_on_each_topic_within_its_bytes(
    added: list[tuple[bytes, int]], max_bytes: int
) -> None:
    ring = Ring(max_bytes)
    sent: dict[bytes, list[bytes]] = {}
    before: dict[bytes, list[bytes]] = {}
    for number, (topic, size) in enumerate(added):
        ring.add(topic, payload(number, size))
        sent.setdefault(topic, []).append(payload(number, size))
        left = {name: kept(ring, name) for name in sent}
        for name, payloads in sent.items():
            there = ring.kept(name)
            assert there is not None
            assert there.last == len(payloads)
            assert left[name] == payloads[there.oldest - 1 :]
        everything = [one for payloads in left.values() for one in payloads]
        assert len(ring) == len(everything)
        assert ring.size == sum(len(one) + MESSAGE_BYTES for one in everything) <= max_bytes
        emptied = [name for name in before if before[name] and not left[name]]
        assert not emptied or all(len(payloads) <= 1 for payloads in left.values())
        before = left
    assert ring.sent == len(added)
