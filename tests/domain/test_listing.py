"""From ``routing.symbol_map`` to instruments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from ravenwh.domain.errors import SettingsError
from ravenwh.domain.instrument import Contract, Instrument, VolumeUnit
from ravenwh.domain.listing import Listing, instruments, listings


@attrs.frozen(kw_only=True)
class Entry:
    symbol: str = ""
    multiplier: float | None = None
    volume_unit: str | None = None
    contract_size: float | None = None
    contract_of: str | None = None
    contract: str | None = None
    coin: str | None = None
    listed_at: datetime | None = None
    delisted_at: datetime | None = None


def made(pair: str, exchange: str, entry: str | Entry) -> Instrument:
    (instrument,) = instruments(listings({pair: {exchange: entry}}))
    return instrument


@pytest.mark.parametrize(
    ("pair", "exchange", "entry", "multiplier"),
    [
        ("PEPE/USDT", "BINANCE_FUTURES", "1000PEPEUSDT", 1000),
        ("PEPE/USDT", "BINANCE_FUTURES", Entry(symbol="1000PEPEUSDT"), 1000),
        ("PEPE/USDT", "BINANCE_FUTURES", Entry(symbol="1000PEPEUSDT", multiplier=10), 10),
        ("1000PEPE/USDT", "BINANCE_FUTURES", "1000PEPEUSDT", 1),
        ("SHIB/USDT", "BYBIT_PERP", "SHIB1000USDT", 1000),
        ("SHIB1000/USDT", "BYBIT_PERP", "SHIB1000USDT", 1),
        ("BABYDOGE/USDT", "BINANCE_SPOT", "1MBABYDOGEUSDT", 1e6),
        ("BOBOLD/USDT", "BINANCE_FUTURES", "1000000BOBUSDT", 1e6),
        ("IL/USDT", "BINANCE_FUTURES", "1MILUSDT", 1e6),
        ("1MIL/USDT", "BINANCE_FUTURES", "1MILUSDT", 1),
        ("PEPE/USDT", "BINANCE_FUTURES", "PEPEUSDT", 1),
        ("LUNC/USDT", "BINANCE_SPOT", "LUNAUSDT", 1),
        ("1INCH/USDT", "BINANCE_SPOT", "1INCHUSDT", 1),
        ("BTC/USD", "BINANCE_FUTURES", "BTCPERP", 1),
    ],
)
def test_the_multiplier_is_stated_or_the_venues(
    pair: str, exchange: str, entry: str | Entry, multiplier: float
) -> None:
    found = made(pair, exchange, entry)
    assert f"{found.coin}/{found.quote}" == pair
    assert found.multiplier == multiplier


def test_an_entry_states_all_that_a_rule_would() -> None:
    start, end = datetime(2021, 1, 1, tzinfo=UTC), datetime(2022, 1, 1, tzinfo=UTC)
    entry = Entry(
        symbol="BTC-PERP",
        multiplier=2,
        volume_unit="contract",
        contract_size=0.001,
        contract_of="coin",
        contract="perpetual",
        coin="XBT",
        listed_at=start,
        delisted_at=end,
    )
    assert made("BTC/USD", "FTX", entry) == Instrument(
        exchange="FTX",
        symbol="BTC-PERP",
        coin="XBT",
        quote="USD",
        contract=Contract.PERPETUAL,
        multiplier=2,
        volume_unit=VolumeUnit(kind="contract", size=0.001, of="coin"),
        listed_at=start,
        delisted_at=end,
    )


def test_what_an_entry_leaves_open_is_the_rules() -> None:
    found = made("XBT/USD", "BINANCE_COIN_FUTURES", "BTCUSD_PERP")
    assert found.contract is Contract.PERPETUAL
    assert found.volume_unit == VolumeUnit(kind="contract", size=100, of="quote", second="coin")
    resized = Entry(
        symbol="BTCUSD_PERP", volume_unit="contract", contract_size=50, contract_of="quote"
    )
    assert made("XBT/USD", "BINANCE_COIN_FUTURES", resized).volume_unit == VolumeUnit(
        kind="contract", size=50, of="quote", second="coin"
    )
    in_quote = Entry(symbol="BTCPERP", volume_unit="quote")
    assert made("BTC/USD", "BINANCE_FUTURES", in_quote).volume_unit == VolumeUnit(kind="quote")


def test_a_spot_exchange_without_a_rule_needs_nothing_more() -> None:
    found = made("BTC/USD", "GEMINI_SPOT", "BTCUSD")
    assert (found.contract, found.volume_unit) == (Contract.SPOT, VolumeUnit())


BASE = {"coin": "BTC", "quote": "USD", "exchange": "BINANCE_FUTURES", "symbol": "BTCPERP"}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"multiplier": 0}, "multiplier 0; allowed: a number above zero"),
        ({"multiplier": -1.0}, "multiplier -1.0"),
        ({"multiplier": float("nan")}, "multiplier nan"),
        ({"multiplier": float("inf")}, "multiplier inf"),
        ({"volume_unit": "lots"}, "volume_unit 'lots'; allowed: coin, quote, contract"),
        ({"contract_size": 5.0}, "contract_size and contract_of together"),
        ({"contract_of": "coin"}, "contract_size and contract_of together"),
        (
            {"volume_unit": "coin", "contract_size": 5.0, "contract_of": "coin"},
            'with volume_unit "contract"',
        ),
        (
            {"volume_unit": "contract", "contract_size": 0.0, "contract_of": "coin"},
            "contract_size 0.0",
        ),
        (
            {"volume_unit": "contract", "contract_size": 1.0, "contract_of": "lots"},
            "contract_of 'lots'",
        ),
        ({"contract": "swap"}, "contract 'swap'; allowed: spot, perpetual, dated, option"),
        ({"contract": "index"}, "contract 'index'"),
        ({"coin": ""}, "the coin ''"),
        ({"coin": "B TC"}, "the coin 'B TC'"),
        ({"coin": "btc"}, "the coin 'btc'; allowed: a name in capitals"),
        ({"quote": "U\x00SD"}, "the quote 'U\\x00SD'"),
        ({"symbol": ""}, "the symbol ''"),
        ({"listed_at": datetime(2024, 1, 1)}, "a time without a zone"),  # noqa: DTZ001
        (
            {
                "listed_at": datetime(2024, 1, 2, tzinfo=UTC),
                "delisted_at": datetime(2024, 1, 2, tzinfo=UTC),
            },
            "allowed: delisted_at after listed_at",
        ),
        ({"exchange": "FTX"}, "which no rule of FTX reads"),
        ({"exchange": "FTX", "contract": "perpetual"}, "which no rule of FTX reads"),
        ({"exchange": "BINANCE_COIN_FUTURES"}, "which no rule of BINANCE_COIN_FUTURES reads"),
        ({"symbol": "BTCUSDT_250328"}, "a coin name of its own"),
    ],
)
def test_a_wrong_listing_says_found_and_allowed(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        instruments((Listing(**{**BASE, **wrong}),))
    assert text in str(caught.value)


def test_all_problems_come_at_once_with_their_keys() -> None:
    listed = listings(
        {
            "PEPE/USDT": {"BINANCE_FUTURES": Entry(symbol="1000PEPEUSDT", multiplier=-1)},
            "BTC/USD": {"BIT.COM": "BTC-PERPETUAL"},
            "ETH/USDT": {"BINANCE_SPOT": "ETHUSDT"},
        }
    )
    with pytest.raises(SettingsError) as caught:
        instruments(listed)
    first, second = caught.value.problems
    assert first.startswith('routing.symbol_map."PEPE/USDT".BINANCE_FUTURES: found multiplier')
    assert second.startswith('routing.symbol_map."BTC/USD"."BIT.COM": found')


def test_a_key_that_is_no_pair_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        listings({"PEPEUSDT": {"BINANCE_FUTURES": "1000PEPEUSDT"}, "/X": {"OKX_SPOT": "A-X"}})
    assert len(caught.value.problems) == 2
