"""The parameters of a kind of bar, their hash, and the names they go by."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from reprlib import repr as shown
from typing import Any, ClassVar

import attrs

from ravenwh.domain.errors import Refused

__all__ = [
    "KINDS",
    "Profile",
    "TickImbalance",
    "TickRun",
    "VolumeImbalance",
    "Vpin",
    "parse_profile",
]

MEMORY = 7
"""Spans of an exponential average that forget: (1 - 2 / (span + 1)) ** (7 * (span + 1)) is about
exp(-14), below a millionth."""


def _number(default: float, least: float, most: float, *, whole: bool = False) -> Any:
    """A field that takes numbers between two bounds, whole ones only or any; raises Refused.

    What is not whole is kept as a float, so that 10 and 10.0 have one hash.
    """
    kinds = (int,) if whole else (int, float)

    def checked(value: float, field: attrs.Attribute[Any]) -> float:
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if not (is_number and least <= value <= most):  # false for NaN too
            bounds = f"{least:,} to {most:,}" if whole else f"{least:g} to {most:g}"
            allowed = f"{'a whole number' if whole else 'a number'} from {bounds}"
            raise Refused(f"{field.name}: found {shown(value)}, allowed is {allowed}")
        return value if whole else float(value)

    return attrs.field(default=default, converter=attrs.Converter(checked, takes_field=True))


@attrs.frozen(kw_only=True)
class Profile(ABC):
    """How bars of one kind are made. Its name in ``dim__interval`` begins with ``PREFIX``."""

    PREFIX: ClassVar[str]

    @property
    def forgets_after(self) -> int:
        """Bars after which what was before weighs less than a millionth in what is expected."""
        return MEMORY * (self.averaged_over + 1)

    @property
    @abstractmethod
    def averaged_over(self) -> int:
        """Bars over which what is expected is averaged."""

    @property
    def parameters(self) -> dict[str, float | int | str]:
        """The parameters by name, with the kind."""
        return {"kind": self.PREFIX, **attrs.asdict(self)}

    @property
    def parameters_hash(self) -> str:
        """16 hexadecimal digits of SHA-256 over the parameters as JSON with sorted keys."""
        text = json.dumps(self.parameters, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@attrs.frozen(kw_only=True)
class Adaptive(Profile):
    """A bar ends where its sum reaches what is expected of it; what is expected follows the bars.

    - ``expected_ticks``: E0[T], the trades of a bar at first. The first bar of a chain is the
      warm-up: it ends after so many trades, and gives the first estimates.
    - ``span``: bars over which E[T] and the other expectations are averaged, exponentially, with
      weight 2 / (span + 1) for the newest bar. What is expected of one trade is averaged over the
      means of bars, each bar counting alike.
    - ``least``, ``most``: E[T] is held between these shares of ``expected_ticks``, because short
      bars make shorter ones expected, and long ones longer, without end. The book has no bounds.

    Only E[T] is bounded, not a bar: while its sum stays below the threshold it goes on.
    """

    expected_ticks: int = _number(1000, 1, 10_000_000, whole=True)
    span: int = _number(20, 1, 100_000, whole=True)
    least: float = _number(0.5, 0.001, 1)
    most: float = _number(2.0, 1, 1000)

    @property
    def averaged_over(self) -> int:
        """The span."""
        return self.span


@attrs.frozen(kw_only=True)
class Imbalance(Adaptive):
    """``least_imbalance``: the smallest expected imbalance, as a share of all ticks or volume.

    Where buys and sells balance, the expected imbalance is near zero, and every trade would end a
    bar. The book has no such bound.
    """

    least_imbalance: float = _number(0.05, 0.0001, 1)


@attrs.frozen(kw_only=True)
class TickImbalance(Imbalance):
    """Tick imbalance bars (López de Prado 2018, 2.3.2.1).

    theta = sum of b over the trades of the bar; b is 1 for a buy and -1 for a sell, by the taker's
    side as the venue says it (the book, which has no sides, takes the sign of the last change of
    price). A bar ends at the first trade where
    abs(theta) >= E[T] * max(abs(E[b]), least_imbalance); E[b] = 2 P[b=1] - 1.
    """

    PREFIX: ClassVar[str] = "tib"


@attrs.frozen(kw_only=True)
class VolumeImbalance(Imbalance):
    """Volume imbalance bars (López de Prado 2018, 2.3.2.2).

    theta = sum of b * v over the trades of the bar, v the quantity, b as in tick imbalance bars. A
    bar ends at the first trade where
    abs(theta) >= E[T] * max(abs(E[b v]), least_imbalance * E[v]); E[b v] is 2 v+ - E[v] of the
    book.
    """

    PREFIX: ClassVar[str] = "vib"


@attrs.frozen(kw_only=True)
class TickRun(Adaptive):
    """Tick run bars (López de Prado 2018, 2.3.2.3).

    theta = the larger of the number of buys and the number of sells in the bar; they need not
    follow each other. A bar ends at the first trade where
    theta >= E[T] * max(P[b=1], 1 - P[b=1]).
    """

    PREFIX: ClassVar[str] = "trb"


@attrs.frozen(kw_only=True)
class Vpin(Profile):
    """Volume buckets with the volume-synchronised probability of informed trading.

    - ``bucket_volume``: a bucket ends at the first trade where its volume reaches this, in the unit
      of the trades. Trades are not split, so a bucket may hold a little more.
    - ``slices``: a bucket is cut where its volume reaches 1, 2, 3 .. of so many equal parts; a
      trade that passes several of them ends one slice.
    - ``buckets``: n, over how many VPIN is taken.

    The volume of a bucket is divided by bulk volume classification (Easley, López de Prado, O'Hara
    2012): buy = sum of v * Phi(dP / sigma) over its slices, sell = volume - buy; v is the volume of
    a slice, dP the change of the price from the last trade of the slice before, Phi the standard
    normal distribution. They cut by minutes, which a bucket does not end with; slices of volume
    are as short when much is traded, and end with it. sigma is the root of the exponential average
    of dP squared, this one too, with weight 2 / (slices * buckets + 1) for the newest. Half of a
    slice is bought where sigma is zero or, in the first slice of a chain, unknown.

    vpin = sum of abs(buy - sell) / sum of volume over the last n buckets (López de Prado 2018,
    19.5.2, whose buckets all hold V, so that the sum is n V). Warm-up: the first buckets of a chain
    have it over those there are.

    With one slice a bucket, abs(buy - sell) says only how large one change of price was beside the
    others, and VPIN is near 0.5 whatever is traded.
    """

    PREFIX: ClassVar[str] = "vpin"

    bucket_volume: float = _number(100.0, 1e-12, 1e15)
    slices: int = _number(10, 1, 1000, whole=True)
    buckets: int = _number(50, 1, 10_000, whole=True)

    @property
    def averaged_over(self) -> int:
        """The buckets of VPIN; its sigma has a weight that makes it the same."""
        return self.buckets


KINDS: Mapping[str, type[Profile]] = {
    kind.PREFIX: kind for kind in (TickImbalance, TickRun, VolumeImbalance, Vpin)
}
"""The kinds by the first word of their names: ``tib_small`` is of kind ``tib``."""


def parse_profile(name: str, parameters: Mapping[str, Any]) -> Profile:
    """The profile of a name, whose first word is the kind.

    Parameters that are not given have their defaults; ``kind`` may be given. Raises Refused for a
    name of no kind, unknown parameters, and values that make no bars.
    """
    kind = KINDS.get(name.partition("_")[0])
    if kind is None:
        allowed = ", ".join(f"{prefix}_..." for prefix in KINDS)
        raise Refused(f"profile {name!r} is of no kind that is known; allowed are {allowed}")
    known = {field.name for field in attrs.fields(kind)}
    given = {key: value for key, value in parameters.items() if key != "kind"}
    if unknown := sorted(given.keys() - known):
        raise Refused(
            f"profile {name}: found unknown {', '.join(unknown)}; allowed are "
            f"{', '.join(sorted(known))}"
        )
    if parameters.get("kind", kind.PREFIX) != kind.PREFIX:
        raise Refused(f"profile {name}: found parameters of kind {parameters['kind']!r}")
    try:
        return kind(**given)
    except Refused as refused:
        raise Refused(f"profile {name}: {refused}") from None
