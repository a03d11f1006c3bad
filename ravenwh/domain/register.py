"""The instrument register: what a venue's symbol stands for, resolved once, at the edge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import TypeVar

import attrs

from ravenwh.domain.errors import Rejected, SeriesTaken, SettingsError, UnknownSymbol
from ravenwh.domain.instrument import Instrument
from ravenwh.domain.series import from_ns, to_ns
from ravenwh.domain.symbols import RULES, Unread
from ravenwh.domain.symbols.cryptofeed import native
from ravenwh.domain.symbols.reasons import (
    ANY_COIN,
    ANY_SYMBOL,
    LONGEST_SYMBOL,
    line,
    misspelt,
    no_rule,
    own_name,
    shown,
    sized,
    unread,
)

__all__ = ["Register"]

T = TypeVar("T")

_Key = tuple[str, str]  # exchange, symbol
_Pair = tuple[str, str, str]  # exchange, coin, quote

_MAP = "[routing.symbol_map]"


@attrs.frozen
class _Refusal:
    """Why a symbol is refused, remembered so that a flood of it stays cheap."""

    error: type[Rejected]
    reason: str
    code: str

    def raised(self) -> Rejected:
        return self.error(self.reason, code=self.code)


def _in_order(listings: Iterable[Instrument]) -> tuple[Instrument, ...]:
    return tuple(listings)


@attrs.frozen(kw_only=True)
class Register:
    """Resolves symbols by the listings it is given, and else by the rule of their exchange.

    ``listings`` come from the settings (:func:`ravenwh.domain.listing.instruments`). A symbol that
    is listed means what its listings say, at the times they say, and nothing else. What was
    resolved or refused is remembered, at most ``remembered`` symbols in each memory; a full memory
    starts again.

    Raises SettingsError where two listings give one symbol two meanings at a time, or one (coin,
    quote, exchange) two symbols.
    """

    listings: tuple[Instrument, ...] = attrs.field(default=(), converter=_in_order)
    remembered: int = 16_384
    _by_symbol: dict[_Key, tuple[Instrument, ...]] = attrs.field(
        init=False, factory=dict, repr=False, eq=False
    )
    _by_pair: dict[_Pair, tuple[Instrument, ...]] = attrs.field(
        init=False, factory=dict, repr=False, eq=False
    )
    _resolved: dict[_Key, Instrument] = attrs.field(init=False, factory=dict, repr=False, eq=False)
    _unknown: dict[_Key, _Refusal] = attrs.field(init=False, factory=dict, repr=False, eq=False)
    _series: dict[_Key, Instrument] = attrs.field(init=False, factory=dict, repr=False, eq=False)
    _seriesless: dict[_Key, _Refusal] = attrs.field(init=False, factory=dict, repr=False, eq=False)
    _native: dict[_Key, _Key | _Refusal] = attrs.field(
        init=False, factory=dict, repr=False, eq=False
    )

    def __attrs_post_init__(self) -> None:
        for listed in self.listings:
            key = (listed.exchange, listed.symbol)
            pair = (listed.exchange, listed.coin, listed.quote)
            self._by_symbol[key] = (*self._by_symbol.get(key, ()), listed)
            self._by_pair[pair] = (*self._by_pair.get(pair, ()), listed)
        problems = [
            *_overlaps(self._by_symbol.values(), "one meaning of a symbol at a time"),
            *_overlaps(self._by_pair.values(), "one symbol of a series at a time"),
        ]
        if problems:
            raise SettingsError(problems)

    def resolve(self, venue: str, symbol: str, at: int | None = None) -> Instrument:
        """What the symbol stands for at a time, in ns since 1970; without one, while it is live.

        The time matters only for symbols that are listed with times. Raises UnknownSymbol, whose
        text says why, what the symbol could be, and the line of the settings that decides it.
        """
        found = self._resolved.get((venue, symbol))
        return found if found is not None else self._resolve(venue, symbol, at)

    def series_instrument(self, venue: str, symbol: str, at: int | None = None) -> Instrument:
        """The same, for symbols that have a series in the mart.

        Raises UnknownSymbol; Rejected ``NOT_IN_MART`` for indices, and for dated contracts and
        options that are not listed with a coin name of their own; Rejected ``UNKNOWN_UNIT`` where
        volume is counted in contracts of unknown size; SeriesTaken where a listing gives the coin,
        quote and exchange to another symbol.
        """
        found = self._series.get((venue, symbol))
        return found if found is not None else self._series_instrument(venue, symbol, at)

    def symbol_for(self, exchange: str, coin: str, quote: str, at: int | None = None) -> str:
        """The symbol of a pair's instrument: as listed, else as the venue writes it.

        Raises UnknownSymbol where there is no rule, and where the symbol would not be read back as
        a spot or perpetual instrument of that pair.
        """
        pair = f"{coin}/{quote}"
        listed = self._by_pair.get((exchange, coin, quote), ())
        if listed:
            live = _live(listed, at)
            if live is not None:
                return live.symbol
            why = f"it had {_described(listed)}, not {_at(at)}"
        elif exchange not in RULES:
            why = no_rule(exchange)
        else:
            try:
                symbol = RULES[exchange].write(coin, quote)
                found = self.resolve(exchange, symbol, at)
            except Unread as error:
                why = error.why
            except UnknownSymbol as error:  # tells the line itself
                raise UnknownSymbol(f"{exchange} has no symbol for {pair}: {error}") from None
            else:
                if (found.coin, found.quote) == (coin, quote) and found.has_series:
                    return symbol
                why = f"{symbol} stands for {found.coin}/{found.quote}"
        raise UnknownSymbol(
            f"{exchange} has no symbol for {pair}: {why}; to name it, add to {_MAP}:"
            f" {line(exchange, ANY_SYMBOL, pair)}"
        )

    def from_cryptofeed(self, exchange: str, symbol: str) -> tuple[str, str]:
        """(exchange row, the venue's own symbol) of cryptofeed's names. Raises UnknownSymbol."""
        key = (exchange, symbol)
        found = self._native.get(key)
        if found is None:
            try:
                found = native(exchange, symbol, self._by_symbol)
            except Unread as error:
                reason = f"cryptofeed's symbol {shown(symbol)} of {shown(exchange)}: {error.why}"
                found = _Refusal(UnknownSymbol, reason, "UNKNOWN_SYMBOL")
            self._remember(self._native, key, found)
        if isinstance(found, _Refusal):
            raise found.raised()
        return found

    def _resolve(self, venue: str, symbol: str, at: int | None) -> Instrument:
        key = (venue, symbol)
        refusal = self._unknown.get(key)
        if refusal is not None:
            raise refusal.raised()
        listed = self._by_symbol.get(key)
        if listed:
            live = _live(listed, at)
            if live is None:
                raise UnknownSymbol(
                    f"{venue} symbol {shown(symbol)}: it was {_described(listed)}, and is not"
                    f" listed {_at(at)}; to give it a meaning then, add an entry with times to"
                    f" {_MAP}"
                )
            if live.listed_at is None and live.delisted_at is None:
                self._remember(self._resolved, key, live)
            return live
        try:
            found = _read(venue, symbol)
        except Unread as error:
            refusal = _Refusal(UnknownSymbol, unread(venue, symbol, error), "UNKNOWN_SYMBOL")
            self._remember(self._unknown, key, refusal)
            raise refusal.raised() from None
        if found.symbol != symbol:  # one instrument for all spellings
            found = self.resolve(venue, found.symbol, at)
        if (venue, found.symbol) not in self._by_symbol:
            self._remember(self._resolved, key, found)
        return found

    def _series_instrument(self, venue: str, symbol: str, at: int | None) -> Instrument:
        key = (venue, symbol)
        refusal = self._seriesless.get(key)
        if refusal is not None:
            raise refusal.raised()
        found = self.resolve(venue, symbol, at)
        is_listed = (venue, found.symbol) in self._by_symbol
        refusal = _no_series(found, is_listed=is_listed)
        if refusal is not None:
            if not is_listed:
                self._remember(self._seriesless, key, refusal)
            raise refusal.raised()
        others = () if is_listed else self._by_pair.get((venue, found.coin, found.quote), ())
        holder = _live(others, at)
        if holder is not None:
            pair = f"{found.coin}/{found.quote}"
            raise SeriesTaken(
                f"{venue} symbol {shown(symbol)} reads as {pair}, which {_MAP} gives to"
                f" {holder.symbol}; if it is another coin of that name, give it a name of its own:"
                f" {line(venue, symbol, f'{ANY_COIN}/{found.quote}')}"
            )
        if not others and key in self._resolved:
            self._remember(self._series, key, found)
        return found

    def _remember(self, memory: dict[_Key, T], key: _Key, value: T) -> None:
        """Keep, within the bound; names too long to be any are not kept at all."""
        if len(key[0]) > LONGEST_SYMBOL or len(key[1]) > LONGEST_SYMBOL:
            return
        if len(memory) >= self.remembered:
            memory.clear()
        memory[key] = value


def _read(venue: str, symbol: str) -> Instrument:
    why = misspelt(symbol)
    if why:
        raise Unread(why)
    rule = RULES.get(venue)
    if rule is None:
        raise Unread(no_rule(venue))
    return rule.read(symbol)


def _no_series(found: Instrument, *, is_listed: bool) -> _Refusal | None:
    """Why an instrument has no series in the mart, if it has none."""
    name = f"{found.exchange} symbol {shown(found.symbol)}"
    pair = f"{found.coin}/{found.quote}"
    if not found.has_series and not is_listed:
        own = line(found.exchange, found.symbol, f"{own_name(found)}/{found.quote}")
        return _Refusal(
            Rejected,
            f"{name} stands for {pair}, {found.contract}: dated contracts, options and indices have"
            f" no series in the mart; to give it one under a coin name of its own, add to {_MAP}:"
            f" {own}",
            "NOT_IN_MART",
        )
    if not found.volume_unit.is_known:
        return _Refusal(
            Rejected,
            f"{name} ({pair}) counts volume in contracts, and nothing says what one stands for; add"
            f" to {_MAP}: {sized(found.exchange, found.symbol, pair)}",
            "UNKNOWN_UNIT",
        )
    return None


def _live(listed: Sequence[Instrument], at: int | None) -> Instrument | None:
    """The listing that holds at a time; without one, the listing that has no end."""
    for one in listed:
        if at is None:
            if one.delisted_at is None:
                return one
        elif (one.listed_at is None or to_ns(one.listed_at) <= at) and (
            one.delisted_at is None or at < to_ns(one.delisted_at)
        ):
            return one
    return None


def _overlaps(groups: Iterable[Sequence[Instrument]], allowed: str) -> Iterator[str]:
    """A problem for each two listings of a group that hold at the same time."""
    for group in groups:
        for one, other in combinations(group, 2):
            if _starts_before_end(one, other) and _starts_before_end(other, one):
                yield (
                    f"routing.symbol_map: found {_described([one])} and {_described([other])};"
                    f" allowed: {allowed}"
                )


def _starts_before_end(one: Instrument, other: Instrument) -> bool:
    return one.listed_at is None or other.delisted_at is None or one.listed_at < other.delisted_at


def _described(listed: Sequence[Instrument]) -> str:
    return " and ".join(
        f"{one.symbol} of {one.exchange} as {one.coin}/{one.quote}"
        + (f" from {one.listed_at:%Y-%m-%dT%H:%M:%SZ}" if one.listed_at else "")
        + (f" until {one.delisted_at:%Y-%m-%dT%H:%M:%SZ}" if one.delisted_at else "")
        for one in listed
    )


def _at(at: int | None) -> str:
    return "now" if at is None else f"at {from_ns(at):%Y-%m-%dT%H:%M:%SZ}"
