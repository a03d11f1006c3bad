"""Where the value of a setting came from."""

from __future__ import annotations

from pathlib import Path

import attrs

__all__ = ["DEFAULT", "Source"]


@attrs.frozen(kw_only=True)
class Source:
    """The declared default, a key of the settings file, or a variable of the environment.

    ``name`` is the key as it stands in the file, or the name of the variable.
    """

    name: str = ""
    file: Path | None = None

    def __str__(self) -> str:
        if self.file is not None:
            return f"{self.file}:{self.name}"
        return self.name or "default"

    def beside(self, key: str) -> str:
        """The same for a line that begins with ``key``: its table is not told twice."""
        if self.file is not None and f"{key}.".startswith(f"{self.name}."):
            return str(self.file)
        return str(self)


DEFAULT = Source()
