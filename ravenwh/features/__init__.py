"""Bars made from trades: by imbalance, by runs, by volume. Trades in, bars out, no I/O.

Owns the four kinds of bars and the state of their making. Offers

- :mod:`~ravenwh.features.profile`: the parameters of each kind, its formula, its name;
- :mod:`~ravenwh.features.chain`: :class:`~ravenwh.features.chain.Chain` makes the bars of one
  profile from one stream of trades, one by one with ``push``, many at a time with ``take``, or from
  arrays with ``extend``; all give the same bars, bit for bit, at any split. A chain can be saved at
  any trade and goes on from there;
- :mod:`~ravenwh.features.maker`: a chain for each profile of a symbol, behind one look at which
  trades count;
- :mod:`~ravenwh.features.batch`: the bars of trades that are in memory, all at once;
- :mod:`~ravenwh.features.candle`: a bar as a message of the wire.

Bars depend on where their chain began: two chains that began at different trades give different
bars. A trade that cannot be one is passed over and counted, and so is one whose id was seen; a late
one is taken as if it came at the latest time so far (:mod:`~ravenwh.features.sieve`). Raises
Refused for parameters that make no bars, and for a state that is not the profile's. Tested against
a plain second implementation, on recorded and on random trades.

Sources: M. López de Prado, Advances in Financial Machine Learning, Wiley 2018, chapters 2 and 19;
D. Easley, M. López de Prado, M. O'Hara, Flow Toxicity and Liquidity in a High-frequency World,
Review of Financial Studies 25 (2012).
"""

from ravenwh.features.batch import bars_of
from ravenwh.features.candle import to_candle
from ravenwh.features.chain import Bar, Chain
from ravenwh.features.profile import (
    KINDS,
    Profile,
    TickImbalance,
    TickRun,
    VolumeImbalance,
    Vpin,
    parse_profile,
)

__all__ = [
    "KINDS",
    "Bar",
    "Chain",
    "Profile",
    "TickImbalance",
    "TickRun",
    "VolumeImbalance",
    "Vpin",
    "bars_of",
    "parse_profile",
    "to_candle",
]
