"""From cryptofeed's names (``BINANCE``, ``BTC-USDT-PERP``) to the venues' own.

So live data from it and archived data are one series. cryptofeed writes the instruments of all
venues alike: ``BTC-USDT``, ``BTC-USDT-PERP``, ``BTC-USD-21U24`` (year, letter of the month, day),
``ETH-USDT-3200-21Z31-call``, and ``ETH-2800-21N30-call`` where base and quote are the same. Where
it has one name for two symbols of a venue, neither is taken unless one of them is listed in the
settings. :func:`names` goes the other way, to ask cryptofeed for a symbol of a venue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date
from enum import Enum, auto
from types import MappingProxyType

import attrs

from ravenwh.domain.instrument import Contract, Instrument
from ravenwh.domain.symbols.kraken import COIN_MARGINED
from ravenwh.domain.symbols.reading import MONTHS, Unread, is_token

__all__ = ["EXCHANGES", "is_option", "names", "native"]

_LETTERS = "FGHJKMNQUVXZ"
_EXPIRY = re.compile(f"([0-9]{{2}})([{_LETTERS}])([0-9]{{1,2}})")
_WHOLE_STRIKES = frozenset({"BTC", "ETH"})
"""The coins whose linear Deribit options have whole strikes only: cryptofeed cuts fractions off."""
_OPTION_ENDS = ("-call", "-put")


class _Kind(Enum):
    SPOT = auto()
    PERPETUAL = auto()
    DATED = auto()
    OPTION = auto()


@attrs.frozen(kw_only=True)
class _Name:
    """The parts of a cryptofeed symbol; ``quote`` is the base where it names none."""

    kind: _Kind
    base: str
    quote: str
    expiry: date | None = None
    strike: str = ""
    option: str = ""

    @property
    def yymmdd(self) -> str:
        return f"{self.expiry:%y%m%d}" if self.expiry else ""

    @property
    def dmmmyy(self) -> str:
        day = self.expiry
        return f"{day.day}{MONTHS[day.month - 1]}{day:%y}" if day else ""

    @property
    def pair(self) -> str:
        """Base and quote as Deribit writes them: inverse contracts name the base alone."""
        return self.base if self.quote in ("USD", self.base) else f"{self.base}_{self.quote}"


def _expiry(text: str) -> date:
    found = _EXPIRY.fullmatch(text)
    if not found:
        raise Unread(f"{text} is no date of cryptofeed's form, as in 21U24")
    year, letter, day = found.groups()
    try:
        return date(2000 + int(year), _LETTERS.index(letter) + 1, int(day))
    except ValueError:
        raise Unread(f"there is no day {text}") from None


def _named(symbol: str) -> _Name:
    match symbol.split("-"):
        case parts if not all(parts):
            raise Unread("a part between its dashes is empty")
        case [base, quote] if quote != "PERP" and not _EXPIRY.fullmatch(quote):
            return _Name(kind=_Kind.SPOT, base=base, quote=quote)
        case [base, quote, "PERP"]:
            return _Name(kind=_Kind.PERPETUAL, base=base, quote=quote)
        case [_, _, ("PINDEX" | "FX") as end]:
            raise Unread(f"what ends in {end} is no instrument here")
        case [base, quote, expiry]:
            return _Name(kind=_Kind.DATED, base=base, quote=quote, expiry=_expiry(expiry))
        case [base, *quote, strike, expiry, ("call" | "put") as option] if len(quote) < 2:
            return _Name(
                kind=_Kind.OPTION,
                base=base,
                quote=quote[0] if quote else base,
                expiry=_expiry(expiry),
                strike=strike,
                option=option[0].upper(),
            )
    raise Unread(
        "cryptofeed writes BTC-USDT, BTC-USDT-PERP, BTC-USD-21U24, ETH-2800-21N30-call or"
        " ETH-USDT-3200-21Z31-call"
    )


def _joined(name: _Name) -> str:
    return name.base + name.quote


def _bybit_perpetual(name: _Name) -> str:
    return name.base + ("PERP" if name.quote == "USDC" else name.quote)


def _bybit_dated(name: _Name) -> str:
    if name.quote not in ("USDC", "USDT"):
        raise Unread("cryptofeed names no dated contracts of Bybit but those in USDC and USDT")
    return f"{name.base}{'USDT' if name.quote == 'USDT' else ''}-{name.dmmmyy}"


def _deribit_option(name: _Name) -> str:
    if name.quote != name.base and name.base not in _WHOLE_STRIKES:
        raise Unread(
            f"cryptofeed cuts the fraction off Deribit's strikes, and options on {name.base} in"
            f" {name.quote} have some"
        )
    return f"{name.pair}-{name.dmmmyy}-{name.strike}-{name.option}"


def _kraken_future(name: _Name, margin: str) -> str | None:
    if margin == "I" and name.base not in COIN_MARGINED:
        return None
    base = "XBT" if name.base == "BTC" else name.base
    if name.expiry:
        return f"F{margin}_{base}{name.quote}_{name.yymmdd}"
    return f"P{margin}_{base}{name.quote}"


_Form = tuple[str, Callable[[_Name], str | None]]
"""An exchange row, and the venue's own symbol there, or None where there can be none."""

_KRAKEN_FUTURES: tuple[_Form, ...] = (
    ("KRAKEN_FUTURES", lambda name: _kraken_future(name, "F")),
    ("KRAKEN_COIN_FUTURES", lambda name: _kraken_future(name, "I")),
)

_FORMS: dict[str, dict[_Kind, tuple[_Form, ...]]] = {
    "BINANCE": {_Kind.SPOT: (("BINANCE_SPOT", _joined),)},
    "BINANCE_US": {_Kind.SPOT: (("BINANCE_US", _joined),)},
    "BINANCE_FUTURES": {
        _Kind.PERPETUAL: (("BINANCE_FUTURES", _joined),),
        _Kind.DATED: (("BINANCE_FUTURES", lambda name: f"{_joined(name)}_{name.yymmdd}"),),
    },
    "BINANCE_DELIVERY": {
        _Kind.PERPETUAL: (("BINANCE_COIN_FUTURES", lambda name: f"{_joined(name)}_PERP"),),
        _Kind.DATED: (("BINANCE_COIN_FUTURES", lambda name: f"{_joined(name)}_{name.yymmdd}"),),
    },
    "BITSTAMP": {_Kind.SPOT: (("BITSTAMP_SPOT", lambda name: _joined(name).lower()),)},
    "BYBIT": {
        _Kind.SPOT: (("BYBIT_SPOT", _joined),),
        _Kind.PERPETUAL: (("BYBIT_PERP", _bybit_perpetual),),
        _Kind.DATED: (("BYBIT_FUTURES", _bybit_dated),),
    },
    "COINBASE": {_Kind.SPOT: (("COINBASE_SPOT", lambda name: f"{name.base}-{name.quote}"),)},
    "DERIBIT": {
        _Kind.SPOT: (("DERIBIT_SPOT", lambda name: f"{name.base}_{name.quote}"),),
        _Kind.PERPETUAL: (("DERIBIT", lambda name: f"{name.pair}-PERPETUAL"),),
        _Kind.DATED: (("DERIBIT", lambda name: f"{name.pair}-{name.dmmmyy}"),),
        _Kind.OPTION: (("DERIBIT", _deribit_option),),
    },
    "KRAKEN": {_Kind.SPOT: (("KRAKEN_SPOT", lambda name: f"{name.base}/{name.quote}"),)},
    "KRAKEN_FUTURES": {_Kind.PERPETUAL: _KRAKEN_FUTURES, _Kind.DATED: _KRAKEN_FUTURES},
    "OKX": {
        _Kind.SPOT: (("OKX_SPOT", lambda name: f"{name.base}-{name.quote}"),),
        _Kind.PERPETUAL: (("OKX_PERP", lambda name: f"{name.base}-{name.quote}-SWAP"),),
        _Kind.DATED: (("OKX_FUTURES", lambda name: f"{name.base}-{name.quote}-{name.yymmdd}"),),
        _Kind.OPTION: (
            (
                "OKX_OPTIONS",
                lambda name: f"{name.base}-{name.quote}-{name.yymmdd}-{name.strike}-{name.option}",
            ),
        ),
    },
}

EXCHANGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        exchange: tuple(dict.fromkeys(row for forms in kinds.values() for row, _ in forms))
        for exchange, kinds in _FORMS.items()
    }
)
"""cryptofeed's exchanges that are known here, each with the exchange rows it is turned into."""


def native(exchange: str, symbol: str, listed: Collection[tuple[str, str]] = ()) -> tuple[str, str]:
    """(exchange row, the venue's own symbol) of cryptofeed's names.

    ``listed`` are the (exchange row, symbol) pairs of the settings: they decide where two symbols
    have the same name in cryptofeed. Raises Unread.
    """
    forms = _FORMS.get(exchange)
    if forms is None:
        raise Unread(f"cryptofeed's exchanges known here are {', '.join(_FORMS)}")
    name = _named(symbol)
    if not is_token(name.base) or not is_token(name.quote.removesuffix("_UM")):  # UM: OKX's
        raise Unread("its base and quote are no names in capitals and digits")
    if name.kind not in forms:
        kinds = ", ".join(kind.name.lower() for kind in forms)
        raise Unread(f"it is {name.kind.name.lower()}, and {exchange} has only {kinds} here")
    found = [
        (row, written) for row, write in forms[name.kind] if (written := write(name)) is not None
    ]
    if len(found) > 1:
        decided = [pair for pair in found if pair in listed]
        if len(decided) == 1:
            return decided[0]
        ways = " and ".join(f"{written} of {row}" for row, written in found)
        raise Unread(f"cryptofeed calls {ways} alike; list the one it sends in the settings")
    return found[0]


def is_option(symbol: str) -> bool:
    """Whether cryptofeed's symbol is an option's, of any exchange."""
    return symbol.endswith(_OPTION_ENDS)


def names(instrument: Instrument) -> tuple[tuple[str, str], ...]:
    """What cryptofeed may call the instrument: pairs of exchange and symbol, none where unknown.

    ``instrument`` is what the rule of its exchange reads in the symbol. Each pair leads back to
    that symbol by :func:`native`. There are two where a form has changed between venues or
    versions: which of them is sent cannot be told from here.
    """
    wanted = (instrument.exchange, instrument.symbol)
    exchanges = [exchange for exchange, rows in EXCHANGES.items() if wanted[0] in rows]
    return tuple(
        (exchange, symbol)
        for exchange in exchanges
        for symbol in _spellings(instrument)
        if _leads_to(wanted, exchange, symbol)
    )


def _leads_to(wanted: tuple[str, str], exchange: str, symbol: str) -> bool:
    try:
        return native(exchange, symbol, (wanted,)) == wanted
    except Unread:
        return False


def _spellings(instrument: Instrument) -> Iterator[str]:
    """Every form in which cryptofeed writes such an instrument of some venue."""
    coin, scale = instrument.coin, f"{instrument.multiplier:.0f}"
    bases = (coin,) if scale == "1" else (scale + coin, f"1M{coin}", coin + scale)
    quotes = {instrument.quote, f"{instrument.quote}_UM"}
    if instrument.option is not None:
        quotes.add(instrument.option.strike_in)
    for base in bases:
        for pair in (base, *(f"{base}-{quote}" for quote in sorted(quotes - {base}))):
            for end in _ends(instrument):
                yield pair + end


def _ends(instrument: Instrument) -> Iterator[str]:
    """What follows base and quote; the day comes with and without a zero before it."""
    if instrument.expiry is None:
        yield "-PERP" if instrument.contract is Contract.PERPETUAL else ""
        return
    at = instrument.expiry
    for day in dict.fromkeys((f"{at.day}", f"{at.day:02d}")):
        expiry = f"{at:%y}{_LETTERS[at.month - 1]}{day}"
        if instrument.option is None:
            yield f"-{expiry}"
        else:
            yield f"-{instrument.option.strike:.10g}-{expiry}-{instrument.option.kind}"
