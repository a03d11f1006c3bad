"""Kraken: ``BTC/USD`` on spot, ``PF_XBTUSD`` and ``PI_XBTUSD`` on futures.

Spot symbols are those of its WebSocket v2. Those of v1 (``XBT/USD``, ``XDG/USD``) name the same
instruments by Kraken's old names of BTC and DOGE, and are read as such: the instrument then carries
the v2 symbol, so that both are one series. On futures Bitcoin is still XBT.

Linear contracts (``PF_``, ``FF_``) and coin-margined ones (``PI_``, ``FI_``, which count US
dollars) share coin and quote, and so have an exchange each.
"""

from __future__ import annotations

import re

import attrs

from ravenwh.domain.instrument import Contract, Instrument, VolumeUnit
from ravenwh.domain.symbols.reading import COINS, QUOTE_UNITS, Rule, Unread, day_of, is_token

__all__ = ["COIN_MARGINED", "RULES"]

COIN_MARGINED = frozenset({"BTC", "ETH", "LTC", "BCH", "XRP"})
"""The coins that have coin-margined contracts beside the linear ones."""

_OLD_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
_FUTURE = re.compile("(PF|PI|FF|FI)_([A-Z0-9]+)USD(?:_([0-9]{2})([0-9]{2})([0-9]{2}))?")


@attrs.frozen(kw_only=True)
class _Spot:
    """Base and quote, with a slash between them."""

    exchange: str = "KRAKEN_SPOT"
    family: str = "KRAKEN"
    assumed: tuple[Contract, VolumeUnit] = (Contract.SPOT, COINS)

    def read(self, symbol: str) -> Instrument:
        parts = symbol.split("/")
        if len(parts) != 2 or not all(map(is_token, parts)):
            raise Unread("the venue writes BTC/USD")
        coin, quote = (_OLD_NAMES.get(part, part) for part in parts)
        return Instrument(
            exchange=self.exchange,
            symbol=f"{coin}/{quote}",
            coin=coin,
            quote=quote,
            contract=Contract.SPOT,
        )

    def write(self, coin: str, quote: str) -> str:
        return f"{coin}/{quote}"


@attrs.frozen(kw_only=True)
class _Futures:
    """One of the two kinds of margin; the letters say margin and whether there is a date."""

    exchange: str
    perpetual: str
    dated: str
    unit: VolumeUnit
    family: str = "KRAKEN"
    assumed: None = None

    def read(self, symbol: str) -> Instrument:
        found = _FUTURE.fullmatch(symbol)
        expected = (self.dated if found[3] else self.perpetual) if found else ""
        if not found or found[1] != expected:
            raise Unread(
                f"the venue writes {self.perpetual}_XBTUSD, and {self.dated}_XBTUSD_250328 for"
                " dated contracts"
            )
        base, year, month, day = found.group(2, 3, 4, 5)
        if base == "BTC":
            raise Unread("the venue writes XBT for Bitcoin")
        return Instrument(
            exchange=self.exchange,
            symbol=symbol,
            coin="BTC" if base == "XBT" else base,
            quote="USD",
            contract=Contract.DATED if year else Contract.PERPETUAL,
            volume_unit=self.unit,
            expiry=day_of(year, month, day, hour=0) if year else None,  # the hour has changed
        )

    def write(self, coin: str, quote: str) -> str:
        if quote != "USD":
            raise Unread("its only quote is USD")
        return f"{self.perpetual}_{'XBT' if coin == 'BTC' else coin}USD"


RULES: tuple[Rule, ...] = (
    _Spot(),
    _Futures(exchange="KRAKEN_FUTURES", perpetual="PF", dated="FF", unit=COINS),
    _Futures(exchange="KRAKEN_COIN_FUTURES", perpetual="PI", dated="FI", unit=QUOTE_UNITS),
)
