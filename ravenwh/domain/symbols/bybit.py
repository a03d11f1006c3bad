"""Bybit: joined symbols for spot and perpetuals, dates and strikes behind dashes.

``BTCUSDT`` is written alike on spot and perpetual: only the exchange tells them apart. A perpetual
in USDC ends in ``PERP``. Coin-margined ones (quote USD) count US dollars, and their klines have
coins where others have the quote volume (v5 documentation: ``turnover``).
"""

from __future__ import annotations

import re
from datetime import datetime

import attrs

from ravenwh.domain.instrument import Contract, Instrument, VolumeUnit
from ravenwh.domain.symbols.deribit import DATE
from ravenwh.domain.symbols.reading import (
    COINS,
    Rule,
    Unread,
    day_of,
    is_token,
    last_friday,
    option_terms,
    split,
    unscaled,
)

__all__ = ["RULES"]

_SPOT_QUOTES = (
    *("USDT", "USDC", "USDE", "USD1", "DAI", "BTC", "ETH", "SOL", "MNT"),
    *("EUR", "BRL", "BRZ", "TRY", "PLN"),
)
_PERPETUAL_ENDS = {"USDT": "USDT", "PERP": "USDC", "USD": "USD"}
_ENDS_OF_QUOTES = {quote: end for end, quote in _PERPETUAL_ENDS.items()}
_SCALED = {
    **dict.fromkeys(
        ("BONK", "BTT", "CAT", "FLOKI", "LUNC", "PEPE", "RATS", "TURBO", "XEC"), "1000"
    ),
    **dict.fromkeys(("ELON", "LADYS", "QUBIC", "SATS"), "10000"),
    **dict.fromkeys(("BABYDOGE", "CHEEMS", "MOG", "PEIPEI"), "1000000"),
}
_SCALED_BEHIND = {"SHIB1000": ("SHIB", 1000.0)}
_LISTED_SCALED = frozenset(_SCALED) | {coin for coin, _ in _SCALED_BEHIND.values()}
_QUARTERS = {"H": 3, "M": 6, "U": 9, "Z": 12}

_DATED = re.compile(f"([A-Z0-9]+?)(USDT)?-{DATE}")
_QUARTERLY = re.compile("([A-Z0-9]+)USD([HMUZ])([0-9]{2})")
_OPTION = re.compile(f"([A-Z0-9]+)-{DATE}-([0-9.]+)-([CP])(?:-(USDT))?")
_INVERSE = VolumeUnit(kind="quote", second="coin")


def _unit(quote: str) -> VolumeUnit:
    return _INVERSE if quote == "USD" else COINS


@attrs.frozen(kw_only=True)
class _Spot:
    """Base and quote, joined."""

    exchange: str = "BYBIT_SPOT"
    family: str = "BYBIT"
    assumed: tuple[Contract, VolumeUnit] = (Contract.SPOT, COINS)

    def read(self, symbol: str) -> Instrument:
        if not is_token(symbol):
            raise Unread("the venue writes base and quote in capitals and digits, as in BTCUSDT")
        base, quote = split(symbol, _SPOT_QUOTES)
        coin, multiplier = unscaled(base, quote)
        return Instrument(
            exchange=self.exchange,
            symbol=symbol,
            coin=coin,
            quote=quote,
            contract=Contract.SPOT,
            multiplier=multiplier,
        )

    def write(self, coin: str, quote: str) -> str:
        if quote not in _SPOT_QUOTES:
            raise Unread(f"its quotes are {', '.join(_SPOT_QUOTES)}, and {quote} is none of them")
        return coin + quote


@attrs.frozen(kw_only=True)
class _Perpetuals:
    """Linear ones in USDT and USDC, and coin-margined ones in USD."""

    exchange: str = "BYBIT_PERP"
    family: str = "BYBIT"
    assumed: None = None

    def read(self, symbol: str) -> Instrument:
        if not is_token(symbol):
            raise Unread("the venue writes BTCUSDT, BTCPERP and BTCUSD")
        base, end = split(symbol, tuple(_PERPETUAL_ENDS))
        quote = _PERPETUAL_ENDS[end]
        coin, multiplier = _SCALED_BEHIND.get(base) or unscaled(base, quote)
        if coin in _LISTED_SCALED and quote != "USD" and symbol != self.write(coin, quote):
            raise Unread(
                f"the venue lists {coin} as {self.write(coin, quote)}; this one may be another coin"
                " of that name, and needs a name of its own"
            )
        return Instrument(
            exchange=self.exchange,
            symbol=symbol,
            coin=coin,
            quote=quote,
            contract=Contract.PERPETUAL,
            multiplier=multiplier,
            volume_unit=_unit(quote),
        )

    def write(self, coin: str, quote: str) -> str:
        if quote not in _ENDS_OF_QUOTES:
            raise Unread(
                f"its quotes are {', '.join(_ENDS_OF_QUOTES)}, and {quote} is none of them"
            )
        if quote == "USD":
            return f"{coin}USD"
        behind = next((base for base, (name, _) in _SCALED_BEHIND.items() if name == coin), None)
        return (behind or _SCALED.get(coin, "") + coin) + _ENDS_OF_QUOTES[quote]


@attrs.frozen(kw_only=True)
class _Dated:
    """``BTC-28MAR25`` in USDC, ``BTCUSDT-28MAR25`` in USDT, ``BTCUSDH25`` coin-margined."""

    exchange: str = "BYBIT_FUTURES"
    family: str = "BYBIT"
    assumed: None = None

    def read(self, symbol: str) -> Instrument:
        dated = _DATED.fullmatch(symbol)
        quarterly = _QUARTERLY.fullmatch(symbol)
        expiry: datetime
        if dated:
            base, usdt, day, month, year = dated.groups()
            quote, expiry = usdt or "USDC", day_of(year, month, day)
        elif quarterly:
            base, letter, year = quarterly.groups()
            quote, expiry = "USD", last_friday(year, _QUARTERS[letter])
        else:
            raise Unread("the venue writes BTC-28MAR25, BTCUSDT-28MAR25 and BTCUSDH25")
        coin, multiplier = unscaled(base, quote)
        return Instrument(
            exchange=self.exchange,
            symbol=symbol,
            coin=coin,
            quote=quote,
            contract=Contract.DATED,
            multiplier=multiplier,
            volume_unit=_unit(quote),
            expiry=expiry,
        )

    def write(self, coin: str, quote: str) -> str:
        raise Unread("it has dated contracts only")


@attrs.frozen(kw_only=True)
class _Options:
    """``BTC-28MAR25-60000-C`` in USDC, with ``-USDT`` behind in USDT."""

    exchange: str = "BYBIT_OPTIONS"
    family: str = "BYBIT"
    assumed: tuple[Contract, VolumeUnit] = (Contract.OPTION, COINS)

    def read(self, symbol: str) -> Instrument:
        found = _OPTION.fullmatch(symbol)
        if not found:
            raise Unread("the venue writes BTC-28MAR25-60000-C and BTC-28MAR25-60000-C-USDT")
        coin, day, month, year, strike, kind, usdt = found.groups()
        quote = usdt or "USDC"
        return Instrument(
            exchange=self.exchange,
            symbol=symbol,
            coin=coin,
            quote=quote,
            contract=Contract.OPTION,
            expiry=day_of(year, month, day),
            option=option_terms(strike, quote, kind),
        )

    def write(self, coin: str, quote: str) -> str:
        raise Unread("it has options only")


RULES: tuple[Rule, ...] = (_Spot(), _Perpetuals(), _Dated(), _Options())
