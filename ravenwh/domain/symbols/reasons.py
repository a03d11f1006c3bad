"""Why a symbol is not resolved, for people: what it could be, and the line that decides it."""

from __future__ import annotations

import unicodedata
from difflib import get_close_matches

from ravenwh.domain.instrument import Contract, Instrument
from ravenwh.domain.settings.toml_text import dotted, toml_text
from ravenwh.domain.symbols import RULES
from ravenwh.domain.symbols.cryptofeed import EXCHANGES
from ravenwh.domain.symbols.reading import Unread

__all__ = [
    "ANY_COIN",
    "ANY_SYMBOL",
    "LONGEST_SYMBOL",
    "line",
    "misspelt",
    "no_rule",
    "own_name",
    "shown",
    "sized",
    "unread",
]

ANY_COIN = "coin"
_ANY_PAIR = "coin/quote"
ANY_SYMBOL = "its symbol"
"""What a person replaces in a line: the settings refuse it as it stands."""

LONGEST_SYMBOL = 80
"""Characters; what is longer is no symbol."""

_LONGEST_SHOWN = 40
_MAP = "[routing.symbol_map]"


def shown(text: str) -> str:
    """The text for a message: quoted, escaped, and cut if it is long."""
    if len(text) <= _LONGEST_SHOWN:
        return repr(text)
    return f"{text[:_LONGEST_SHOWN]!r}... ({len(text)} characters)"


def _named(exchange: str) -> str:
    """The exchange as it is, or quoted where it is no name."""
    return shown(exchange) if misspelt(exchange) else exchange


def misspelt(symbol: str) -> str:
    """Why the text can be no symbol of any venue; empty where it can."""
    if not symbol:
        return "it is empty"
    if len(symbol) > LONGEST_SYMBOL:
        return f"no symbol has more than {LONGEST_SYMBOL} characters"
    if any(map(str.isspace, symbol)):
        return "no symbol has white space in it"
    if not symbol.isprintable():
        return "no symbol has control characters or invisible ones in it"
    if not unicodedata.is_normalized("NFKC", symbol):
        return "it has look-alikes of plain letters or digits in it"
    return ""


def no_rule(exchange: str) -> str:
    """That no rule is known for the exchange, and which there are."""
    if exchange in EXCHANGES:
        hint = f"that is cryptofeed's name of {' and '.join(EXCHANGES[exchange])}"
    else:
        near = get_close_matches(exchange[:LONGEST_SYMBOL].upper(), RULES, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(RULES)}"
    return f"no rule is known for the exchange {shown(exchange)}: {hint}"


def unread(exchange: str, symbol: str, error: Unread) -> str:
    """The whole reason: found, why not, candidates, other readings, and the line to add."""
    text = f"{_named(exchange)} symbol {shown(symbol)}: {error.why}"
    if len(symbol) > LONGEST_SYMBOL:
        return text
    respelt = _respelt(exchange, symbol)
    if respelt:
        text += f"; did you mean {' or '.join(map(shown, respelt))}?"
    relatives = [] if error.candidates else _relatives(exchange, symbol)
    if relatives:
        text += f"; it is a symbol of {' and of '.join(relatives)}"
    if misspelt(symbol) or misspelt(exchange):
        return text
    pairs = [f"{coin}/{quote}" for coin, quote in error.candidates]
    pairs = pairs or [f"{found.coin}/{found.quote}" for found in respelt.values()] or [_ANY_PAIR]
    lines = " or ".join(line(exchange, symbol, pair) for pair in pairs)
    return f"{text}; to decide it, add to {_MAP}: {lines}"


def line(exchange: str, symbol: str, pair: str) -> str:
    """The line of ``routing.symbol_map`` that makes the symbol stand for the pair.

    Three dots stand for what the settings must say, since no rule knows.
    """
    rule = RULES.get(exchange)
    if rule is None:
        is_enough = exchange.endswith("_SPOT")
    else:
        is_enough = rule.assumed is not None or _read(exchange, symbol) is not None
    value = toml_text(symbol)
    if not is_enough:
        value = f'{{ symbol = {value}, contract = "...", volume_unit = "..." }}'
    return f"{dotted((pair,))} = {{ {dotted((exchange,))} = {value} }}"


def sized(exchange: str, symbol: str, pair: str) -> str:
    """The line that also says what one contract stands for, with dots in the place of that."""
    return (
        f"{dotted((pair,))} = {{ {dotted((exchange,))} = {{ symbol = {toml_text(symbol)},"
        ' volume_unit = "contract", contract_size = ..., contract_of = "..." } }'
    )


def own_name(instrument: Instrument) -> str:
    """A coin name that belongs to a dated contract, option or index alone: ``BTC-250328``."""
    name = instrument.coin
    if instrument.expiry:
        name += f"-{instrument.expiry:%y%m%d}"
    if instrument.option:
        strike = f"{instrument.option.strike:.10f}".rstrip("0").rstrip(".")
        name += f"-{strike}-{instrument.option.kind[0].upper()}"
    if instrument.contract is Contract.INDEX:
        name += "-INDEX"
    return name


def _read(exchange: str, symbol: str) -> Instrument | None:
    try:
        return RULES[exchange].read(symbol)
    except (KeyError, Unread):
        return None


def _respelt(exchange: str, symbol: str) -> dict[str, Instrument]:
    """The same letters as the venue writes them, and what that stands for."""
    bare = "".join(
        c for c in unicodedata.normalize("NFKC", symbol) if c.isprintable() and not c.isspace()
    )
    return {
        form: found
        for form in (bare, bare.upper(), bare.lower())
        if form != symbol and not misspelt(form) and (found := _read(exchange, form)) is not None
    }


def _relatives(exchange: str, symbol: str) -> list[str]:
    """Other markets of the same venue that have such a symbol."""
    rule = RULES.get(exchange)
    if rule is None or misspelt(symbol):
        return []
    return [
        name
        for name, other in RULES.items()
        if other.family == rule.family and name != exchange and _read(name, symbol) is not None
    ]
