"""What a write-ahead log holds, before SQLite has looked at it.

SQLite cuts what was not wholly written off without a word. To tell of it, somebody has to count
before. The layout is SQLite's own: https://www.sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

import struct
from pathlib import Path

__all__ = ["pages_in"]

_HEADER = struct.Struct(">IIIIIIII")  # magic, version, page size, checkpoint, salts, checksum
_PAGE_HEADER = struct.Struct(">IIIIII")  # page, size after a commit, salts, checksum
LONGEST = 1 << 16


def pages_in(path: Path) -> int:
    """How many pages the log has, whether whole or not; 0 where there is none.

    Pages behind those of the last turn are older and count for nothing: each turn has salts of its
    own. Where the header itself is damaged nothing can be told apart, and all of it counts.
    """
    try:
        with path.open("rb") as log:
            raw, size = log.read(_HEADER.size), path.stat().st_size
            if len(raw) < _HEADER.size:
                return 0
            _, _, page_size, _, *salts, one, two = _HEADER.unpack(raw)
            if (one, two) != _checksum(raw[:-8]):
                return max(1, (size - _HEADER.size) // (_PAGE_HEADER.size + LONGEST))
            pages = 0
            while len(found := log.read(_PAGE_HEADER.size)) == _PAGE_HEADER.size:
                if list(_PAGE_HEADER.unpack(found)[2:4]) != salts:
                    return pages
                pages += 1
                log.seek(page_size, 1)
            return pages + (len(found) > 0)
    except FileNotFoundError:
        return 0


def _checksum(raw: bytes) -> tuple[int, int]:
    """SQLite's checksum of some pairs of words; the last bit of the magic number is their order."""
    words = struct.unpack(f"{'>' if raw[3] & 1 else '<'}{len(raw) // 4}I", raw)
    one = two = 0
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
