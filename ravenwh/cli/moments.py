"""Times on the command line, and times in what is printed."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from ravenwh.domain.series import from_ns

__all__ = ["moment", "shown"]


def moment(text: str) -> datetime:
    """A date or a time, in UTC where it says no zone. Ends with a usage error for the rest."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"found {text!r}, allowed are dates and times as 2024-01-31 and 2024-01-31T12:00:00Z"
        ) from None
    return at.replace(tzinfo=at.tzinfo or UTC)


def shown(ns: int) -> str:
    """Nanoseconds since 1970 as a time in UTC, to the second."""
    return f"{from_ns(ns):%Y-%m-%dT%H:%M:%SZ}"
