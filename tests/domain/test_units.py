"""Volumes reach the columns of coins and quote units in those units, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravenwh.domain.instrument import VolumeUnit
from ravenwh.domain.register import Register
from ravenwh.domain.units import convert, kline_volumes

COIN = VolumeUnit()
QUOTE = VolumeUnit(kind="quote")
QUOTE_THEN_COIN = VolumeUnit(kind="quote", second="coin")
LINEAR = VolumeUnit(kind="contract", size=0.01, of="coin")
INVERSE = VolumeUnit(kind="contract", size=100, of="quote")
INVERSE_THEN_COIN = VolumeUnit(kind="contract", size=100, of="quote", second="coin")
UNSIZED = VolumeUnit(kind="contract")


@pytest.mark.parametrize(
    ("unit", "volume", "second", "coins", "quotes"),
    [
        (COIN, 5.0, 100.0, 5.0, 100.0),
        (COIN, 5.0, None, 5.0, None),
        (COIN, 0.0, None, 0.0, None),
        (QUOTE, 1000.0, None, None, 1000.0),
        (QUOTE, 0.05, 1000.0, None, 1000.0),  # Deribit's klines: coins, and USD beside them
        (QUOTE_THEN_COIN, 268611.0, 15.74462667, 15.74462667, 268611.0),  # Bybit, coin-margined
        (LINEAR, 300.0, None, 3.0, None),
        (LINEAR, 300.0, 180000.0, 3.0, 180000.0),
        (INVERSE, 7.0, None, None, 700.0),
        (INVERSE, 7.0, 699.0, None, 699.0),
        (INVERSE_THEN_COIN, 7.0, 0.0117, 0.0117, 700.0),  # Binance, coin-margined
        (INVERSE_THEN_COIN, 7.0, None, None, 700.0),
        (UNSIZED, 7.0, None, None, None),
        (UNSIZED, 7.0, 700.0, None, 700.0),
        (UNSIZED, 0.0, None, None, None),
        (INVERSE, 0.0, None, 0.0, 0.0),
        (QUOTE, 0.0, None, 0.0, 0.0),
        (INVERSE, None, None, None, None),
        (INVERSE_THEN_COIN, None, 0.5, 0.5, None),
        (COIN, None, 5.0, None, 5.0),
    ],
)
def test_a_volume_goes_where_its_unit_belongs(
    unit: VolumeUnit,
    volume: float | None,
    second: float | None,
    coins: float | None,
    quotes: float | None,
) -> None:
    assert convert(unit, volume, second) == (coins, quotes)


numbers = st.one_of(st.none(), st.floats(min_value=0, max_value=1e12))


@given(volume=st.floats(min_value=0, max_value=1e12), rest=st.tuples(numbers, numbers, numbers))
def test_coins_come_back_as_they_are(
    volume: float, rest: tuple[float | None, float | None, float | None]
) -> None:
    assert kline_volumes(COIN, volume, *rest) == (volume, *rest)


@given(
    unit=st.sampled_from([QUOTE, INVERSE, UNSIZED]),
    volume=st.floats(min_value=1, max_value=1e12),
    rest=st.tuples(numbers, numbers, numbers),
)
def test_contracts_and_quote_units_are_never_in_a_column_of_coins(
    unit: VolumeUnit, volume: float, rest: tuple[float | None, float | None, float | None]
) -> None:
    quote_volume, taker, taker_quote = rest
    coins, _, taker_coins, _ = kline_volumes(unit, volume, quote_volume, taker, taker_quote)
    assert coins is None
    assert taker_coins is None or (taker == 0 and taker_coins == 0)


def test_taker_volumes_are_converted_like_the_others() -> None:
    unit = Register().resolve("BINANCE_COIN_FUTURES", "BTCUSD_PERP").volume_unit
    assert kline_volumes(unit, 10.0, 0.02, 4.0, 0.008) == (0.02, 1000.0, 0.008, 400.0)
    assert kline_volumes(unit, 10.0) == (None, 1000.0, None, None)
