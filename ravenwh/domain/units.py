"""Volumes at the border: from what a venue counts in, to coins and quote units.

A number goes to a column only if it is known to be in that column's unit; everything else is None,
for the caller to write as null and to report. Numbers stay per one unit of the symbol's
multiplier, as the venue gives them. Most venues count in coins: for those a caller need not call
at all (``unit.kind == "coin"``), and gets its numbers back unchanged if it does.
"""

from __future__ import annotations

from ravenwh.domain.instrument import VolumeUnit

__all__ = ["KlineVolumes", "convert", "kline_volumes"]

KlineVolumes = tuple[float | None, float | None, float | None, float | None]
"""volume, quote_volume, taker_buy_volume, taker_buy_quote_volume; the first and third in coins."""


def convert(
    unit: VolumeUnit, volume: float | None, second: float | None = None
) -> tuple[float | None, float | None]:
    """(coins, quote units) of a volume in ``unit`` and of what a kline has beside it.

    ``second`` is the kline's quote volume, or what the venue puts there instead (``unit.second``).
    A number that the venue gives in the wanted unit goes before one that is computed from
    contracts. No volume at all is no volume in any unit.
    """
    if unit.kind == "coin":
        return volume, second
    coins, quotes = (second, None) if unit.second == "coin" else (None, second)
    if volume is None:
        return coins, quotes
    if unit.kind == "quote":
        in_quote, amount = True, volume
    elif unit.size is None or unit.of is None:
        return coins, quotes
    else:
        in_quote, amount = unit.of == "quote", volume * unit.size
    if in_quote:
        quotes = amount if quotes is None else quotes
    else:
        coins = amount if coins is None else coins
    if amount == 0.0:
        return coins or 0.0, quotes or 0.0
    return coins, quotes


def kline_volumes(
    unit: VolumeUnit,
    volume: float,
    quote_volume: float | None = None,
    taker_buy_volume: float | None = None,
    taker_buy_quote_volume: float | None = None,
) -> KlineVolumes:
    """The four volumes of a kline as the table holds them."""
    if unit.kind == "coin":
        return volume, quote_volume, taker_buy_volume, taker_buy_quote_volume
    return (
        *convert(unit, volume, quote_volume),
        *convert(unit, taker_buy_volume, taker_buy_quote_volume),
    )
