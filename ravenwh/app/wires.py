"""What is spoken at the endpoints of feeds: one line a wire."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import attrs

from ravenwh.domain.errors import DecodeError, Rejected
from ravenwh.domain.messages import Message
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Settings
from ravenwh.domain.symbols.cryptofeed import EXCHANGES
from ravenwh.feed import wire
from ravenwh.feed.cryptofeed import topics
from ravenwh.feed.cryptofeed.decoder import CryptofeedDecoder
from ravenwh.ports import Decoder, Frame, Stream

__all__ = ["WIRES", "Subject", "decoder_of", "subject_of"]

Subject = tuple[str, str | None]
"""A venue and one of its symbols in our words; None where a stream carries several."""

Subscriptions = Callable[[str, Mapping[str, Iterable[str] | None]], tuple[bytes, ...]]


def _raven(register: Register) -> Decoder:
    return wire.decode


def _cryptofeed(register: Register) -> Decoder:
    return CryptofeedDecoder(register=register)


def _raven_subject(topic: bytes, register: Register) -> Subject:
    found = wire.parse_topic(topic)
    return found.venue, found.symbol


def _cryptofeed_subject(topic: bytes, register: Register) -> Subject:
    key, exchange, symbol = topics.parse(topic)
    if exchange is None or symbol is None:
        return key, None
    if exchange not in EXCHANGES:
        return exchange, symbol
    return register.from_cryptofeed(exchange, symbol)


@attrs.frozen
class _Wire:
    subscriptions: Subscriptions
    """What to subscribe to, by data type and by the symbols of each venue."""
    decoder: Callable[[Register], Decoder]
    subject: Callable[[bytes, Register], Subject]
    one_part: bool = False


WIRES: Mapping[str, _Wire] = {
    "raven": _Wire(wire.subscriptions, _raven, _raven_subject),
    "cryptofeed": _Wire(topics.subscriptions, _cryptofeed, _cryptofeed_subject, one_part=True),
}
"""By their names in the settings, ``feeds.<name>.wire``."""


def subject_of(settings: Settings, register: Register) -> Callable[[Stream], Subject]:
    """Who speaks on a stream of the feeds, and of what; of a topic that is none, its first word."""

    def find(stream: Stream) -> Subject:
        feed, topic = stream
        try:
            return WIRES[settings.feeds[feed].wire].subject(topic, register)
        except (DecodeError, Rejected):
            head = topic[:200].decode("utf-8", "replace")
            return re.split("[:-]", head, maxsplit=1)[0], None

    return find


def decoder_of(settings: Settings, register: Register) -> Decoder:
    """The Decoder of all feeds: each frame is read by the wire of its feed.

    Frames in the journal may be of a feed that the settings no longer name: then the header tells,
    which the raven wire has and cryptofeed's has not.
    """
    decoders = {name: WIRES[feed.wire].decoder(register) for name, feed in settings.feeds.items()}
    numbered, bare = (WIRES[name].decoder(register) for name in ("raven", "cryptofeed"))

    def decode(frame: Frame) -> Message | None:
        decode_one = decoders.get(frame.feed)
        if decode_one is None:
            decode_one = numbered if frame.header else bare
        return decode_one(frame)

    return decode
