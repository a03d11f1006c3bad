"""Which venues are taken, from which feed, and what their symbols stand for."""

# ruff: noqa: RUF009  # option() and optional() give attrs fields, as attrs.field() does
from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import combinations
from types import MappingProxyType
from typing import ClassVar, Literal

import attrs

from ravenwh.domain.messages import DATA_TYPES
from ravenwh.domain.settings.kinds import Choice, Moment, Number, Text, Texts
from ravenwh.domain.settings.option import Named, Rule, Section, Table, option, optional, required
from ravenwh.domain.settings.problem import Problem
from ravenwh.domain.settings.toml_text import dotted

__all__ = [
    "FEED_NAME",
    "PAIR",
    "VENUE",
    "Routing",
    "SymbolEntry",
    "SymbolMap",
    "Upstream",
    "upstream_key",
    "window_of",
]

_VENUE = "[A-Z0-9][A-Z0-9_.]{0,39}"
_ASSET = r"[^\s/*:a-z\x00-\x1f\x7f]{1,40}"

VENUE = Text(pattern=_VENUE, rule="a venue and market in capitals, as in BINANCE_FUTURES")
PAIR = Text(pattern=f"{_ASSET}/{_ASSET}", rule="COIN/QUOTE in capitals, as in PEPE/USDT")
VENUE_SYMBOL = Text(
    pattern=r"[^\s\x00-\x1f\x7f]{1,80}", rule="the venue's own symbol, as in 1000PEPEUSDT"
)
FEED_NAME = Text(
    pattern="[a-z][a-z0-9_]{0,39}", rule="a name of small letters, digits and underscores"
)
_UPSTREAM_KEY = Text(
    pattern=f"default|{_VENUE}|{_VENUE}:({'|'.join(DATA_TYPES)})",
    rule=f"VENUE:DATA_TYPE, VENUE or default, where DATA_TYPE is one of {', '.join(DATA_TYPES)}",
)


def window_of(text: str) -> tuple[datetime, datetime]:
    """Start and end of a maintenance window, in UTC. Raises ValueError."""
    start, end = (datetime.fromisoformat(part) for part in text.split("/"))
    if start.utcoffset() is None or end.utcoffset() is None or start >= end:
        raise ValueError(text)
    return start.astimezone(UTC), end.astimezone(UTC)


def _is_window(text: str) -> bool:
    try:
        return bool(window_of(text))
    except ValueError:
        return False


_WINDOW = Text(
    fits=_is_window,
    rule='START/END with their offsets, as in "2026-12-01T02:00Z/2026-12-01T04:00Z"',
)
_FALLS_BACK = frozenset({"TRADE", "ORDERBOOK"})


def _size_of_contracts(unit: str | None, size: float | None, of: str | None) -> Iterator[Problem]:
    for name, value, other in (("contract_size", size, of), ("contract_of", of, size)):
        if value is None and other is not None:
            text = "found nothing; allowed: contract_size and contract_of, both or none of them"
            yield Problem(path=(name,), text=text)
    if unit in ("coin", "quote") and (size is not None or of is not None):
        text = f'found "{unit}", with the size of a contract; allowed with that: "contract"'
        yield Problem(path=("volume_unit",), text=text)


def _listed_before_delisted(
    listed_at: datetime | None, delisted_at: datetime | None
) -> Iterator[Problem]:
    if listed_at and delisted_at and delisted_at <= listed_at:
        yield Problem(path=("delisted_at",), text="found a time that is not after listed_at; "
                      "allowed: a later one")  # fmt: skip


@attrs.frozen(kw_only=True)
class SymbolEntry(Section):
    """What one symbol of a venue stands for; what is not given follows the venue's rule."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            keys=("volume_unit", "contract_size", "contract_of"),
            check=_size_of_contracts,
        ),
        Rule(keys=("listed_at", "delisted_at"), check=_listed_before_delisted),
    )

    symbol: str = required(VENUE_SYMBOL, help="The venue's own symbol.")
    multiplier: float | None = optional(
        Number(least=1e-12, most=1e12),
        absent="by the venue's rule",
        help="How many coins one unit of price and volume stands for.",
        example=1000,
    )
    volume_unit: Literal["coin", "quote", "contract"] | None = optional(
        Choice(words=("coin", "quote", "contract")),
        absent="by the venue's rule",
        help="What the venue counts volume in.",
    )
    contract_size: float | None = optional(
        Number(least=1e-12, most=1e12),
        absent="by the venue's rule",
        help="What one contract stands for.",
    )
    contract_of: Literal["coin", "quote"] | None = optional(
        Choice(words=("coin", "quote")),
        absent="by the venue's rule",
        help="Whether contract_size is in coins or in quote units.",
    )
    listed_at: datetime | None = optional(
        Moment(), absent="always", help="From when on the symbol means this."
    )
    delisted_at: datetime | None = optional(
        Moment(), absent="for ever", help="Until when, not included."
    )
    contract: Literal["spot", "perpetual", "dated", "option"] | None = optional(
        Choice(words=("spot", "perpetual", "dated", "option")),
        absent="by the venue's rule",
        help="The kind of the instrument.",
    )
    coin: str | None = optional(
        Text(pattern=_ASSET, rule="a name in capitals"),
        absent="the coin of the key",
        help="A coin name of its own, which dated and option contracts need to have klines.",
    )


SymbolMap = Mapping[str, Mapping[str, SymbolEntry]]


def _include_or_exclude(include: tuple[str, ...], exclude: tuple[str, ...]) -> Iterator[Problem]:
    for venue in include:
        if venue in exclude:
            yield Problem(
                path=("venue_exclude",),
                text=f"found {venue}, which venue_include has too; allowed: in one of them",
            )


def _one_meaning_at_a_time(symbol_map: SymbolMap) -> Iterator[Problem]:
    meanings: dict[tuple[str, str], list[tuple[str, SymbolEntry]]] = {}
    for pair, venues in symbol_map.items():
        for venue, entry in venues.items():
            meanings.setdefault((venue, entry.symbol), []).append((pair, entry))
    for (venue, symbol), entries in meanings.items():
        for (pair, one), (other_pair, other) in combinations(entries, 2):
            if _start(one) < _end(other) and _start(other) < _end(one):
                yield Problem(
                    path=("symbol_map", other_pair, venue),
                    text=f"found {symbol}, which {dotted((pair, venue))} has too; allowed: one "
                    "meaning of a symbol at a time (listed_at and delisted_at tell them apart)",
                )


def _start(entry: SymbolEntry) -> datetime:
    return entry.listed_at or datetime.min.replace(tzinfo=UTC)


def _end(entry: SymbolEntry) -> datetime:
    return entry.delisted_at or datetime.max.replace(tzinfo=UTC)


@attrs.frozen(kw_only=True)
class Routing(Section):
    """Which venues are taken, from which feed, and what their symbols stand for."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(keys=("venue_include", "venue_exclude"), check=_include_or_exclude),
        Rule(keys=("symbol_map",), check=_one_meaning_at_a_time),
    )

    venue_include: tuple[str, ...] = option(
        Texts(item=VENUE), default=(), help="The only venues that are taken; empty takes all."
    )
    venue_exclude: tuple[str, ...] = option(
        Texts(item=VENUE), default=(), help="Venues that are not taken."
    )
    symbol_map: SymbolMap = option(
        Named(name=PAIR, item=Named(name=VENUE, item=Table(of=SymbolEntry, short="symbol"))),
        default=MappingProxyType({}),
        help="Symbols that no rule of their venue resolves, by coin and quote, then by venue.",
        example={
            "PEPE/USDT": {"BINANCE_FUTURES": {"symbol": "1000PEPEUSDT", "multiplier": 1000}},
            "BTC/USD": {"BINANCE_FUTURES": "BTCPERP"},
        },
    )
    maintenance: Mapping[str, tuple[str, ...]] = option(
        Named(name=VENUE, item=Texts(item=_WINDOW, least=1)),
        default=MappingProxyType({}),
        help="When venues are maintained: their silence is no alarm then.",
        example={"BINANCE_SPOT": ["2026-12-01T02:00Z/2026-12-01T04:00Z"]},
    )
    upstreams: Mapping[str, str] = option(
        Named(name=_UPSTREAM_KEY, item=FEED_NAME),
        default=MappingProxyType({}),
        help="The feed of each venue and data type. TRADE and ORDERBOOK fall back to the venue's, "
        "then to the default one. Empty, with one feed only, bars.feed left aside: that feed is "
        "everything's.",
        example={
            "BINANCE_FUTURES:CANDLE": "default",
            "BINANCE_FUTURES": "default",
            "default": "default",
        },
    )


@attrs.frozen(kw_only=True)
class Upstream:
    """The feed that a venue's data type comes from.

    ``key`` is the key of ``routing.upstreams`` that named it, or None where it is the only feed of
    venues.
    ``guessed`` is true where the default stepped in for the venue: worth a warning.
    """

    feed: str
    key: str | None

    @property
    def guessed(self) -> bool:
        """Whether ``default`` stepped in."""
        return self.key == "default"


def upstream_key(upstreams: Mapping[str, str], venue: str, data_type: str) -> str | None:
    """The key of ``upstreams`` that decides for a venue and data type, or None."""
    keys = [f"{venue}:{data_type}"]
    if data_type in _FALLS_BACK:
        keys += [venue, "default"]
    return next((key for key in keys if key in upstreams), None)
