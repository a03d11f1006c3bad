"""Named reads of ticks: from the names of a series to frames, or to messages."""

from __future__ import annotations

from collections.abc import Collection, Generator
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import attrs
from loguru import logger

from ravenwh.domain.errors import Refused, UnknownName
from ravenwh.domain.frames import Frames
from ravenwh.domain.messages import Message
from ravenwh.domain.series import from_ns
from ravenwh.domain.when import When, bound
from ravenwh.staging.measurements import MEASUREMENTS, Measurement
from ravenwh.staging.options import OptionTerms
from ravenwh.staging.points import message_of
from ravenwh.staging.query import Selection, Span, count_by_day, rows, select, tag_values
from ravenwh.staging.server import Server
from ravenwh.staging.tables import table_of

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Ticks"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

PARTS_OF_A_TABLE = 25


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
    ) -> Frames:
        """The points of a measurement with ``start <= event_time < end``, oldest first.

        What is asked, and what comes, is as :meth:`ravenwh.Warehouse.ticks` says. Raises Refused
        and UnknownName, and when it is run UnknownName for a symbol or exchange that has no points.
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

        named = " ".join((measurement, *filter(None, (symbol, exchange))))
        return Frames(of=named, index="event_time", run=run)

    def parts(
        self,
        measurement: str,
        symbol: str | None = None,
        exchange: str | None = None,
        start: When = None,
        end: When = None,
    ) -> Generator[list[Message]]:
        """The points as the messages that they were, in order, some thousand at a time. Blocks.

        Points that somebody else has written, and that are no message, are passed over and counted
        in the log.
        """
        of = _measurement(measurement)
        symbols = None if symbol is None else (symbol,)
        span = _span(start, end)
        selection = Selection(measurement=of, symbols=symbols, exchange=exchange, span=span)
        passed_over = 0
        for part in self._rows(selection):
            found = [message_of(of, row) for row in part]
            messages = [message for message in found if message is not None]
            passed_over += len(found) - len(messages)
            yield messages
        if passed_over:
            logger.bind(measurement=measurement, points=passed_over).warning("POINTS_PASSED_OVER")

    def tables(self, measurement: str, start: When, end: When) -> Generator[pyarrow.Table]:
        """The points of all symbols and exchanges, in tables of some hundred thousand rows. Blocks.

        They have the columns of :meth:`read`, and there is none for no points.
        """
        selection = Selection(measurement=_measurement(measurement), span=_span(start, end))
        parts = self._rows(selection)
        while (table := table_of(selection, islice(parts, PARTS_OF_A_TABLE))).num_rows:
            yield table

    def points_by_day(
        self, measurement: str, start: When = None, end: When = None
    ) -> dict[datetime, int]:
        """How many points the days have that have any; of options_ticker so many at least."""
        selection = Selection(measurement=_measurement(measurement), span=_span(start, end))
        question, row_type = count_by_day(selection)
        return {
            from_ns(day): max(filter(None, counts), default=0)
            for chunk in rows(self.server, question, row_type)
            for day, *counts in chunk
        }

    def symbols(self, measurement: str, exchange: str, symbol: str | None = None) -> list[str]:
        """The symbols that have points on an exchange, or the one that is named, if it has.

        Raises UnknownName where there is none.
        """
        of = _measurement(measurement)
        _require(exchange, "exchange", self._values_of(of, "exchange"))
        known = self._values_of(of, of.symbol_tag, exchange)
        if symbol is None:
            return known
        _require(symbol, of.symbol_tag, known)
        return [symbol]

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
