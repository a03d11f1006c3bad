"""What is wrong with a setting, in the parts that a message is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, time

import attrs

from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings.secret import without_credentials
from ravenwh.domain.settings.toml_text import dotted, toml_text

__all__ = ["Problem", "Unfit", "shown"]

_LONGEST_SHOWN = 100
_HUGE = 10**40


@attrs.frozen(kw_only=True)
class Problem:
    """One thing that is wrong: the key, in its parts, and what was found and is allowed."""

    path: tuple[str, ...] = ()
    text: str

    def within(self, name: str) -> Problem:
        """The same problem, seen from the table that holds ``name``."""
        return attrs.evolve(self, path=(name, *self.path))

    def line(self, origin: str = "") -> str:
        """One line for people; ``origin`` is where the value came from."""
        return f"{dotted(self.path)}{f' ({origin})' if origin else ''}: {self.text}"


class Unfit(SettingsError):
    """Values that are not allowed: the ``parts`` say which, and ``good`` holds what was."""

    def __init__(self, parts: Sequence[Problem], good: Mapping[str, object] | None = None) -> None:
        self.parts = tuple(parts)
        self.good = good or {}
        super().__init__([part.line() for part in self.parts])


def shown(value: object) -> str:
    """A found value for a message: short, and without the credentials of an address."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "an array"
    if isinstance(value, str):
        text = toml_text(without_credentials(value))
    elif isinstance(value, int) and abs(value) >= _HUGE:
        return "a whole number of more than 40 digits"
    elif isinstance(value, bool | int | float | date | time):
        text = toml_text(value)
    else:
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
