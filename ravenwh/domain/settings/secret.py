"""A secret: shown as ``***`` everywhere, and told only to who asks for it by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

__all__ = ["MASK", "Secret", "without_credentials"]

MASK = "***"
_CREDENTIALS = re.compile(r"://.*@", re.DOTALL)


class Secret:
    """A string that ``repr``, ``str`` and formatting never show.

    ``source`` is the string, or what reads it: that is asked again at every :meth:`reveal`, so that
    a rotated secret is seen. ``file`` names where it is read from, for people; two secrets are
    equal if they are read from the same file, or hold the same string.

    Not an attrs class: ``attrs.asdict`` of the settings would open it.
    """

    __slots__ = ("_file", "_source")

    def __init__(self, source: str | Callable[[], str], file: Path | None = None) -> None:
        self._source = source
        self._file = file

    @property
    def file(self) -> Path | None:
        """Where it is read from, or None where it was given as it is."""
        return self._file

    def reveal(self) -> str:
        """The secret, as it is now. What a reader raises passes through."""
        return self._source if isinstance(self._source, str) else self._source()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def _identity(self) -> object:
        return self._source if self._file is None else self._file


def without_credentials(text: str) -> str:
    """The text with what stands between ``://`` and ``@`` masked; wrong addresses are shown too."""
    return _CREDENTIALS.sub(f"://{MASK}@", text)
