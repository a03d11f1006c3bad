"""Asking the publishers of feeds for what did not arrive."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import attrs

from ravenwh.domain.errors import Unavailable
from ravenwh.feed import wire
from ravenwh.feed.control import (
    Answer,
    ControlError,
    Positions,
    Request,
    Resend,
    Resent,
    Sequences,
)
from ravenwh.feed.control_client import ControlClient
from ravenwh.ports import Frame

__all__ = ["FeedResender"]

_MOST_TOPICS = 65_536
"""Topics of a feed that are followed; more than that is no market."""

_GONE = frozenset({"UNKNOWN_EPOCH", "UNKNOWN_TOPIC"})
"""What a publisher says where nothing more can be had, and asking again does not help."""

AnswerT = TypeVar("AnswerT", bound=Answer)


@attrs.frozen(kw_only=True)
class FeedResender:
    """A Resender over the control endpoints of the feeds that have one.

    ``wanted`` gives what is subscribed to of a feed now: topics, or prefixes of topics.
    """

    clients: Mapping[str, ControlClient]
    wanted: Callable[[str], Iterable[bytes]]

    async def positions(self, feed: str) -> dict[bytes, tuple[int, int, int]]:
        """Of each topic of the feed that we want: epoch, oldest number there, last number sent.

        None at all where the feed has no control endpoint. Raises Unavailable where nobody answers,
        or where who answers cannot tell.
        """
        client = self.clients.get(feed)
        wanted = list(self.wanted(feed))
        if client is None or not wanted:
            return {}
        topics, prefixes = set(wanted), tuple(t for t in wanted if not t.endswith(b" "))
        prefix = _common_prefix(wanted).decode(errors="ignore")
        found: dict[bytes, tuple[int, int, int]] = {}
        listed, after, epoch = 0, "", 0
        while True:
            page, _ = await _asked(client, Sequences(prefix=prefix, after=after), Positions)
            if epoch not in (0, page.epoch):
                raise Unavailable(f"the publisher of feed {feed} started again while it was asked")
            epoch = page.epoch
            for position in page.topics:
                topic = position.topic.encode()
                if topic in topics or topic.startswith(prefixes):
                    found[topic] = (epoch, position.oldest, position.last)
            if page.complete:
                return found
            listed += len(page.topics)
            if not page.topics or listed > _MOST_TOPICS:
                raise client.nonsense(f"{listed} topics, and no end of them")
            after = page.topics[-1].topic

    async def resend(
        self, feed: str, topic: bytes, epoch: int, first: int, last: int
    ) -> list[Frame]:
        """The frames with these numbers, both included, that are still there, in order.

        Perhaps only the first of them: ask again for the rest. None where no more can be had.
        Raises Unavailable where nobody answers, or where who answers cannot resend.
        """
        client = self.clients.get(feed)
        if client is None:
            return []
        try:
            request = Resend(topic=topic.decode(), epoch=epoch, first=first, last=last)
        except UnicodeDecodeError:  # no publisher that resends has such a topic
            return []
        try:
            result, parts = await _asked(client, request, Resent)
        except ControlError:
            return []
        if result.first is None or result.last is None:
            return []
        headers, payloads = parts[::2], parts[1::2]
        if not (first <= result.first <= result.last <= last) or not (
            len(headers) == len(payloads) == result.last - result.first + 1
        ):
            raise client.nonsense(f"{result.first} to {result.last} in {len(parts)} frames")
        numbers = range(result.first, result.last + 1)
        if headers != [wire.header(epoch, seq) for seq in numbers]:
            raise client.nonsense("headers of other messages than the reply names")
        now = time.time_ns()
        return [
            Frame(feed, topic, header, payload, now)
            for header, payload in zip(headers, payloads, strict=True)
        ]


def _common_prefix(topics: Sequence[bytes]) -> bytes:
    """What all of them begin with; the first and the last in order differ the earliest."""
    low, high = min(topics), max(topics)
    same = (one == other for one, other in zip(low, high, strict=False))
    return low[: sum(1 for _ in itertools.takewhile(bool, same))]


async def _asked(
    client: ControlClient, request: Request, to: type[AnswerT]
) -> tuple[AnswerT, Sequence[bytes]]:
    """What the client gives; a refusal is a ControlError only where it says that it is gone."""
    try:
        return await client.ask(request, to)
    except ControlError as error:
        if error.code in _GONE:
            raise
        raise Unavailable(str(error), needs_person=True) from None
