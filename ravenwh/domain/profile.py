"""The interval of a bar: the name of its profile, and by which parameters it is made."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ravenwh.domain.interval import Interval, parse_interval
from ravenwh.domain.messages import Candle

__all__ = ["BarProfile", "Parameters", "interval_of", "kind_of"]

Parameters = Mapping[str, float | int | str]
"""The parameters of a profile by name."""


@attrs.frozen(kw_only=True)
class BarProfile:
    """A profile as messages name it: two of one name with different hashes are different.

    ``parameters`` are None where the message does not carry them. What makes the hash is the
    publisher's: it is compared, never computed.
    """

    name: str
    parameters_hash: str
    parameters: Parameters | None = attrs.field(default=None, eq=False)


def kind_of(name: str) -> str:
    """The kind of bars of a profile: the first word of its name, ``tib`` of ``tib_small``."""
    return name.partition("_")[0]


def interval_of(candle: Candle) -> Interval | BarProfile:
    """What a candle's interval is: a profile where it has parameters, else a code.

    Raises Rejected (``UNKNOWN_INTERVAL``) for a code that is none.
    """
    if candle.parameters_hash is None:
        return parse_interval(candle.interval)
    return BarProfile(
        name=candle.interval,
        parameters_hash=candle.parameters_hash,
        parameters=candle.parameters,
    )
