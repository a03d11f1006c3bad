"""Recorded frames of cryptofeed, as the wire had them."""

from __future__ import annotations

import gzip
from pathlib import Path

from ravenwh.ports import Frame

RECEIVED_AT = 1_767_225_600_000_000_000  # 2026-01-01: all of them were recorded before


def messages_of(file: Path) -> list[bytes]:
    """The messages of a file, one part each, in the order of receipt."""
    with gzip.open(file, "rb") as lines:
        return [line.rstrip(b"\n") for line in lines]


def frame_of(message: bytes, feed: str = "cryptofeed") -> Frame:
    """The frame that a feed of this wire makes of a message."""
    topic, _, payload = message.partition(b" ")
    return Frame(feed, topic, b"", payload, RECEIVED_AT)
