"""The recorded trades: of a venue's archive and, for a part of them, as a live feed sent them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ravenwh.app.wires import WIRES
from ravenwh.domain.messages import Message, Trade
from ravenwh.domain.register import Register
from ravenwh.sources.catalog import find_files
from tests.recorded import frame_of, messages_of

COUNT = 43_218
SHARED = 31_070
"""Trades of the archive that are in the recorded frames too."""


def archived_trades(shared_data: Path) -> list[Trade]:
    """The trades of the archive, in its order."""
    found: list[Trade] = []
    for folder, venue in (("spot", "BINANCE_SPOT"), ("um", "BINANCE_FUTURES")):
        files, _ = find_files([shared_data / "trades_vision" / folder], venue=venue)
        for file in files:
            found += [m for m in file.messages(_complain) if isinstance(m, Trade)]
    assert len(found) == COUNT
    return found


def live_frames(shared_data: Path) -> list[bytes]:
    """The frames of trades of a live feed, as cryptofeed sent them."""
    files = sorted((shared_data / "wire").glob("HFT_*.frames.txt.gz"))
    assert len(files) == 2
    return [m for file in files for m in messages_of(file) if b"-trades-" in m[:40]]


def live_trades(shared_data: Path) -> list[Trade]:
    """What these frames carry."""
    decode = WIRES["cryptofeed"].decoder(Register())
    messages = (decode(frame_of(frame)) for frame in live_frames(shared_data))
    return [m for m in messages if isinstance(m, Trade)]


def checksum(trades: Iterable[Message]) -> str:
    """Of all that a venue says of the trades, whatever their order."""
    said = sorted(msgspec.json.encode(replace(trade, producer="")) for trade in trades)
    return hashlib.sha256(b"\n".join(said)).hexdigest()


def _complain(*told: object) -> None:
    raise AssertionError(told)
