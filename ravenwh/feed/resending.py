"""Sending again, at the publisher: the requests Sequences and Resend on its ring."""

from __future__ import annotations

from ravenwh.feed import wire
from ravenwh.feed.control import (
    MAX_REPLY_BYTES,
    ControlError,
    Position,
    Positions,
    Resend,
    Resent,
    Sequences,
    Served,
)
from ravenwh.feed.control_server import Handlers
from ravenwh.feed.publisher import Publisher

__all__ = ["MOST_MESSAGES", "MOST_TOPICS", "resend_handlers"]

MOST_TOPICS = 1000
MOST_MESSAGES = 1000


def resend_handlers(publisher: Publisher) -> Handlers:
    """What a ControlServer answers for a publisher."""

    async def sequences(request: Sequences) -> Served:
        prefix, after = request.prefix.encode(), request.after.encode()
        found = publisher.ring.topics(prefix, after, MOST_TOPICS + 1)
        topics = tuple(
            Position(kept.topic.decode(), kept.oldest, kept.last) for kept in found[:MOST_TOPICS]
        )
        complete = len(found) <= MOST_TOPICS
        return Positions(epoch=publisher.epoch, topics=topics, complete=complete), ()

    async def resend(request: Resend) -> Served:
        topic, epoch = request.topic.encode(), publisher.epoch
        if request.epoch != epoch:
            raise ControlError("UNKNOWN_EPOCH", f"epoch: found {request.epoch}, allowed is {epoch}")
        kept = publisher.ring.kept(topic)
        if kept is None:
            raise ControlError(
                "UNKNOWN_TOPIC",
                f"topic: found {wire.shown(request.topic)}, allowed is what Sequences lists",
            )
        first, last = max(request.first, kept.oldest), min(request.last, kept.last)
        if first > last:
            nothing = Resent(epoch=epoch, topic=request.topic, first=None, last=None, complete=True)
            return nothing, ()
        frames: list[bytes] = []
        size = 0
        last_of_piece = min(last, first + MOST_MESSAGES - 1)
        for seq, payload in enumerate(publisher.ring.payloads(topic, first, last_of_piece), first):
            size += wire.HEADER_BYTES + len(payload)
            if frames and size > MAX_REPLY_BYTES:
                last_of_piece = seq - 1
                break
            frames += (wire.header(epoch, seq), payload)
        result = Resent(
            epoch=epoch,
            topic=request.topic,
            first=first,
            last=last_of_piece,
            complete=last_of_piece == last,
        )
        return result, frames

    return {Sequences: sequences, Resend: resend}
