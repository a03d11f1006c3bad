"""From the settings to the instrument register, to what is seeded, to what is subscribed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

from ravenwh.domain.errors import SettingsError, UnknownSymbol
from ravenwh.domain.instrument import Instrument
from ravenwh.domain.interval import parse_interval
from ravenwh.domain.listing import instruments, listings
from ravenwh.domain.register import Register
from ravenwh.domain.seed import Seed
from ravenwh.domain.settings import Settings

__all__ = [
    "OwnSymbols",
    "What",
    "any_symbols",
    "is_taken",
    "own_symbols",
    "register_of",
    "seed_of",
    "symbol_of",
    "wanted_symbols",
    "wanted_venues",
]

What = Literal["binance_klines", "bars"]
"""Sections that name venues and symbols; what ``bars`` leaves out, ``binance_klines`` says."""

OwnSymbols = Callable[
    [Mapping[str, tuple[str, ...] | None], Register], dict[str, frozenset[str] | None]
]
"""Symbols as they are wanted, to all that messages call them by; None for all of a venue."""


def register_of(settings: Settings) -> Register:
    """The register: the venues' rules and ``routing.symbol_map``."""
    return Register(listings=instruments(listings(settings.routing.symbol_map)))


def is_taken(settings: Settings, venue: str) -> bool:
    """Whether the routing includes the venue."""
    routing = settings.routing
    return venue not in routing.venue_exclude and (
        not routing.venue_include or venue in routing.venue_include
    )


def wanted_venues(settings: Settings, what: What = "binance_klines") -> tuple[str, ...]:
    """The venues of a section that the routing includes. Raises SettingsError for none."""
    if what == "bars" and settings.bars.venues is None:
        what = "binance_klines"
    venues = getattr(settings, what).venues
    left = tuple(venue for venue in venues if is_taken(settings, venue))
    if not left:
        raise SettingsError(
            [
                f"{what}.venues: found {', '.join(venues)}, and routing.venue_include or "
                "routing.venue_exclude leaves none of them; allowed: at least one"
            ]
        )
    return left


def wanted_symbols(
    settings: Settings, register: Register, what: What = "binance_klines"
) -> dict[str, tuple[str, ...] | None]:
    """The symbols of a section a venue; None where all of a venue are wanted.

    Raises UnknownSymbol for a COIN/QUOTE that a venue has no symbol for, and SettingsError.
    """
    venues = wanted_venues(settings, what)
    symbols = getattr(settings, what).symbols or settings.binance_klines.symbols
    if "*" in symbols:
        return dict.fromkeys(venues)
    return {venue: tuple(symbol_of(venue, name, register) for name in symbols) for venue in venues}


def symbol_of(venue: str, name: str, register: Register) -> str:
    """The venue's symbol of COIN/QUOTE (``BTC/USDT``); a symbol is itself.

    Raises UnknownSymbol where the venue has no symbol for.
    """
    coin, slash, quote = name.partition("/")
    return register.symbol_for(venue, coin, quote) if slash else name


def own_symbols(
    wanted: Mapping[str, tuple[str, ...] | None], register: Register
) -> dict[str, frozenset[str] | None]:
    """The same, as messages name them: a venue may have an older spelling of its symbols too.

    Raises UnknownSymbol, and Rejected for symbols that have no series.
    """
    return {
        venue: None
        if symbols is None
        else frozenset(symbols)
        | {register.series_instrument(venue, symbol).symbol for symbol in symbols}
        for venue, symbols in wanted.items()
    }


def any_symbols(
    wanted: Mapping[str, tuple[str, ...] | None], register: Register
) -> dict[str, frozenset[str] | None]:
    """The same where no series is needed: of options, dated contracts, indices, and of the unknown.

    What no rule of its venue reads has the one spelling.
    """
    return {
        venue: None
        if symbols is None
        else frozenset(symbols) | {_spelled(venue, symbol, register) for symbol in symbols}
        for venue, symbols in wanted.items()
    }


def _spelled(venue: str, symbol: str, register: Register) -> str:
    try:
        return register.resolve(venue, symbol).symbol
    except UnknownSymbol:
        return symbol


def seed_of(settings: Settings, register: Register) -> Seed:
    """What the settings name: venues and intervals, and the instruments behind the symbols."""
    named: dict[tuple[str, str, object], Instrument] = {
        (i.exchange, i.symbol, i.listed_at): i for i in register.listings
    }
    exchanges: set[str] = set()
    for what in get_args(What):
        exchanges.update(wanted_venues(settings, what))
        for venue, symbols in wanted_symbols(settings, register, what).items():
            for symbol in symbols or ():
                instrument = register.series_instrument(venue, symbol)
                named[venue, symbol, instrument.listed_at] = instrument
    return Seed(
        exchanges=frozenset(exchanges),
        intervals={
            code: parse_interval(code).duration for code in settings.binance_klines.interval
        },
        instruments=tuple(named.values()),
    )
