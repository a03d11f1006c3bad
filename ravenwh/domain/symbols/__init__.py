"""How each venue writes its symbols: one module a venue family, one rule an exchange.

Owns the forms, the closed lists of quotes and the known contract sizes. Offers :data:`RULES`, from
the name of an exchange row to its rule: ``read`` (symbol to instrument) and ``write`` (pair to
symbol); and :mod:`~ravenwh.domain.symbols.cryptofeed`, which turns cryptofeed's names into the
venues' own. A rule never guesses: what it does not read raises ``Unread`` with the reason and the
candidates, which the register turns into ``UnknownSymbol``. A new venue is a module and a line
below. Tested by a table of real symbols and by property tests.

The exchange rows, a venue **and market** each:

======================  ================================================================
BINANCE_SPOT            ``BTCUSDT``
BINANCE_FUTURES         USD-margined: ``BTCUSDT``, ``BTCUSDT_250328``
BINANCE_COIN_FUTURES    coin-margined: ``BTCUSD_PERP``, ``BTCUSD_250328``
BINANCE_OPTIONS         ``BTC-250328-60000-C``
BINANCE_US              spot: ``BTCUSD``
BYBIT_SPOT              ``BTCUSDT``
BYBIT_PERP              ``BTCUSDT``, ``BTCPERP`` (USDC), ``BTCUSD`` (coin-margined)
BYBIT_FUTURES           ``BTC-28MAR25``, ``BTCUSDT-28MAR25``, ``BTCUSDH25``
BYBIT_OPTIONS           ``BTC-28MAR25-60000-C``, ``BTC-28MAR25-60000-C-USDT``
DERIBIT                 ``BTC-PERPETUAL``, ``BTC_USDC-PERPETUAL``, ``BTC-28MAR25``,
                        ``XRP_USDC-30JUN23-0d4-C``, and indices: ``btc_usd``
DERIBIT_SPOT            ``BTC_USDC``
KRAKEN_SPOT             ``BTC/USD``
KRAKEN_FUTURES          linear: ``PF_XBTUSD``, ``FF_XBTUSD_250328``
KRAKEN_COIN_FUTURES     coin-margined: ``PI_XBTUSD``, ``FI_XBTUSD_250328``
OKX_SPOT                ``BTC-USDT``
OKX_PERP                ``BTC-USDT-SWAP``, ``BTC-USD-SWAP`` (coin-margined)
OKX_FUTURES             ``BTC-USD-250328``
OKX_OPTIONS             ``BTC-USD-250328-60000-C``
COINBASE_SPOT           ``BTC-USD``
BITSTAMP_SPOT           ``btcusd``
======================  ================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ravenwh.domain.symbols import binance, bybit, deribit, kraken, okx, spot
from ravenwh.domain.symbols.reading import Rule, Unread

__all__ = ["RULES", "Rule", "Unread"]

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.exchange: rule
        for venue in (binance, bybit, deribit, kraken, okx, spot)
        for rule in venue.RULES
    }
)
"""The rule of each exchange row, by its name."""
