"""Options by their terms: which symbols of an exchange are meant."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Literal

import attrs

from ravenwh.domain.instrument import Instrument
from ravenwh.domain.symbols import RULES, Unread

__all__ = ["OptionTerms", "option_of"]


@attrs.frozen(kw_only=True)
class OptionTerms:
    """What is asked of options; None asks nothing. ``expiry`` is a day in UTC."""

    coin: str | None = None
    expiry: date | None = None
    strike: float | None = None
    kind: Literal["call", "put"] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked."""
        return self == OptionTerms()

    def among(self, exchange: str, symbols: Iterable[str]) -> list[str]:
        """Those of the exchange's symbols that are such options, in the order given."""
        return [s for s in symbols if (found := option_of(exchange, s)) and self._fit(found)]

    def missing(self, exchange: str, symbols: Iterable[str]) -> str:
        """What to say where none of the symbols is such an option."""
        options = [found for s in symbols if (found := option_of(exchange, s)) and found.expiry]
        near = [found for found in options if found.coin == self.coin] or options
        coins = ", ".join(sorted({found.coin for found in near}))
        days = sorted({f"{found.expiry:%Y-%m-%d}" for found in near})
        there = f"of {coins} there are {', '.join(days[:20])}" if near else "there are none at all"
        return f"no option of {exchange} has {self}; {there}"

    def __str__(self) -> str:
        asked = attrs.asdict(self, filter=lambda _, value: value is not None)
        return ", ".join(f"{name} {value}" for name, value in asked.items())

    def _fit(self, found: Instrument) -> bool:
        return (
            found.option is not None
            and found.expiry is not None
            and self.coin in (None, found.coin)
            and self.expiry in (None, found.expiry.date())
            and self.strike in (None, found.option.strike)
            and self.kind in (None, found.option.kind)
        )


def option_of(exchange: str, symbol: str) -> Instrument | None:
    """The option that a symbol stands for by the rule of its exchange, None where it is none."""
    rule = RULES.get(exchange)
    try:
        found = rule.read(symbol) if rule is not None else None
    except Unread:
        return None
    return found if found is not None and found.option is not None else None
