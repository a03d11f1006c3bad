"""What cryptofeed's topics name, and what to subscribe to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from ravenwh.domain.errors import DecodeError, SettingsError
from ravenwh.domain.symbols import RULES, Unread
from ravenwh.domain.symbols.cryptofeed import EXCHANGES, names
from ravenwh.domain.symbols.reasons import misspelt, shown

__all__ = ["KEYS", "Topic", "exchange_problem", "parse", "subscriptions"]

KEYS: Mapping[str, str] = {
    "TRADE": "trades",
    "ORDERBOOK": "book",
    "CANDLE": "candles",
    "FUNDING": "funding",
    "LIQUIDATION": "liquidations",
    "OPEN_INTEREST": "open_interest",
    "TICKER": "ticker",
    "PRICE_INDEX": "index",
}
"""cryptofeed's key of each data type, as it is unless its user named another one."""

_ALLOWED = frozenset(KEYS.values())
_EXCHANGE = re.compile(r"[A-Z0-9][A-Z0-9_.]{0,39}")
_LONGEST = 200  # bytes; exchange, key and symbol are shorter


class Topic(NamedTuple):
    """Key, exchange and symbol in cryptofeed's words; static topics name the key alone."""

    key: str
    exchange: str | None = None
    symbol: str | None = None


@lru_cache(maxsize=16_384)  # topics are short, and what is refused is not kept
def parse(raw: bytes) -> Topic:
    """What the bytes before the first space name. Raises DecodeError."""
    if len(raw) > _LONGEST:
        raise DecodeError(f"topic: found {len(raw)} bytes, allowed are {_LONGEST}, then one space")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"topic: found {raw!r}, allowed is UTF-8: {error.reason}") from None
    match text.split("-", 2):
        case [key] if key in _ALLOWED:
            return Topic(key)
        case [exchange, key, symbol] if key in _ALLOWED:
            problem = exchange_problem(exchange) or misspelt(symbol)
            if problem:
                raise DecodeError(f"topic {shown(text)}: {problem}")
            return Topic(key, exchange, symbol)
    raise DecodeError(
        f"topic: found {shown(text)}, allowed is EXCHANGE-key-SYMBOL, or the key alone, with a key "
        f"of {', '.join(sorted(_ALLOWED))}"
    )


def exchange_problem(exchange: str) -> str:
    """Why the text is no exchange of cryptofeed, known here or not; empty where it can be one."""
    if _EXCHANGE.fullmatch(exchange):
        return ""
    return f"exchange: found {shown(exchange)}, allowed are capitals, digits, _ and ."


def subscriptions(data_type: str, symbols: Mapping[str, Iterable[str] | None]) -> tuple[bytes, ...]:
    """What to subscribe to for these symbols of these venues, sorted, each once.

    ``symbols`` maps a venue to its own symbols, or to None for all that it has. A subscription to
    one symbol ends in a space, so that it matches no longer one. A cryptofeed exchange may have
    several venues of ours, and one that was told to use static keys sends everything: so more may
    come than is asked for. A venue without a rule here is taken for cryptofeed's own name, and so
    are its symbols. Raises SettingsError with every symbol that cryptofeed has no name for.
    """
    key = KEYS[data_type]
    topics, problems = {f"{key} "}, []
    for venue, wanted in symbols.items():
        if wanted is None:
            topics.update(f"{exchange}-{key}-" for exchange in _exchanges(venue))
            continue
        for symbol in wanted:
            found = tuple(_names(venue, symbol))
            topics.update(f"{exchange}-{key}-{name} " for exchange, name in found)
            if not found:
                problems.append(
                    f"symbol of {venue}: found {shown(symbol)}, which cryptofeed has no name for "
                    "that is known here; allowed: * for all that it sends, or no such symbol"
                )
    if problems:
        raise SettingsError(problems)
    return tuple(sorted(topic.encode() for topic in topics))


def _exchanges(venue: str) -> Iterator[str]:
    """The exchanges of cryptofeed that are, or hold, the venue."""
    if venue not in RULES:
        yield venue
    for exchange, rows in EXCHANGES.items():
        if venue in rows:
            yield exchange


def _names(venue: str, symbol: str) -> Iterator[tuple[str, str]]:
    """What cryptofeed may call a symbol of a venue."""
    rule = RULES.get(venue)
    if rule is None:
        yield venue, symbol
        return
    try:
        yield from names(rule.read(symbol))
    except Unread:
        return
