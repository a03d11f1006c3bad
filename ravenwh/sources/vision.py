"""Binance Vision files: one csv, by itself or in an archive, as a stream of messages.

With or without a header line, with line ends of either kind, with or without a byte order mark.
Blank lines are nothing; every other line is a message or a bad row.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import attrs

from ravenwh.domain.errors import Refused
from ravenwh.domain.messages import Candle, Trade
from ravenwh.sources.rows import COLUMNS, BadRow, Kind, parser

__all__ = ["OnBad", "VisionFile", "damage_told"]

OnBad = Callable[[str, int, str], None]
"""Told of each bad row: the file's label, the line (from 1) and the reason."""

BLOCK_BYTES = 1 << 18
MAX_LINE_BYTES = 4096  # a row has some 150; a file without line ends must not fill the memory

_ALIASES = {
    "quote_asset_volume": "quote_volume",
    "number_of_trades": "count",
    "taker_buy_base_asset_volume": "taker_buy_volume",
    "taker_buy_quote_asset_volume": "taker_buy_quote_volume",
    "base_qty": "quote_qty",  # trades of coin-margined futures
}
# What the standard library raises on archives that are cut, changed, locked or not archives.
_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    IndexError,
)


@attrs.frozen(kw_only=True)
class VisionFile:
    """One csv: a file by itself, or the ``member`` of an archive. ``interval`` is for klines."""

    path: Path
    member: str | None
    venue: str
    kind: Kind
    symbol: str
    interval: str | None

    @property
    def label(self) -> str:
        """The name that bad rows and errors give it."""
        return str(self.path if self.member is None else self.path / self.member)

    @property
    def origin(self) -> Path:
        """The file."""
        return self.path

    @property
    def subjects(self) -> tuple[tuple[str, str, str]]:
        """One."""
        return ((self.venue, "CANDLE" if self.kind == "klines" else "TRADE", self.symbol),)

    @property
    def noun(self) -> str:
        """What its messages are called in a report."""
        return "aggregate trades" if self.kind == "aggTrades" else self.kind

    def check(self) -> int:
        """Read it through once; the number of lines, an upper bound of its messages.

        Raises Refused where an archive is cut or its CRC is wrong, or where a header names other
        columns than the kind has: so no message of such a file is ever sent.
        """
        lines = 0
        last = b"\n"
        for number, block in enumerate(self._blocks()):
            if number == 0:
                self._is_header(block[:MAX_LINE_BYTES].split(b"\n", 1)[0])
            lines += block.count(b"\n")
            last = block[-1:]
        return lines + (last != b"\n")

    def messages(self, on_bad: OnBad) -> Iterator[Candle | Trade]:
        """Its messages in the order of its lines; the file stays open until they are used up.

        Raises Refused where the file turns out damaged, which :meth:`check` would have told.
        """
        parse = parser(self.kind, venue=self.venue, symbol=self.symbol, interval=self.interval)
        label = self.label
        for number, line in enumerate(_lines(self._blocks()), 1):
            if len(line) > MAX_LINE_BYTES:
                on_bad(label, number, f"the line is longer than {MAX_LINE_BYTES} bytes")
                continue
            try:
                message = parse(line)
            except BadRow as bad:
                if line.strip() and not (number == 1 and self._is_header(line)):
                    on_bad(label, number, str(bad))
                continue
            yield message

    def _is_header(self, line: bytes) -> bool:
        """Whether a first line names the columns; raises Refused if they are not those we read."""
        text = line.decode("ascii", "replace").strip().lower()
        names = [name.strip().strip('"').replace(" ", "_") for name in text.split(",")]
        columns = COLUMNS[self.kind]
        if names[0] != columns[0]:
            return False
        for name, column in zip(names, columns, strict=False):
            if _ALIASES.get(name, name) != column:
                raise Refused(
                    f"{self.label}:1: the header has the column {name!r} where {self.kind} have"
                    f" {column!r}; the columns must be {', '.join(columns)}, in this order"
                )
        return True

    def _blocks(self) -> Iterator[bytes]:
        """The bytes of the csv, never empty, without a byte order mark."""
        with ExitStack() as stack:
            with damage_told(self.label):
                if self.member is None:
                    stream: IO[bytes] = stack.enter_context(self.path.open("rb"))
                else:
                    archive = stack.enter_context(zipfile.ZipFile(self.path))
                    stream = stack.enter_context(archive.open(self.member))
                block = stream.read(BLOCK_BYTES).removeprefix(b"\xef\xbb\xbf")
            while block:
                yield block
                with damage_told(self.label):
                    block = stream.read(BLOCK_BYTES)


@contextmanager
def damage_told(label: str) -> Iterator[None]:
    """Turn what a file or archive that cannot be read raises into Refused."""
    try:
        yield
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise Refused(
            f"{label} cannot be read ({reason}); if it is cut or damaged, load it again"
        ) from error


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines without their line feed; of one that is too long, only a part that is too long."""
    tail = b""
    given = False  # whether the line that ``tail`` goes on with was given already
    for block in blocks:
        lines = (tail + block).split(b"\n")
        tail = lines.pop()
        if given and lines:
            del lines[0]
            given = False
        yield from lines
        if len(tail) > MAX_LINE_BYTES:
            if not given:
                yield tail
            tail, given = b"", True
    if not given:
        yield tail
