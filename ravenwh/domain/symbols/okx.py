"""OKX: dashes between all parts, and one exchange for each of its instrument types.

Derivatives count contracts. Coin-margined ones (quote USD) stand for 100 USD (BTC) or 10 USD (all
others); the sizes of the others differ from coin to coin, so that only those stated here, or in
the settings, are known.
"""

from __future__ import annotations

from datetime import datetime

import attrs

from ravenwh.domain.instrument import Contract, Instrument, OptionTerms, VolumeUnit
from ravenwh.domain.symbols.reading import (
    COINS,
    UNSIZED_CONTRACTS,
    Rule,
    Unread,
    day_of,
    is_token,
    option_terms,
)

__all__ = ["RULES"]

_SIZES = {("BTC", "USDT"): 0.01, ("ETH", "USDT"): 0.1}
"""Coins in one contract."""


def _unit(coin: str, quote: str) -> VolumeUnit:
    if quote == "USD":
        return VolumeUnit(kind="contract", size=100.0 if coin == "BTC" else 10.0, of="quote")
    size = _SIZES.get((coin, quote))
    return VolumeUnit(kind="contract", size=size, of="coin") if size else UNSIZED_CONTRACTS


def _expiry(text: str) -> datetime:
    if len(text) != 6 or not text.isascii() or not text.isdigit():
        raise Unread(f"{text} is no date of the form YYMMDD")
    return day_of(text[:2], text[2:4], text[4:])


@attrs.frozen(kw_only=True)
class _Market:
    """One instrument type; ``form`` shows how its symbols look."""

    exchange: str
    contract: Contract
    form: str
    family: str = "OKX"

    @property
    def assumed(self) -> tuple[Contract, VolumeUnit]:
        unit = COINS if self.contract is Contract.SPOT else UNSIZED_CONTRACTS
        return self.contract, unit

    def read(self, symbol: str) -> Instrument:
        coin, _, rest = symbol.partition("-")
        quote, *tail = rest.split("-")
        if quote.endswith("_UM") and is_token(coin):
            raise Unread(
                "contracts margined in USD stablecoins share coin and USD with the coin-margined"
                " ones, and need a quote of their own",
                ((coin, quote),),
            )
        if not is_token(coin) or not is_token(quote):
            raise Unread(f"the venue writes {self.form}")
        expiry: datetime | None = None
        option: OptionTerms | None = None
        unit, priced_in = COINS, quote
        match self.contract, tail:
            case Contract.SPOT, []:
                pass
            case Contract.PERPETUAL, ["SWAP"]:
                unit = _unit(coin, quote)
            case Contract.DATED, [day]:
                expiry, unit = _expiry(day), _unit(coin, quote)
            case Contract.OPTION, [day, strike, ("C" | "P") as kind]:
                # Priced in the coin, whatever the strike is in.
                expiry, option = _expiry(day), option_terms(strike, quote, kind)
                unit, priced_in = UNSIZED_CONTRACTS, coin
            case _:
                raise Unread(f"the venue writes {self.form}")
        return Instrument(
            exchange=self.exchange,
            symbol=symbol,
            coin=coin,
            quote=priced_in,
            contract=self.contract,
            volume_unit=unit,
            expiry=expiry,
            option=option,
        )

    def write(self, coin: str, quote: str) -> str:
        match self.contract:
            case Contract.SPOT:
                return f"{coin}-{quote}"
            case Contract.PERPETUAL:
                return f"{coin}-{quote}-SWAP"
            case _:
                raise Unread(f"it has {self.contract} contracts only")


RULES: tuple[Rule, ...] = (
    _Market(exchange="OKX_SPOT", contract=Contract.SPOT, form="BTC-USDT"),
    _Market(exchange="OKX_PERP", contract=Contract.PERPETUAL, form="BTC-USDT-SWAP"),
    _Market(exchange="OKX_FUTURES", contract=Contract.DATED, form="BTC-USD-250328"),
    _Market(exchange="OKX_OPTIONS", contract=Contract.OPTION, form="BTC-USD-250328-60000-C"),
)
