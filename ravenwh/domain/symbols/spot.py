"""Venues that have spot pairs only: Coinbase (``BTC-USD``) and Bitstamp (``btcusd``)."""

from __future__ import annotations

import re

import attrs

from ravenwh.domain.instrument import Contract, Instrument, VolumeUnit
from ravenwh.domain.symbols.reading import COINS, Rule, Unread, is_token, split

__all__ = ["RULES"]

_BITSTAMP_QUOTES = ("USD", "EUR", "GBP", "USDT", "USDC", "RLUSD", "PAX", "DAI", "BTC", "ETH")
_SMALL = re.compile("[a-z0-9]+")


@attrs.frozen(kw_only=True)
class _Coinbase:
    """Base and quote, with a dash between them."""

    exchange: str = "COINBASE_SPOT"
    family: str = "COINBASE"
    assumed: tuple[Contract, VolumeUnit] = (Contract.SPOT, COINS)

    def read(self, symbol: str) -> Instrument:
        parts = symbol.split("-")
        if len(parts) != 2 or not all(map(is_token, parts)):
            raise Unread("the venue writes BTC-USD")
        coin, quote = parts
        return Instrument(
            exchange=self.exchange, symbol=symbol, coin=coin, quote=quote, contract=Contract.SPOT
        )

    def write(self, coin: str, quote: str) -> str:
        return f"{coin}-{quote}"


@attrs.frozen(kw_only=True)
class _Bitstamp:
    """Base and quote, joined, in small letters."""

    exchange: str = "BITSTAMP_SPOT"
    family: str = "BITSTAMP"
    assumed: tuple[Contract, VolumeUnit] = (Contract.SPOT, COINS)

    def read(self, symbol: str) -> Instrument:
        if not _SMALL.fullmatch(symbol):
            raise Unread(
                "the venue writes base and quote in small letters and digits, as in btcusd"
            )
        coin, quote = split(symbol.upper(), _BITSTAMP_QUOTES)
        return Instrument(
            exchange=self.exchange, symbol=symbol, coin=coin, quote=quote, contract=Contract.SPOT
        )

    def write(self, coin: str, quote: str) -> str:
        if quote not in _BITSTAMP_QUOTES:
            raise Unread(
                f"its quotes are {', '.join(_BITSTAMP_QUOTES)}, and {quote} is none of them"
            )
        return (coin + quote).lower()


RULES: tuple[Rule, ...] = (_Coinbase(), _Bitstamp())
