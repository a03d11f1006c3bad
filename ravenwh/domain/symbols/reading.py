"""What the rules of the venues share: how a symbol is read, and why it could not be."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from ravenwh.domain.instrument import Contract, Instrument, OptionTerms, VolumeUnit

__all__ = [
    "COINS",
    "MONTHS",
    "QUOTE_UNITS",
    "UNSIZED_CONTRACTS",
    "Rule",
    "Unread",
    "day_of",
    "is_token",
    "last_friday",
    "option_terms",
    "split",
    "unscaled",
]

COINS = VolumeUnit()
QUOTE_UNITS = VolumeUnit(kind="quote")
UNSIZED_CONTRACTS = VolumeUnit(kind="contract")

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

_TOKEN = re.compile("[A-Z0-9]+")
_STRIKE = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_SCALED = re.compile("(10{3,})([^0-9].*)", re.DOTALL)
_SCALES = {"1000": 1e3, "10000": 1e4, "1000000": 1e6}
_MILLIONS = frozenset({"BABYDOGE"})
"""The coins that are known to be listed as ``1M`` and their name."""


class Unread(Exception):
    """A rule does not read a symbol, or has none for a pair; never leaves the register.

    ``candidates`` are the (coin, quote) pairs that the symbol could stand for.
    """

    def __init__(self, why: str, candidates: tuple[tuple[str, str], ...] = ()) -> None:
        self.why = why
        self.candidates = candidates
        super().__init__(why)


class Rule(Protocol):
    """How one exchange (venue and market) writes its symbols."""

    @property
    def exchange(self) -> str:
        """The name of the exchange row."""
        ...

    @property
    def family(self) -> str:
        """The venue, which its markets have in common."""
        ...

    @property
    def assumed(self) -> tuple[Contract, VolumeUnit] | None:
        """What every symbol of the exchange is, whatever its form; None where they differ."""
        ...

    def read(self, symbol: str) -> Instrument:
        """What the symbol stands for. Raises Unread."""
        ...

    def write(self, coin: str, quote: str) -> str:
        """The symbol of the pair's spot or perpetual instrument. Raises Unread."""
        ...


def is_token(text: str) -> bool:
    """Whether the text can be a coin: capitals and digits, or letters that know no case.

    Venues do list coins with Chinese names. Letters of other alphabets with capitals (Cyrillic,
    Greek) are none, since they look like Latin ones; nor are compatibility forms of any letter.
    """
    if _TOKEN.fullmatch(text):
        return True
    return (
        bool(text)
        and all(_TOKEN.fullmatch(c) or unicodedata.category(c) == "Lo" for c in text)
        and unicodedata.is_normalized("NFKC", text)
    )


def split(symbol: str, quotes: tuple[str, ...]) -> tuple[str, str]:
    """(base, quote) of a symbol without separator, by the venue's closed list of quotes.

    Raises Unread where it ends in none of them, or in more than one.
    """
    found = tuple(
        (symbol[: -len(quote)], quote)
        for quote in quotes
        if symbol.endswith(quote) and len(symbol) > len(quote)
    )
    if len(found) == 1:
        return found[0]
    if found:
        ways = " or ".join(f"{base} in {quote}" for base, quote in found)
        raise Unread(f"it could be {ways}", found)
    raise Unread(f"it ends in none of the quotes {', '.join(quotes)}")


def unscaled(base: str, quote: str) -> tuple[str, float]:
    """(coin, multiplier) of a base that may carry its number of coins: ``1000PEPE``, ``1INCH``.

    Binance and Bybit list a thousand, ten thousand or a million coins as one unit, with that number
    before the name. Raises Unread where the number cannot be told from the name.
    """
    scaled = _SCALED.fullmatch(base)
    if scaled:
        number, coin = scaled.groups()
        if number in _SCALES:
            return coin, _SCALES[number]
        raise Unread(
            f"{number} is no number of coins that the venue lists as one",
            ((coin, quote), (base, quote)),
        )
    if base.startswith("1M") and len(base) > 2:
        coin = base[2:]
        if coin in _MILLIONS:
            return coin, 1e6
        raise Unread(
            f"it could be a million {coin} or a coin called {base}", ((coin, quote), (base, quote))
        )
    return base, 1.0


def day_of(year: str, month: str, day: str, *, hour: int = 8) -> datetime:
    """The expiry on a day: two digits of the year, a number or a name of the month. UTC.

    Most venues let contracts expire at 08:00 UTC. Raises Unread for days that do not exist.
    """
    number = MONTHS.index(month) + 1 if month in MONTHS else int(month) if month.isdigit() else 0
    try:
        return datetime(2000 + int(year), number, int(day), hour, tzinfo=UTC)
    except ValueError:
        raise Unread(f"there is no day {day} of month {month} in 20{year}") from None


def last_friday(year: str, month: int) -> datetime:
    """08:00 UTC on the last Friday of a month: when quarterly contracts expire."""
    first_of_next = datetime(2000 + int(year) + month // 12, month % 12 + 1, 1, 8, tzinfo=UTC)
    return first_of_next - timedelta(days=(first_of_next.weekday() - 5) % 7 + 1)


def option_terms(strike: str, strike_in: str, kind: Literal["C", "P"] | str) -> OptionTerms:
    """The terms of an option. Raises Unread for strikes that are no positive decimal number."""
    if not _STRIKE.fullmatch(strike) or float(strike) <= 0:
        raise Unread(f"{strike} is no strike: a positive number without leading zeros")
    return OptionTerms(
        strike=float(strike), strike_in=strike_in, kind="call" if kind == "C" else "put"
    )
