"""The errors of ravenwh: the class of an error is the action taken on it.

::

    RavenwhError
    ├─ SettingsError    which key, what was found, what is allowed    -> exit 2
    ├─ DecodeError      bytes nobody can read                -> dead letter, raw bytes kept
    ├─ Rejected         the sink will never take this row    -> dead letter, write the rest
    │  ├─ UnknownSymbol    no rule of the venue resolves the symbol
    │  └─ SeriesTaken      another live symbol holds this series
    ├─ Unavailable      may heal                             -> keep the batch, back off, try on
    ├─ TooLarge         the sink refuses the size            -> split, go on
    ├─ JournalFull      no room to promise safety            -> stop reading, alarm
    ├─ SchemaMismatch   the database is not at a revision we serve    -> refuse to start
    ├─ UnknownName      a read names what is not there       -> tell the nearest names
    └─ Refused          a command that may not run as asked  -> say why and what to do, exit 1

Foreign errors (asyncpg, zmq, sqlite3) are translated into these at the room that owns the library,
in one table each.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "DecodeError",
    "JournalFull",
    "RavenwhError",
    "Refused",
    "Rejected",
    "SchemaMismatch",
    "SeriesTaken",
    "SettingsError",
    "TooLarge",
    "Unavailable",
    "UnknownName",
    "UnknownSymbol",
]


class RavenwhError(Exception):
    """Root of every error that ravenwh raises on purpose.

    ``exit_code`` is what a command or runner ends with when the error reaches its edge.
    """

    exit_code = 1


class SettingsError(RavenwhError):
    """The settings cannot be used; ``problems`` holds one line for each thing that is wrong."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DecodeError(RavenwhError):
    """Bytes that are no message of the wire they came on."""


class Rejected(RavenwhError):
    """A row that its sink will never take.

    ``code`` is a constant word for counting and filtering (``NOT_FINITE``, ``SERIES_TAKEN``, ...);
    the text of the exception is the reason for people. ``place`` is the row's in the batch that was
    refused for it, None where the sink did not say.
    """

    def __init__(self, reason: str, *, code: str = "REJECTED", place: int | None = None) -> None:
        self.code = code
        self.place = place
        super().__init__(reason)


class UnknownSymbol(Rejected):
    """No rule of the venue, and no entry of ``routing.symbol_map``, resolves the symbol."""

    def __init__(self, reason: str, *, code: str = "UNKNOWN_SYMBOL") -> None:
        super().__init__(reason, code=code)


class SeriesTaken(Rejected):
    """Another live symbol already holds this (coin, quote, exchange)."""

    def __init__(self, reason: str, *, code: str = "SERIES_TAKEN") -> None:
        super().__init__(reason, code=code)


class Unavailable(RavenwhError):
    """Something that is needed is away, and may come back.

    ``needs_person`` is true where waiting alone will not mend it (a wrong password, a missing
    right): the batch is still held, and an alarm is raised. ``retry_after_s`` are the seconds that
    it asked to be left alone; None where it asked for nothing.
    """

    def __init__(
        self, reason: str, *, needs_person: bool = False, retry_after_s: float | None = None
    ) -> None:
        self.needs_person = needs_person
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class TooLarge(RavenwhError):
    """The sink refuses the size of the batch, not its content."""


class JournalFull(RavenwhError):
    """The journal has reached its byte limit, so nothing more may be promised."""


class SchemaMismatch(RavenwhError):
    """The database is at a revision that this version cannot serve."""


class UnknownName(RavenwhError):
    """A read names a coin, quote, exchange or interval that the mart does not hold."""


class Refused(RavenwhError):
    """A command that may not run as asked; the text says why and what to do instead."""
