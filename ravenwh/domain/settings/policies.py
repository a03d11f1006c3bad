"""Other times for the policies of a table or rollup than its model declares."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from ravenwh.domain.settings.kinds import Text
from ravenwh.domain.settings.option import Section, optional

__all__ = ["NEVER", "RELATION", "PolicyTimes"]

NEVER = "never"
"""In place of an interval: there is no such policy."""

RELATION = Text(
    pattern="[a-z_][a-z0-9_]{0,62}",
    rule="the name of a table or rollup, as in fact__kline or agg__kline_1h",
)

_MOST = {
    "second": 99_999,
    "minute": 99_999,
    "hour": 99_999,
    "day": 73_000,
    "week": 10_400,
    "month": 2400,
    "year": 200,
}
"""The units and how many of each: the server counts back from now, and its times begin in -4713."""


def _is_interval(text: str) -> bool:
    words = text.split(" ")
    counts, units = words[::2], [word.removesuffix("s") for word in words[1::2]]
    return (
        len(counts) == len(units) == len(set(units))
        and all(re.fullmatch("[0-9]{1,5}", count) for count in counts)
        and all(int(n) <= _MOST.get(unit, -1) for n, unit in zip(counts, units, strict=True))
        and any(int(count) for count in counts)
    )


def _is_interval_or_never(text: str) -> bool:
    return text == NEVER or _is_interval(text)


_RULE = 'an interval longer than nothing, as in "400 days", "12 hours" or "1 month"'

INTERVAL = Text(fits=_is_interval, rule=_RULE)
INTERVAL_OR_NEVER = Text(fits=_is_interval_or_never, rule=f'{_RULE}; or "{NEVER}"')


@attrs.frozen(kw_only=True)
class PolicyTimes(Section):
    """Other times for the policies of one table or rollup than those declared on the models."""

    retention: str | None = optional(
        INTERVAL_OR_NEVER,
        absent="as declared: never, rows are kept for ever",
        help="Rows older than this are dropped for good, a whole chunk at a time.",
        example="400 days",
    )
    columnstore_after: str | None = optional(
        INTERVAL_OR_NEVER,
        absent="as declared",
        help="Chunks older than this are stored by column, which is smaller, and slower to change.",
        example="14 days",
    )
    refresh_start: str | None = optional(
        INTERVAL,
        absent="as declared",
        help="How far back a refresh of a rollup looks. What changes in older rows waits for "
        "ravenwh refresh.",
        example="3 days",
    )
    refresh_end: str | None = optional(
        INTERVAL,
        absent="as declared",
        help="How much of the newest a refresh of a rollup leaves out; reads add it themselves.",
        example="1 hour",
    )
    refresh_schedule: str | None = optional(
        INTERVAL,
        absent="as declared",
        help="How often a rollup is refreshed.",
        example="30 minutes",
    )

    @property
    def given(self) -> Mapping[str, str | None]:
        """What is given, by its key; None where there is to be no such policy."""
        times = attrs.asdict(self)
        return {
            name: None if time == NEVER else time
            for name, time in times.items()
            if time is not None
        }
