"""``ravenwh bars build``: the bars of trades that are there already, into their fact."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

import attrs
from loguru import logger

from ravenwh.app.database import engine_of
from ravenwh.app.influx import ticks_of
from ravenwh.app.instruments import register_of
from ravenwh.app.preflight import require_head
from ravenwh.domain.errors import Refused, Rejected
from ravenwh.domain.messages import Candle, Trade
from ravenwh.domain.register import Register
from ravenwh.domain.series import from_ns, to_ns
from ravenwh.domain.settings import Settings
from ravenwh.features import Chain, Profile, parse_profile, to_candle
from ravenwh.sources.trades import TradeFiles, TradeKind
from ravenwh.sources.vision import OnBad
from ravenwh.warehouse.chains import MadeChain, Replaced, replace_bars

__all__ = ["PRODUCER", "BarsBuilt", "BuildRequest", "build_bars"]

PRODUCER = "build"

AT_ONCE = 65_536
"""Trades that are taken together."""

OnProgress = Callable[[int, int | None], None]
"""Told how many trades were read, of how many at most, None where nobody knows."""


@attrs.frozen(kw_only=True)
class BuildRequest:
    """Which bars to build, of which trades.

    ``profile`` is one of the settings. Without ``paths`` the trades are those of InfluxDB, and
    ``symbol`` is needed: the venue's own, or COIN/QUOTE as ``BTC/USDT``. Of files ``symbol`` and
    ``kind`` say what the names do not. ``start`` and ``end`` leave out what is before and from
    then on.
    """

    profile: str
    venue: str
    symbol: str | None = None
    paths: tuple[Path, ...] = ()
    kind: TradeKind | None = None
    start: datetime | None = None
    end: datetime | None = None


@attrs.frozen(kw_only=True)
class BarsBuilt:
    """What was built: bars in all, and what became of the trades.

    ``counts`` are those of :class:`~ravenwh.features.Chain`; ``open_ticks`` are in the bar that has
    not ended, which opened at ``opened``. ``first`` and ``last`` are the times of the trades.
    """

    symbol: str
    bars: int
    counts: Mapping[str, int]
    first: datetime
    last: datetime
    open_ticks: int
    opened: datetime | None
    replaced: Replaced


async def build_bars(
    settings: Settings,
    request: BuildRequest,
    *,
    on_bad: OnBad,
    on_progress: OnProgress,
) -> BarsBuilt:
    """Make the bars of the trades, and have them in place of those that are there.

    All of the mart's part is one transaction, after the trades were read. ``on_bad`` is told of
    each row of a file that is no trade. Raises Refused, UnknownName, Unavailable, SettingsError and
    SchemaMismatch; nothing is changed then.
    """
    profile = _profile(settings, request.profile)
    register = register_of(settings)
    with ExitStack() as stack:
        symbol, parts, total = await asyncio.to_thread(
            _opened, settings, register, request, stack, on_bad
        )
        async with engine_of(settings, pooled=False, statement_s=None) as engine:
            await require_head(settings, engine)
            chain, bars, read = Chain(profile), list[Candle](), 0
            for part in parts:
                read += len(part)
                bars += [
                    to_candle(
                        bar,
                        profile=profile,
                        name=request.profile,
                        venue=request.venue,
                        symbol=symbol,
                        producer=PRODUCER,
                    )
                    for bar in chain.take(part)
                ]
                on_progress(read, total)
                await asyncio.sleep(0)  # Ctrl-C is seen here
            if not bars:
                raise Refused(
                    f"{chain.counts['passed']:,} trades of {symbol} end no bar of {request.profile}"
                )
            made = MadeChain(
                bars=bars,
                last=chain.latest,
                opened=chain.opened_at,
                forgets_after=profile.forgets_after,
            )
            replaced = await replace_bars(engine, register, made)
    opened = chain.opened_at
    return BarsBuilt(
        symbol=symbol,
        bars=len(bars),
        counts=chain.counts,
        first=from_ns(bars[0].open_time),
        last=from_ns(chain.latest),
        open_ticks=chain.ticks,
        opened=None if opened is None else from_ns(opened),
        replaced=replaced,
    )


def _profile(settings: Settings, name: str) -> Profile:
    """The profile of the settings. Raises Refused where there is none, or none that makes bars."""
    known = settings.bars.profiles
    if name in known:
        return parse_profile(name, known[name])
    near = get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)[:10]
    hint = f"there are {', '.join(near)}" if near else "there is none"
    raise Refused(
        f"profile {name!r} is none of bars.profiles in the settings; {hint}. Add "
        f"[bars.profiles.{name}] with its parameters"
    )


def _opened(
    settings: Settings,
    register: Register,
    request: BuildRequest,
    stack: ExitStack,
    on_bad: OnBad,
) -> tuple[str, Iterator[Sequence[Trade]], int | None]:
    """The symbol, its trades in parts, and how many they are at most, if that is known."""
    symbol = request.symbol
    coin, slash, quote = (symbol or "").partition("/")
    try:
        if slash:
            symbol = register.symbol_for(request.venue, coin, quote)
        if request.paths:
            files = TradeFiles.found(
                request.paths,
                venue=request.venue,
                symbol=symbol,
                kind=request.kind,
                on_passed_over=_tell_passed_over,
            )
            symbol = files.symbol
        elif symbol is None:
            raise Refused("trades of InfluxDB are read by their symbol: name it")
        register.series_instrument(request.venue, symbol)
    except Rejected as error:
        raise Refused(str(error)) from error
    if request.paths:
        return symbol, _of_files(files, request, on_bad), files.rows
    ticks = stack.enter_context(ticks_of(settings))
    ticks.symbols("trades", request.venue, symbol)
    parts = ticks.parts("trades", symbol, request.venue, request.start, request.end)
    return symbol, ([one for one in part if isinstance(one, Trade)] for part in parts), None


def _of_files(files: TradeFiles, request: BuildRequest, on_bad: OnBad) -> Iterator[Sequence[Trade]]:
    start = None if request.start is None else to_ns(request.start)
    end = None if request.end is None else to_ns(request.end)
    trades = files.messages(on_bad)
    while part := list(islice(trades, AT_ONCE)):
        yield [
            one
            for one in part
            if (start is None or one.event_time >= start) and (end is None or one.event_time < end)
        ]


def _tell_passed_over(path: Path) -> None:
    logger.bind(path=str(path)).info("REPLAY_FILE_PASSED_OVER")
