"""A day of a measurement: what is exported at a time."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

__all__ = ["DAY", "TickDay"]

DAY = timedelta(days=1)


@attrs.frozen(kw_only=True, order=True)
class TickDay:
    """The points of a measurement from ``day``, the beginning of a day in UTC, to the next one."""

    day: datetime
    measurement: str

    @property
    def end(self) -> datetime:
        """The beginning of the next day."""
        return self.day + DAY

    def __str__(self) -> str:
        return f"{self.measurement} {self.day:%Y-%m-%d}"
