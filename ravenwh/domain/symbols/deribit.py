"""Deribit: ``BTC-PERPETUAL``, ``BTC-28MAR25-60000-C``, ``BTC_USDC``, and the indices ``btc_usd``.

Spot pairs have an exchange of their own, DERIBIT_SPOT, so that they never share a row with a
perpetual of the same quote. Amounts are in USD for inverse perpetuals and inverse dated contracts,
in coins for everything else; the venue's own klines have coins as volume and quote units beside it
(``cost``), so that for inverse ones only what stands beside it is taken.
"""

from __future__ import annotations

import re

import attrs

from ravenwh.domain.instrument import Contract, Instrument, VolumeUnit
from ravenwh.domain.symbols.reading import (
    COINS,
    QUOTE_UNITS,
    Rule,
    Unread,
    day_of,
    option_terms,
)

__all__ = ["DATE", "RULES"]

DATE = "([1-9]|[12][0-9]|3[01])([A-Z]{3})([0-9]{2})"
"""``7JUN24``: a day without a leading zero."""

_CONTRACT = re.compile(
    f"([A-Z0-9]+)(?:_([A-Z0-9]+))?-(?:PERPETUAL|{DATE}(?:-([0-9]+(?:d[0-9]+)?)-([CP]))?)"
)
_PAIR = re.compile("([A-Z0-9]+)_([A-Z0-9]+)")
_INDEX = re.compile("([a-z0-9]+)_([a-z0-9]+)")


@attrs.frozen(kw_only=True)
class _Derivatives:
    """Perpetuals, dated contracts, options, and the names of indices."""

    exchange: str = "DERIBIT"
    family: str = "DERIBIT"
    assumed: None = None

    def read(self, symbol: str) -> Instrument:
        index = _INDEX.fullmatch(symbol)
        if index:
            return Instrument(
                exchange=self.exchange,
                symbol=symbol,
                coin=index[1].upper(),
                quote=index[2].upper(),
                contract=Contract.INDEX,
            )
        found = _CONTRACT.fullmatch(symbol)
        if not found:
            raise Unread(
                "the venue writes BTC-PERPETUAL, BTC_USDC-PERPETUAL, BTC-28MAR25,"
                " BTC-28MAR25-60000-C, and btc_usd for an index"
            )
        coin, quote, day, month, year, strike, kind = found.groups()
        if quote == "USD":
            raise Unread(f"the venue leaves USD out, as in {coin}-PERPETUAL")
        contract = Contract.OPTION if strike else Contract.DATED if day else Contract.PERPETUAL
        # Inverse options are priced in the coin itself, their strikes are in USD.
        currency = quote or "USD"
        return Instrument(
            exchange=self.exchange,
            symbol=symbol,
            coin=coin,
            quote=coin if strike and not quote else currency,
            contract=contract,
            volume_unit=COINS if quote or strike else QUOTE_UNITS,
            expiry=day_of(year, month, day) if day else None,
            option=option_terms(strike.replace("d", "."), currency, kind) if strike else None,
        )

    def write(self, coin: str, quote: str) -> str:
        return f"{coin}-PERPETUAL" if quote == "USD" else f"{coin}_{quote}-PERPETUAL"


@attrs.frozen(kw_only=True)
class _Spot:
    """Spot pairs, with an underscore between base and quote."""

    exchange: str = "DERIBIT_SPOT"
    family: str = "DERIBIT"
    assumed: tuple[Contract, VolumeUnit] = (Contract.SPOT, COINS)

    def read(self, symbol: str) -> Instrument:
        found = _PAIR.fullmatch(symbol)
        if not found:
            raise Unread("the venue writes BTC_USDC")
        return Instrument(
            exchange=self.exchange,
            symbol=symbol,
            coin=found[1],
            quote=found[2],
            contract=Contract.SPOT,
        )

    def write(self, coin: str, quote: str) -> str:
        return f"{coin}_{quote}"


RULES: tuple[Rule, ...] = (_Derivatives(), _Spot())
