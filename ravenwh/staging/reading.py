"""Named reads of ticks: from the names of a series to frames, or to messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Generator
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import attrs
from loguru import logger

from ravenwh.domain.errors import Refused, UnknownName
from ravenwh.domain.messages import Message
from ravenwh.domain.when import When, bound
from ravenwh.staging.frames import TickFrames, table_of
from ravenwh.staging.measurements import MEASUREMENTS, Measurement
from ravenwh.staging.options import OptionTerms
from ravenwh.staging.points import message_of
from ravenwh.staging.query import Selection, Span, rows, select, tag_values
from ravenwh.staging.server import Server

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Ticks"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@attrs.frozen(kw_only=True)
class Ticks:
    """The ticks of a bucket, for reading."""

    server: Server

    def read(
        self,
        measurement: str,
        symbol: str | None = None,
        exchange: str | None = None,
        start: When = None,
        end: When = None,
        *,
        coin: str | None = None,
        expiry: str | date | None = None,
        strike: float | None = None,
        kind: Literal["call", "put"] | None = None,
    ) -> TickFrames:
        """The points of a measurement with ``start <= event_time < end``, oldest first.

        ``symbol`` is the venue's own, of ``price_index`` the index's name. Without it, and without
        an exchange, all of them are read. Options are also found by ``coin``, ``expiry`` (a day),
        ``strike`` and ``kind``, on one exchange. Bounds are as in
        :meth:`ravenwh.Warehouse.klines`. Raises Refused and UnknownName, and when it is run
        UnknownName for a symbol or exchange that has no points.
        """
        terms = OptionTerms(coin=coin, expiry=_day(expiry), strike=strike, kind=_kind(kind))
        selection = Selection(
            measurement=_measurement(measurement),
            symbols=None if symbol is None else (symbol,),
            exchange=exchange,
            span=_span(start, end),
        )
        if not terms.is_empty:
            _require_options(selection, terms)

        def run() -> pyarrow.Table:
            chosen = selection if terms.is_empty else self._chosen(selection, terms)
            table = table_of(selection, self._rows(chosen))
            if not table.num_rows:
                self._require_known(selection)
            return table

        return TickFrames(measurement=measurement, run=run)

    async def messages(
        self,
        measurement: str,
        symbol: str | None = None,
        exchange: str | None = None,
        start: When = None,
        end: When = None,
    ) -> AsyncGenerator[Message]:
        """The same points as the messages that they were, in order; for a replay.

        Some thousand are held at a time. Those that somebody else has written, and that are no
        message, are passed over and counted in the log.
        """
        of = _measurement(measurement)
        symbols = None if symbol is None else (symbol,)
        span = _span(start, end)
        selection = Selection(measurement=of, symbols=symbols, exchange=exchange, span=span)
        passed_over = 0
        chunks = self._rows(selection)
        asked = None
        try:
            while True:
                asked = asyncio.ensure_future(asyncio.to_thread(next, chunks, None))
                chunk = await asyncio.shield(asked)
                if chunk is None:
                    break
                for row in chunk:
                    message = message_of(of, row)
                    if message is None:
                        passed_over += 1
                    else:
                        yield message
        finally:
            if asked is not None:
                await asyncio.wait([asked])  # a generator at work cannot be closed
            chunks.close()
        if passed_over:
            logger.bind(measurement=measurement, points=passed_over).warning("POINTS_PASSED_OVER")

    def _rows(self, selection: Selection) -> Generator[list[Any]]:
        return rows(self.server, select(selection), selection.row_type)

    def _chosen(self, selection: Selection, terms: OptionTerms) -> Selection:
        """The same of the options that have these terms."""
        exchange = selection.exchange or ""
        there = self._values_of(selection.measurement, "symbol", exchange)
        symbols = terms.among(exchange, there)
        if not symbols:
            raise UnknownName(terms.missing(exchange, there))
        return attrs.evolve(selection, symbols=tuple(symbols))

    def _require_known(self, selection: Selection) -> None:
        """Raise UnknownName where the exchange or the symbol has no point at all."""
        measurement, exchange = selection.measurement, selection.exchange
        if exchange is not None:
            _require(exchange, "exchange", self._values_of(measurement, "exchange"))
        if selection.symbol is not None:
            tag = measurement.symbol_tag
            _require(selection.symbol, tag, self._values_of(measurement, tag, exchange))

    def _values_of(
        self, measurement: Measurement, tag: str, exchange: str | None = None
    ) -> list[str]:
        question = tag_values(measurement.name, tag, exchange=exchange)
        chunks = rows(self.server, question, tuple[str, str])
        return [value for chunk in chunks for _, value in chunk]


def _measurement(name: str) -> Measurement:
    _require(name, "measurement", MEASUREMENTS)
    return MEASUREMENTS[name]


def _require(name: str, what: str, known: Collection[str]) -> None:
    """Raise UnknownName, with the nearest that there are, where the name is none of the known."""
    if name in known:
        return
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif known:
        hint = f"there are {len(known)}: {', '.join(sorted(known)[:10])}"
    else:
        hint = "there is none at all: the tick runner writes them"
    raise UnknownName(f"{what} {name!r} has no points; {hint}")


def _require_options(selection: Selection, terms: OptionTerms) -> None:
    if selection.measurement.name != "options_ticker":
        raise Refused(f"{terms} is asked of options: read options_ticker")
    if selection.exchange is None or selection.symbol is not None:
        raise Refused(f"{terms} is asked of all options of an exchange: name it, and no symbol")


def _span(start: When, end: When) -> Span:
    span = Span(start=_ns(start, "start"), end=_ns(end, "end"))
    if span.start is not None and span.end is not None and span.end < span.start:
        raise Refused(f"end {end} lies before start {start}")
    return span


def _ns(when: When, name: str) -> int | None:
    at = bound(when, name)
    return None if at is None else (at - EPOCH) // timedelta(microseconds=1) * 1000


def _day(when: str | date | None) -> date | None:
    at = bound(when, "expiry")
    return None if at is None else at.date()


def _kind(kind: str | None) -> Literal["call", "put"] | None:
    match kind:
        case None | "call" | "put":
            return kind
    raise Refused(f"kind {kind!r}: allowed are call and put")
