"""What is spoken at the endpoints of feeds: one line a wire."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import attrs

from ravenwh.domain.messages import Message
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Settings
from ravenwh.feed import wire
from ravenwh.feed.cryptofeed import topics
from ravenwh.feed.cryptofeed.decoder import CryptofeedDecoder
from ravenwh.ports import Decoder, Frame, Stream

__all__ = ["WIRES", "decoder_of", "venue_of"]

Subscriptions = Callable[[str, Mapping[str, Iterable[str] | None]], tuple[bytes, ...]]


def _raven(register: Register) -> Decoder:
    return wire.decode


def _cryptofeed(register: Register) -> Decoder:
    return CryptofeedDecoder(register=register)


@attrs.frozen
class _Wire:
    subscriptions: Subscriptions
    """What to subscribe to, by data type and by the symbols of each venue."""
    decoder: Callable[[Register], Decoder]
    one_part: bool = False


WIRES: Mapping[str, _Wire] = {
    "raven": _Wire(wire.subscriptions, _raven),
    "cryptofeed": _Wire(topics.subscriptions, _cryptofeed, one_part=True),
}
"""By their names in the settings, ``feeds.<name>.wire``."""


def venue_of(stream: Stream) -> str:
    """Who speaks on a stream, as its wire names it."""
    head = stream[1][:200].decode("utf-8", "replace")
    return re.split("[:-]", head, maxsplit=1)[0]


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
