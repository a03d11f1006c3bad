"""Which ticks are taken in."""

from __future__ import annotations

import attrs

from ravenwh.domain.messages import DATA_TYPES
from ravenwh.domain.settings.kinds import Text, Texts
from ravenwh.domain.settings.option import Section, option
from ravenwh.domain.settings.routing import PAIR, VENUE

__all__ = ["Ticks"]

_TYPES = tuple(name for name in DATA_TYPES if name != "CANDLE")

COLLECTION = Text(
    pattern=rf"{VENUE.pattern}:({'|'.join(_TYPES)}):"
    rf"(\*|{PAIR.pattern}|[^\s/*:\x00-\x1f\x7f]{{1,80}})",
    rule="VENUE:DATA_TYPE:SYMBOL, where SYMBOL is a venue's symbol, COIN/QUOTE or *, and DATA_TYPE "
    f"one of {', '.join(_TYPES)}",
)


@attrs.frozen(kw_only=True)
class Ticks(Section):
    """What runners.tick takes from its feeds."""

    collect: tuple[str, ...] = option(
        Texts(item=COLLECTION),
        default=(),
        help="What is collected from the start, beside the streams that start by themselves. "
        "What ravenwh control adds or takes away comes before it.",
        example=["BINANCE_SPOT:TRADE:BTC/USDT", "BINANCE_FUTURES:ORDERBOOK:*"],
    )
