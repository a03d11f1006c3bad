"""What this package raises, all of it.

::

TimescaleError
├─ DeclarationError   a declaration breaks a rule; names the declaration and the rule
├─ LevelError         the server is not what was asked for; says who must do what
└─ MigrationError     an operation cannot run as written; says what to do instead
"""

from __future__ import annotations

__all__ = ["DeclarationError", "LevelError", "MigrationError", "TimescaleError"]


class TimescaleError(Exception):
    """Root of the errors of this package."""


class DeclarationError(TimescaleError, ValueError):
    """A declaration that TimescaleDB would refuse, or that would lose data or hide rows.

    ``times`` are those that the rule is about, each a table or aggregate and the name that
    :func:`~ravenwh.timescale.with_policies` has for one of its times.
    """

    def __init__(
        self, declaration: str, rule: str, *, times: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.declaration = declaration
        self.rule = rule
        self.times = times
        super().__init__(f"{declaration}: {rule}")


class LevelError(TimescaleError):
    """The stated engine level is not there, or not any more."""


class MigrationError(TimescaleError):
    """An operation that cannot be done on this database as it was written."""
