"""What the settings say of a symbol, and the instrument that this makes with the venue's rule.

``routing.symbol_map`` decides what no rule can: a split that has two ways, a coin that took over
another one's symbol, a contract whose size the venue does not tell. What an entry leaves open is
the rule's; what a rule leaves open, and the entry too, is refused rather than guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Literal, Protocol, cast

import attrs

from ravenwh.domain.errors import SettingsError
from ravenwh.domain.instrument import Contract, Instrument, VolumeUnit
from ravenwh.domain.settings.toml_text import dotted
from ravenwh.domain.symbols import RULES, Unread
from ravenwh.domain.symbols.reading import COINS

__all__ = ["Entry", "Listing", "instruments", "listings"]

_PATH = ("routing", "symbol_map")
_SCALED = re.compile("1M|10{3,}")


class Entry(Protocol):
    """One symbol in ``routing.symbol_map``; None is left to the venue's rule."""

    @property
    def symbol(self) -> str: ...  # noqa: D102  (the settings describe each)
    @property
    def multiplier(self) -> float | None: ...  # noqa: D102  said by its name
    @property
    def volume_unit(self) -> str | None: ...  # noqa: D102  said by its name
    @property
    def contract_size(self) -> float | None: ...  # noqa: D102  said by its name
    @property
    def contract_of(self) -> str | None: ...  # noqa: D102  said by its name
    @property
    def contract(self) -> str | None: ...  # noqa: D102  said by its name
    @property
    def coin(self) -> str | None: ...  # noqa: D102  said by its name
    @property
    def listed_at(self) -> datetime | None: ...  # noqa: D102  said by its name
    @property
    def delisted_at(self) -> datetime | None: ...  # noqa: D102  said by its name


@attrs.frozen(kw_only=True)
class Listing:
    """A symbol that stands for a coin and quote on an exchange, always or for a time.

    The time is from ``listed_at`` on and before ``delisted_at``. What is None is left to the rule
    of the exchange. ``key`` is where it stands in the settings, for messages.
    """

    coin: str
    quote: str
    exchange: str
    symbol: str
    multiplier: float | None = None
    volume_unit: str | None = None
    contract_size: float | None = None
    contract_of: str | None = None
    contract: str | None = None
    listed_at: datetime | None = None
    delisted_at: datetime | None = None
    key: str = ""

    def __str__(self) -> str:
        return self.key or f"{self.coin}/{self.quote} as {self.symbol} on {self.exchange}"


def listings(symbol_map: Mapping[str, Mapping[str, str | Entry]]) -> tuple[Listing, ...]:
    """The listings of ``routing.symbol_map``: ``{"PEPE/USDT": {"BINANCE_FUTURES": entry}}``.

    An entry is a symbol, or has the attributes of :class:`Entry`. Raises SettingsError.
    """
    problems: list[str] = []
    found: list[Listing] = []
    for pair, venues in symbol_map.items():
        coin, _, quote = pair.rpartition("/")
        for exchange, entry in venues.items():
            key = dotted((*_PATH, pair, exchange))
            if not coin or not quote:
                problems.append(f"{key}: found {pair!r}; allowed: COIN/QUOTE, as in PEPE/USDT")
            elif isinstance(entry, str):
                found.append(
                    Listing(coin=coin, quote=quote, exchange=exchange, symbol=entry, key=key)
                )
            else:
                found.append(
                    Listing(
                        coin=entry.coin or coin,
                        quote=quote,
                        exchange=exchange,
                        symbol=entry.symbol,
                        multiplier=entry.multiplier,
                        volume_unit=entry.volume_unit,
                        contract_size=entry.contract_size,
                        contract_of=entry.contract_of,
                        contract=entry.contract,
                        listed_at=entry.listed_at,
                        delisted_at=entry.delisted_at,
                        key=key,
                    )
                )
    if problems:
        raise SettingsError(problems)
    return tuple(found)


def instruments(listed: tuple[Listing, ...]) -> tuple[Instrument, ...]:
    """The instruments of the listings, in their order. Raises SettingsError with every problem."""
    problems: list[str] = []
    made: list[Instrument] = []
    for listing in listed:
        own = list(_problems(listing))
        if not own:
            try:
                made.append(_instrument(listing))
            except SettingsError as error:
                own += error.problems
        problems += own
    if problems:
        raise SettingsError(problems)
    return tuple(made)


def _problems(listing: Listing) -> list[str]:
    """What is wrong with the values alone."""
    found: list[str] = []
    for name, text in (
        ("coin", listing.coin),
        ("quote", listing.quote),
        ("symbol", listing.symbol),
    ):
        if not text or not text.isprintable() or any(map(str.isspace, text)):
            found.append(f"{listing}: found the {name} {text!r}; allowed: a name without spaces")
        elif name != "symbol" and text != text.upper():
            found.append(f"{listing}: found the {name} {text!r}; allowed: a name in capitals")
    for name, number in (
        ("multiplier", listing.multiplier),
        ("contract_size", listing.contract_size),
    ):
        if number is not None and not (isfinite(number) and number > 0):
            found.append(f"{listing}: found {name} {number}; allowed: a number above zero")
    if listing.volume_unit not in (None, "coin", "quote", "contract"):
        found.append(
            f"{listing}: found volume_unit {listing.volume_unit!r}; allowed: coin, quote, contract"
        )
    if listing.contract_of not in (None, "coin", "quote"):
        found.append(f"{listing}: found contract_of {listing.contract_of!r}; allowed: coin, quote")
    sized = (listing.contract_size is not None, listing.contract_of is not None)
    if any(sized) != all(sized) or (any(sized) and listing.volume_unit in ("coin", "quote")):
        found.append(
            f"{listing}: found contract_size {listing.contract_size}, contract_of"
            f" {listing.contract_of}, volume_unit {listing.volume_unit}; allowed: contract_size and"
            ' contract_of together, with volume_unit "contract"'
        )
    if listing.contract not in (None, *_CONTRACTS):
        found.append(
            f"{listing}: found contract {listing.contract!r}; allowed: {', '.join(_CONTRACTS)}"
        )
    times = [at for at in (listing.listed_at, listing.delisted_at) if at is not None]
    if any(at.utcoffset() is None for at in times):
        found.append(f"{listing}: found a time without a zone; allowed: UTC")
    elif len(times) == 2 and times[0] >= times[1]:
        found.append(
            f"{listing}: found delisted_at {times[1].isoformat()}, listed_at"
            f" {times[0].isoformat()}; allowed: delisted_at after listed_at"
        )
    return found


_CONTRACTS = tuple(str(contract) for contract in Contract if contract is not Contract.INDEX)


def _instrument(listing: Listing) -> Instrument:
    reading = _reading(listing)
    contract, unit = _nature(listing, reading)
    if reading is not None and not reading.has_series and listing.coin == reading.coin:
        raise SettingsError(
            [
                f"{listing}: found the coin {listing.coin} for a {reading.contract} contract of"
                f" {reading.coin}; allowed: a coin name of its own, as in"
                f" {listing.coin}-{listing.symbol}"
            ]
        )
    return Instrument(
        exchange=listing.exchange,
        symbol=reading.symbol if reading else listing.symbol,
        coin=listing.coin,
        quote=listing.quote,
        contract=contract,
        multiplier=_multiplier(listing, reading),
        volume_unit=unit,
        expiry=reading.expiry if reading else None,
        option=reading.option if reading else None,
        listed_at=listing.listed_at and listing.listed_at.astimezone(UTC),
        delisted_at=listing.delisted_at and listing.delisted_at.astimezone(UTC),
    )


def _reading(listing: Listing) -> Instrument | None:
    """What the rule of the exchange makes of the symbol, if there is a rule and it reads it."""
    rule = RULES.get(listing.exchange)
    try:
        return rule.read(listing.symbol) if rule else None
    except Unread:
        return None


def _nature(listing: Listing, reading: Instrument | None) -> tuple[Contract, VolumeUnit]:
    """Contract and volume unit: stated, read, or the same for all symbols of the exchange."""
    assumed: tuple[Contract, VolumeUnit] | None
    if reading is not None:
        assumed = reading.contract, reading.volume_unit
    elif rule := RULES.get(listing.exchange):
        assumed = rule.assumed
    elif listing.exchange.endswith("_SPOT"):
        assumed = Contract.SPOT, COINS
    else:
        assumed = None
    contract = Contract(listing.contract) if listing.contract else assumed and assumed[0]
    unit = _stated_unit(listing, assumed[1] if assumed else None)
    if contract is None or unit is None:
        raise SettingsError(
            [
                f"{listing}: found {listing.symbol!r}, which no rule of {listing.exchange} reads;"
                f" allowed: with contract (one of {', '.join(_CONTRACTS)}) and volume_unit (coin,"
                " quote, or contract with contract_size and contract_of)"
            ]
        )
    return contract, unit


def _stated_unit(listing: Listing, assumed: VolumeUnit | None) -> VolumeUnit | None:
    kind = listing.volume_unit or ("contract" if listing.contract_size is not None else None)
    if kind is None:
        return assumed
    same = assumed if assumed is not None and assumed.kind == kind else None
    if listing.contract_size is None:
        return same or VolumeUnit(kind=cast(Literal["coin", "quote", "contract"], kind))
    return VolumeUnit(
        kind="contract",
        size=listing.contract_size,
        of=cast(Literal["coin", "quote"], listing.contract_of),
        second=same.second if same else "quote",
    )


def _multiplier(listing: Listing, reading: Instrument | None) -> float:
    """Stated; or the number before the coin's name; or the rule's.

    A coin that carries the number in its own name (``1000PEPE``) is one coin of that name.
    """
    if listing.multiplier is not None:
        return listing.multiplier
    if reading is None:
        scaled = _SCALED.match(listing.symbol)
        if scaled is None or not listing.symbol.startswith(listing.coin, scaled.end()):
            return 1.0
        return 1e6 if scaled[0] == "1M" else float(scaled[0])
    is_whole_name = listing.coin != reading.coin and reading.coin in listing.coin
    return 1.0 if is_whole_name and listing.symbol.startswith(listing.coin) else reading.multiplier
