"""Binance: symbols without a separator, split by the closed list of each market's quotes.

The lists are those of the venue's own instrument lists (``exchangeInfo``), delisted quotes
included, since the archives still hold them. A quote that is missing here makes its symbols
unknown, never wrong ones: none of them is the end of another, but for Binance US.
"""

from __future__ import annotations

import re

import attrs

from ravenwh.domain.instrument import Contract, Instrument, VolumeUnit
from ravenwh.domain.symbols.reading import (
    COINS,
    UNSIZED_CONTRACTS,
    Rule,
    Unread,
    day_of,
    is_token,
    option_terms,
    split,
    unscaled,
)

__all__ = ["RULES"]

_SPOT_QUOTES = (
    *("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "PAX", "USDS", "UST", "USD1", "USDE", "DAI"),
    *("VAI", "BTC", "ETH", "BNB", "XRP", "TRX", "DOGE", "DOT", "SOL"),
    *("EUR", "EURI", "GBP", "AUD", "JPY", "TRY", "BRL", "RUB", "UAH", "NGN", "ZAR", "PLN", "RON"),
    *("CZK", "ARS", "MXN", "COP", "BIDR", "IDRT", "BKRW", "BVND", "GYEN"),
)
_US_QUOTES = ("USD", "USDT", "USDC", "BUSD", "DAI", "BTC", "ETH", "BNB")
_FUTURES_QUOTES = ("USDT", "USDC", "BUSD", "BTC")

_SPOT_SCALED = {"SATS": "1000", "CAT": "1000", "CHEEMS": "1000", "BABYDOGE": "1M"}
_FUTURES_SCALED = {
    **dict.fromkeys(
        ("BONK", "CAT", "CHEEMS", "FLOKI", "LUNC", "PEPE", "RATS", "SATS", "SHIB", "WHY", "XEC"),
        "1000",
    ),
    "BABYDOGE": "1M",
    "MOG": "1000000",
}
_DECIDED = {"EURAEUR": ("EUR", "AEUR")}
"""Listings that the quotes alone would split wrongly: AEUR is the quote of this one only."""

_DATED = re.compile("(.+)_([0-9]{2})([0-9]{2})([0-9]{2})", re.DOTALL)
_COIN_MARGINED = re.compile("([A-Z0-9]+)USD_(?:PERP|([0-9]{2})([0-9]{2})([0-9]{2}))")
_OPTION = re.compile("([A-Z0-9]+)-([0-9]{2})([0-9]{2})([0-9]{2})-([0-9.]+)-([CP])")


@attrs.frozen(kw_only=True)
class _Joined:
    """A market whose symbols are base and quote, joined; ``dated`` ones carry a date behind.

    ``scaled`` are the coins that the market is known to list by the thousand or more only, with
    what it writes before the name.
    """

    exchange: str
    contract: Contract
    quotes: tuple[str, ...]
    scaled: dict[str, str] = attrs.field(factory=dict)
    decided: dict[str, tuple[str, str]] = attrs.field(factory=dict)
    dated: bool = False
    family: str = "BINANCE"

    @property
    def assumed(self) -> tuple[Contract, VolumeUnit]:
        return self.contract, COINS

    def read(self, symbol: str) -> Instrument:
        pair, expiry, contract = symbol, None, self.contract
        dated = _DATED.fullmatch(symbol) if self.dated else None
        if dated:
            pair, contract = dated[1], Contract.DATED
            expiry = day_of(*dated.group(2, 3, 4))
        if not is_token(pair):
            raise Unread("the venue writes base and quote in capitals and digits, as in BTCUSDT")
        base, quote = self.decided.get(pair) or split(pair, self.quotes)
        coin, multiplier = unscaled(base, quote)
        number = self.scaled.get(coin, "")
        if number and not expiry and base != number + coin:
            raise Unread(
                f"the venue lists {coin} as {number}{coin}; this one may be another coin of that"
                " name, and needs a name of its own",
            )
        return Instrument(
            exchange=self.exchange,
            symbol=symbol,
            coin=coin,
            quote=quote,
            contract=contract,
            multiplier=multiplier,
            volume_unit=COINS,
            expiry=expiry,
        )

    def write(self, coin: str, quote: str) -> str:
        if quote not in self.quotes and (coin, quote) not in self.decided.values():
            raise Unread(f"its quotes are {', '.join(self.quotes)}, and {quote} is none of them")
        return f"{self.scaled.get(coin, '')}{coin}{quote}"


@attrs.frozen(kw_only=True)
class _CoinMargined:
    """Contracts in USD, margined and settled in the coin.

    Volume counts contracts of 100 USD (BTC) or 10 USD (all others); where other klines have the
    quote volume, these have coins (COIN-M documentation, kline fields 5, 7, 9 and 10).
    """

    exchange: str = "BINANCE_COIN_FUTURES"
    family: str = "BINANCE"
    assumed: None = None

    def read(self, symbol: str) -> Instrument:
        found = _COIN_MARGINED.fullmatch(symbol)
        if not found:
            raise Unread("the venue writes BTCUSD_PERP, and BTCUSD_250328 for dated contracts")
        coin, year, month, day = found.groups()
        return Instrument(
            exchange=self.exchange,
            symbol=symbol,
            coin=coin,
            quote="USD",
            contract=Contract.DATED if year else Contract.PERPETUAL,
            volume_unit=VolumeUnit(
                kind="contract", size=100.0 if coin == "BTC" else 10.0, of="quote", second="coin"
            ),
            expiry=day_of(year, month, day) if year else None,
        )

    def write(self, coin: str, quote: str) -> str:
        if quote != "USD":
            raise Unread("its only quote is USD")
        return f"{coin}USD_PERP"


@attrs.frozen(kw_only=True)
class _Options:
    """European options, priced and settled in USDT. Contract sizes are not in the symbol."""

    exchange: str = "BINANCE_OPTIONS"
    family: str = "BINANCE"
    assumed: tuple[Contract, VolumeUnit] = (Contract.OPTION, UNSIZED_CONTRACTS)

    def read(self, symbol: str) -> Instrument:
        found = _OPTION.fullmatch(symbol)
        if not found:
            raise Unread("the venue writes BTC-250328-60000-C")
        coin, year, month, day, strike, kind = found.groups()
        return Instrument(
            exchange=self.exchange,
            symbol=symbol,
            coin=coin,
            quote="USDT",
            contract=Contract.OPTION,
            volume_unit=UNSIZED_CONTRACTS,
            expiry=day_of(year, month, day),
            option=option_terms(strike, "USDT", kind),
        )

    def write(self, coin: str, quote: str) -> str:
        raise Unread("it has options only")


RULES: tuple[Rule, ...] = (
    _Joined(
        exchange="BINANCE_SPOT",
        contract=Contract.SPOT,
        quotes=_SPOT_QUOTES,
        scaled=_SPOT_SCALED,
        decided=_DECIDED,
    ),
    _Joined(
        exchange="BINANCE_FUTURES",
        contract=Contract.PERPETUAL,
        quotes=_FUTURES_QUOTES,
        scaled=_FUTURES_SCALED,
        dated=True,
    ),
    _CoinMargined(),
    _Options(),
    _Joined(exchange="BINANCE_US", contract=Contract.SPOT, quotes=_US_QUOTES, family="BINANCE_US"),
)
