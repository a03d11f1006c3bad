"""The kinds of a setting's value: what each allows, and how it is read, shown and written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

import attrs

from ravenwh.domain.settings.problem import Problem, Unfit, shown
from ravenwh.domain.settings.secret import MASK, Secret
from ravenwh.domain.settings.toml_text import toml_text

__all__ = [
    "Choice",
    "FilePath",
    "Hidden",
    "Kind",
    "Moment",
    "Number",
    "Text",
    "Texts",
    "Whole",
]

T = TypeVar("T")
WordT = TypeVar("WordT", bound=str)


@attrs.frozen(kw_only=True)
class Kind(Generic[T]):
    """What values a setting may have. ``scalar`` ones can come from the environment."""

    scalar = True

    @property
    def allowed(self) -> str:
        """What is allowed, in a few words."""
        raise NotImplementedError

    def read(self, value: object) -> T:
        """The value as the program uses it; reading that once more changes nothing.

        Raises Unfit.
        """
        raise NotImplementedError

    def from_text(self, text: str) -> object:
        """What TOML would hold for the text of a variable; the text itself where nothing fits."""
        return text

    def plain(self, value: T) -> object:
        """The value in the types of TOML, secrets masked."""
        return value

    def unfit(self, value: object) -> Unfit:
        """The error that says what was found and what is allowed."""
        return Unfit([Problem(text=f"found {shown(value)}; allowed: {self.allowed}")])


@attrs.frozen(kw_only=True)
class Whole(Kind[int]):
    """A whole number, both bounds included."""

    least: int
    most: int

    @property
    def allowed(self) -> str:
        """The range."""
        return f"a whole number from {toml_text(self.least)} to {toml_text(self.most)}"

    def read(self, value: object) -> int:
        """No booleans, no fractions."""
        if type(value) is int and self.least <= value <= self.most:
            return value
        raise self.unfit(value)

    def from_text(self, text: str) -> object:
        """Decimal digits, with the underscores of TOML."""
        return int(text) if re.fullmatch(r"[+-]?[0-9](_?[0-9]){0,30}", text) else text


@attrs.frozen(kw_only=True)
class Number(Kind[float]):
    """A finite number, both bounds included."""

    least: float
    most: float

    @property
    def allowed(self) -> str:
        """The range."""
        return f"a number from {self.least:g} to {self.most:g}"

    def read(self, value: object) -> float:
        """Whole numbers become floats; NaN lies in no range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.unfit(value)
        if self.least <= value <= self.most:
            return float(value)
        raise self.unfit(value)

    def from_text(self, text: str) -> object:
        """Decimal or with an exponent."""
        pattern = r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?"
        number = float(text) if re.fullmatch(pattern, text) else math.nan
        return number if math.isfinite(number) else text


@attrs.frozen(kw_only=True)
class Text(Kind[str]):
    """A string that matches ``pattern`` as a whole; ``rule`` says the same for people."""

    rule: str
    pattern: str | None = None
    fits: Callable[[str], bool] | None = None

    @property
    def allowed(self) -> str:
        """The rule."""
        return self.rule

    def read(self, value: object) -> str:
        """Strings only."""
        if (
            isinstance(value, str)
            and (self.pattern is None or re.fullmatch(self.pattern, value))
            and (self.fits is None or self.fits(value))
        ):
            return value
        raise self.unfit(value)


@attrs.frozen(kw_only=True)
class Choice(Kind[WordT], Generic[WordT]):
    """One of some words; with ``any_case``, however it is written."""

    words: tuple[WordT, ...]
    any_case: bool = False

    @property
    def allowed(self) -> str:
        """The words."""
        return "one of " + ", ".join(toml_text(word) for word in self.words)

    def read(self, value: object) -> WordT:
        """The word as it is declared."""
        if isinstance(value, str):
            for word in self.words:
                if value == word or (self.any_case and value.lower() == word.lower()):
                    return word
        raise self.unfit(value)


@attrs.frozen(kw_only=True)
class FilePath(Kind[Path]):
    """A file or folder. Resolving against a folder, and ``~``, is the loader's."""

    rule: str

    @property
    def allowed(self) -> str:
        """The rule."""
        return self.rule

    def read(self, value: object) -> Path:
        """Any string that may be a path."""
        if isinstance(value, Path):
            return value
        if isinstance(value, str) and value and "\0" not in value:
            return Path(value)
        raise self.unfit(value)

    def plain(self, value: Path) -> object:
        """The path as a string."""
        return str(value)


@attrs.frozen(kw_only=True)
class Moment(Kind[datetime]):
    """A time, aware and in UTC."""

    @property
    def allowed(self) -> str:
        """An example of it."""
        return "a date and time in UTC without quotes, as in 2024-05-28T00:00:00Z"

    def read(self, value: object) -> datetime:
        """Refuses local times and other offsets: neither is a mistake to repair in silence."""
        if isinstance(value, datetime) and value.utcoffset() == timedelta(0):
            return value.astimezone(UTC)
        raise self.unfit(value)


@attrs.frozen(kw_only=True)
class Hidden(Kind[Secret]):
    """A secret. ``rule`` describes what it must match, without telling it."""

    rule: str = "a string without control characters, not empty"
    pattern: str = r"[^\x00-\x1f\x7f]+"

    @property
    def allowed(self) -> str:
        """The rule."""
        return self.rule

    def read(self, value: object) -> Secret:
        """A string, or a secret; one that is read from a file is read here once."""
        secret = Secret(value) if isinstance(value, str) else value
        if isinstance(secret, Secret) and re.fullmatch(self.pattern, secret.reveal()):
            return secret
        raise self.unfit(value)

    def plain(self, value: Secret) -> object:
        """The mask."""
        return str(value)

    def unfit(self, value: object) -> Unfit:
        """Of what was found it tells nothing but what is no string."""
        found = MASK if isinstance(value, str | Secret) else "no string"
        return Unfit([Problem(text=f"found {found}; allowed: {self.allowed}")])


@attrs.frozen(kw_only=True)
class Texts(Kind[tuple[str, ...]]):
    """An array of strings, each once; with ``single``, one string stands for an array of it."""

    item: Kind[str]
    least: int = 0
    single: bool = False

    @property
    def scalar(self) -> bool:  # type: ignore[override]  # a constant of most kinds
        """Whether one string will do."""
        return self.single

    @property
    def allowed(self) -> str:
        """What an item may be."""
        either = "a string or " if self.single else ""
        few = ", at least one" if self.least else ""
        return f"{either}an array{few}, none twice, each {self.item.allowed}"

    def read(self, value: object) -> tuple[str, ...]:
        """In the order given."""
        items = [value] if self.single and isinstance(value, str) else value
        if not isinstance(items, list | tuple) or len(items) < self.least:
            raise self.unfit(value)
        problems: list[Problem] = []
        read: list[str] = []
        for item in items:
            try:
                read.append(self.item.read(item))
            except Unfit as error:
                problems += error.parts
        problems += [
            Problem(text=f"found {shown(item)} twice; allowed: each once")
            for item in dict.fromkeys(read)
            if read.count(item) > 1
        ]
        if problems:
            raise Unfit(problems)
        return tuple(read)

    def plain(self, value: tuple[str, ...]) -> object:
        """An array."""
        return list(value)
