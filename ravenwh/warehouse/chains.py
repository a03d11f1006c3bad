"""The bars of a whole chain into their fact, in place of those that are there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ravenwh.domain.errors import Refused, Rejected, Unavailable
from ravenwh.domain.instrument import Instrument
from ravenwh.domain.messages import Candle
from ravenwh.domain.profile import BarProfile, interval_of, kind_of
from ravenwh.domain.register import Register
from ravenwh.domain.series import from_ns
from ravenwh.warehouse.bars import BAR_FACTS
from ravenwh.warehouse.compressed import lift_limit
from ravenwh.warehouse.dimensions import name_instruments, register, resolve
from ravenwh.warehouse.errors import translated
from ravenwh.warehouse.locks import NO_OTHER_WRITER, lock
from ravenwh.warehouse.profiles import resolve_profiles
from ravenwh.warehouse.seam import Row, Seam, key_of, seam_of
from ravenwh.warehouse.series_rows import SeriesRows

__all__ = ["MadeChain", "Replaced", "replace_bars"]

SESSION = tuple(
    sa.text(text)
    for text in (
        "SET LOCAL lock_timeout = '60s'",
        # under such a scan a DELETE passes over rows of partly compressed chunks (TimescaleDB
        # before 2.25 on PostgreSQL 16 and older)
        "SET LOCAL enable_bitmapscan = off",
    )
)


@attrs.frozen(kw_only=True)
class MadeChain:
    """The bars that one chain made of trades, in its order, from its first on; one at least.

    ``last`` is the time of the last trade, ``opened`` that of the first trade of the bar that has
    not ended, None where there is no such trade; nanoseconds since 1970, UTC. After
    ``forgets_after`` bars in common two chains of the profile go on alike.
    """

    bars: Sequence[Candle]
    last: int
    opened: int | None
    forgets_after: int


@attrs.frozen(kw_only=True)
class Replaced:
    """What became of the bars.

    ``there`` were in the range before; ``written`` are new or have other values now, ``removed``
    are gone, ``kept`` were equal. ``agrees_from`` is where the first that was kept opens, None
    where none was. ``after`` tells how many go on after the range, in the same chain.
    ``follows`` is where the last bar before the range closes, which is of another chain; None where
    there is none.
    """

    there: int
    written: int
    removed: int
    kept: int
    agrees_from: datetime | None
    after: int
    follows: datetime | None


async def replace_bars(engine: AsyncEngine, register: Register, chain: MadeChain) -> Replaced:
    """Have the bars of a chain, in its range, in place of those that are there; in one transaction.

    Where the two chains agree to the end, the old bars stay. Other writers of the fact wait
    meanwhile. Raises Refused, and has changed nothing, where bars of another chain would be left
    beside the new ones, or where the bars can be none of the mart; and Unavailable.
    """
    sample = chain.bars[0]
    fact = BAR_FACTS[kind_of(sample.interval)]
    try:
        instrument = _instrument(register, chain)
        rows = [fact.to_values(bar, instrument) for bar in chain.bars]
    except Rejected as error:
        raise Refused(str(error)) from error
    with translated():
        async with engine.connect() as connection, connection.begin():
            for statement in SESSION:
                await connection.execute(statement)
            await lock(connection, fact.table, NO_OTHER_WRITER)
            await lift_limit(connection)
            ids = await _ids(connection, instrument, interval_of(sample))
            series = SeriesRows.of(fact.table, ids)
            return await _replace(connection, series, chain, rows)


def _instrument(register: Register, chain: MadeChain) -> Instrument:
    """What the symbol stands for. Raises Refused where it stands for two in the range."""
    venue, symbol = chain.bars[0].venue, chain.bars[0].symbol
    found = {register.series_instrument(venue, symbol, bar.open_time) for bar in chain.bars}
    if len(found) > 1:
        raise Refused(
            f"{venue} {symbol} stands for {len(found)} instruments in this range, by their "
            "listings: build the bars of each by itself"
        )
    return found.pop()


async def _ids(
    connection: AsyncConnection, instrument: Instrument, interval: object
) -> dict[str, int]:
    """The ids of the series by the names of their columns. Raises Refused where it has none."""
    assert isinstance(interval, BarProfile)  # noqa: S101  bars tell the hash of their parameters
    found = await resolve(connection, name_instruments([instrument]), {})
    holder = (await register(connection, [instrument], found)).get(instrument)
    if holder is not None:
        raise Refused(
            f"{instrument.coin}/{instrument.quote} on {instrument.exchange} is held by {holder}, "
            f"so {instrument.symbol} has no place there"
        )
    profile = (await resolve_profiles(connection, [interval]))[interval]
    if isinstance(profile, Rejected):
        raise Refused(str(profile))
    ids = {f"{name}_id": found[name][getattr(instrument, name)] for name in found if found[name]}
    return ids | {"interval_id": profile.interval_id}


async def _replace(
    connection: AsyncConnection, series: SeriesRows, chain: MadeChain, rows: list[Row]
) -> Replaced:
    """What ``replace_bars`` does, of a series that is found and locked."""
    c = series.table.c
    first, last = from_ns(chain.bars[0].open_time), from_ns(chain.last)
    before = await series.first(connection, c.open_time < first, last=True)
    if before is not None:
        await _require_beginning(connection, series, before, first)
        place = 2 + series.upsert.values.index("after_gap")
        rows[0] = (*rows[0][:place], True, *rows[0][place + 1 :])
    old = await series.rows(connection, c.open_time.between(first, last))
    new = [row[:-1] for row in rows]  # without event_time, which is the publisher's
    following = await series.first(connection, c.open_time > last)
    seam = seam_of(old, new)
    tail = old[seam.old + seam.equal :]
    after = 0
    if (old and old[-1][2] > last) or (following is not None and not following.after_gap):
        after = len(tail) + await series.count(connection, c.open_time > last)
        if not tail and following is not None:
            tail = [(following.open_time, following.bar_seq, following.close_time)]
        if why := _why_apart(chain, seam, new, tail, is_alone=before is None):
            raise Refused(await _told_apart(connection, series, why, last))
    elif tail:  # the new chain would have ended these bars too
        seam = Seam(old=len(old), new=len(new), equal=0)
    ends = seam.new + seam.equal
    written = [*rows[: seam.new], *rows[ends:]]
    stay = {key_of(row) for row in written}
    gone = [key for row in old[: seam.old] if (key := key_of(row)) not in stay]
    await series.remove(connection, gone)
    changed = await series.write(connection, written)
    there = await series.count(connection, c.open_time.between(first, last))
    if there != len(new) + len(old) - seam.old - seam.equal:
        raise Unavailable(
            f"found {there} bars in the range after the build, which has {len(new)}: all of it is "
            "taken back. Run it again"
        )
    return Replaced(
        there=len(old),
        written=changed,
        removed=len(gone),
        kept=seam.equal,
        agrees_from=new[seam.new][0] if seam.equal else None,
        after=after,
        follows=None if before is None else before.close_time,
    )


def _why_apart(
    chain: MadeChain, seam: Seam, new: Sequence[Row], tail: Sequence[Row], *, is_alone: bool
) -> str | None:
    """Why the old chain beyond the range is not known to be what the new one would make.

    ``tail`` are its bars behind the seam; of those at the very time of the last trade nobody knows
    whether the new chain would end them: there may be more trades at that time.
    """
    last = from_ns(chain.last)
    if not seam.equal or seam.new + seam.equal < len(new) or any(row[2] < last for row in tail):
        return "the new chain does not agree with it"
    opens = tail[0][0]
    opened = None if chain.opened is None else from_ns(chain.opened)
    if opens != opened and not (opened is None and opens >= last):
        mine = "no trade is in it yet" if opened is None else f"it opens at {opened.isoformat()}"
        return f"its next bar opens at {opens.isoformat()}, where in the new chain {mine}"
    began_alike = is_alone and seam.old == seam.new == 0
    if began_alike or seam.equal >= chain.forgets_after:
        return None
    return (
        f"only the last {seam.equal} bars of both are equal, where {chain.forgets_after} must be "
        "for the next ones to be equal too"
    )


async def _told_apart(
    connection: AsyncConnection, series: SeriesRows, why: str, last: datetime
) -> str:
    after = await series.count(connection, series.table.c.close_time > last)
    final = await series.first(connection, last=True)
    assert final is not None  # noqa: S101  there are some after the range
    return (
        f"{after} bars of the chain that is there go on after the last trade, the last one until "
        f"{final.close_time.isoformat()}, and {why}. Nothing is changed: give later trades, until "
        "the chains agree or up to that time, or build under another name"
    )


async def _require_beginning(
    connection: AsyncConnection, series: SeriesRows, before: sa.Row[Any], first: datetime
) -> None:
    """Raise Refused where the first trade cuts a chain in two."""
    c = series.table.c
    if before.close_time < first:
        next_one = await series.first(connection, c.open_time >= first)
        if next_one is None or next_one.after_gap:
            return
    began = await series.first(
        connection, c.open_time <= before.open_time, c.after_gap, last=True
    ) or await series.first(connection)
    assert began is not None  # noqa: S101  before is one
    marked = await series.first(connection, c.open_time > first, c.after_gap)
    told = "" if marked is None else f", as the one at {marked.open_time.isoformat()}"
    raise Refused(
        f"the first trade, at {first.isoformat()}, is amid a chain that is there: it begins at "
        f"{began.open_time.isoformat()}, and a chain that begins elsewhere makes other bars. "
        "Nothing is changed: give trades from there on, or from a bar of it on that has after_gap"
        f"{told}, or build under another name"
    )
