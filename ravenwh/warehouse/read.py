"""Named reads: from the names of a series to a frame."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from difflib import get_close_matches
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ravenwh.domain.errors import RavenwhError, Refused, UnknownName
from ravenwh.domain.frames import Frames, need, told_in
from ravenwh.domain.profile import kind_of
from ravenwh.domain.series import Series
from ravenwh.domain.when import When, bound
from ravenwh.schema import DIMENSIONS, HOME_SCHEMA, KLINES
from ravenwh.warehouse.bars import BAR_FACTS, BarFact
from ravenwh.warehouse.errors import by_state
from ravenwh.warehouse.multipliers import Claim, claims_of, contests, multiplier, spans
from ravenwh.warehouse.selection import Selection

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Warehouse"]

INTERVAL = next(d.table for d in DIMENSIONS if d.name == "interval")

KLINE_COINS = ("volume", "taker_buy_volume")

AT_CONNECT = {
    r"authentication failed|no password supplied|password file": "28P01",
    r"no pg_hba\.conf entry|FATAL: +role .* does not exist": "28000",
    r"FATAL: +database .* does not exist": "3D000",
}
"""What a server says to who connects, and its SQLSTATE, which libpq does not tell for that."""


class Warehouse:
    """The mart, for reading. Safe to use from a script and from a notebook cell.

    ``uri`` is a libpq URI, or gives it: it is asked at each new connection, and so sees a password
    that was changed. The connection is opened at the first read and opened again after it broke;
    close it with :meth:`close` or ``with``, and then it reads no more. ``ticks`` is what reads
    them, and takes what :meth:`ticks` takes.
    """

    def __init__(
        self,
        uri: str | Callable[[], str],
        *,
        schema: str = HOME_SCHEMA,
        ticks: Callable[..., Frames] | None = None,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        self._uri = uri
        self._schema = schema
        self._ticks = ticks
        self._on_close = on_close
        self._connection: Any = None
        self._closed = False

    def klines(
        self,
        coin: str,
        quote: str,
        exchange: str,
        interval: str,
        start: When = None,
        end: When = None,
        *,
        raw: bool = False,
        provenance: bool = False,
    ) -> Frames:
        """The klines of a series with ``start <= open_time < end``, oldest first.

        A bound is a date, an aware time, or ISO 8601 text; text without a zone is UTC, as is
        ``numpy.datetime64``; None leaves the side open. Prices are in quote units for one coin,
        ``volume`` and ``taker_buy_volume`` in coins, ``quote_volume`` and
        ``taker_buy_quote_volume`` in quote units; ``raw=True`` gives the venue's own numbers where
        it trades several coins as one unit (``1000PEPEUSDT``).
        ``provenance`` adds event_time, source, ingested_at and revised_at. Raises UnknownName for a
        name that the mart does not have, with the nearest that it has, and Refused where it is not
        known by which of two multipliers rows are to be read.
        """
        series = Series(coin=coin, quote=quote, exchange=exchange, interval=interval)
        begin, before = _range(start, end)

        def run() -> pyarrow.Table:
            selection = Selection(
                table=KLINES,
                ids=self._ids(series),
                begin=begin,
                before=before,
                in_coins=KLINE_COINS,
            )
            by = None if raw else self._multiplier(series, selection)
            return self._fetch(selection.query(by, provenance=provenance))

        return Frames(of=str(series), index="open_time", run=run)

    def bars(
        self,
        kind: str,
        coin: str,
        quote: str,
        exchange: str,
        profile: str,
        start: When = None,
        end: When = None,
        *,
        raw: bool = False,
        provenance: bool = False,
    ) -> Frames:
        """The bars of a profile with ``start <= open_time < end``, oldest first.

        ``kind`` is tick_imbalance, tick_run, volume_imbalance or vpin; bounds, multipliers and
        ``provenance`` are as in :meth:`klines`. ``bar_seq`` numbers, from 0, the bars that open at
        one time. The name of the profile, its parameters and their hash are in the metadata of the
        frame: ``profile``, ``parameters``, ``parameters_hash``. Raises UnknownName as
        :meth:`klines`, and Refused for what is no profile of the kind.
        """
        fact = _fact_of(kind, profile)
        series = Series(coin=coin, quote=quote, exchange=exchange, interval=profile)
        begin, before = _range(start, end)

        def run() -> pyarrow.Table:
            selection = Selection(
                table=fact.table,
                ids=self._ids(series),
                begin=begin,
                before=before,
                in_coins=("volume", *fact.in_coins),
            )
            by = None if raw else self._multiplier(series, selection)
            table = self._fetch(selection.query(by, provenance=provenance))
            return told_in(table, profile=profile, **self._parameters(selection))

        return Frames(of=str(series), index="open_time", run=run)

    def ticks(
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
        """The ticks of a measurement with ``start <= event_time < end``, oldest first.

        ``measurement`` is trades, orderbook, funding_rate, liquidation, open_interest,
        options_ticker or price_index; ``symbol`` is the venue's own, of ``price_index`` the name of
        the index. Without it, or without an exchange, all are read, and have their names in a
        column. Options are also found by ``coin``, ``expiry`` (a day), ``strike`` and ``kind``, on
        one exchange; without a symbol expiry, strike and kind are columns. Bounds are as in
        :meth:`klines`.

        ``event_time`` is the venue's time; of trades and liquidations it is cut off to the
        millisecond, as what is finer tells their points apart. Units are the venue's, too. Raises
        Refused for what cannot be asked, SettingsError where no InfluxDB is set, and, when it is
        run, UnknownName for a symbol or exchange that has no points at all, and Unavailable.
        """
        if self._ticks is None:
            raise Refused("this warehouse was opened without InfluxDB: use ravenwh.connect()")
        terms = {"coin": coin, "expiry": expiry, "strike": strike, "kind": kind}
        self._require_open()
        frames = self._ticks(measurement, symbol, exchange, start, end, **terms)

        def run() -> pyarrow.Table:
            self._require_open()
            return frames.arrow()

        return attrs.evolve(frames, run=run)

    def _require_open(self) -> None:
        if self._closed:
            raise Refused("this warehouse is closed: open another one with ravenwh.connect()")

    def _ids(self, series: Series) -> dict[str, int]:
        """The ids of the names; soft-deleted ones are as good as any."""
        names = attrs.asdict(series)
        if impossible := [_impossible(*name) for name in names.items() if not _storable(name[1])]:
            raise UnknownName("\n".join(impossible))
        found = self._fetch(
            sa.union_all(
                *(
                    sa.select(
                        sa.literal(d.name, sa.Text()).label("dimension"), d.id.label("id")
                    ).where(d.label == names[d.name])
                    for d in DIMENSIONS
                )
            )
        ).to_pylist()
        ids = {row["dimension"]: row["id"] for row in found}
        problems = [self._unknown(d.name, names[d.name]) for d in DIMENSIONS if d.name not in ids]
        if problems:
            raise UnknownName("\n".join(problems))
        return ids

    def _unknown(self, dimension: str, name: str) -> str:
        label = next(d.label for d in DIMENSIONS if d.name == dimension)
        known = self._fetch(sa.select(label.label("name")).order_by(label))["name"].to_pylist()
        folded = {k.casefold(): k for k in known}
        near = get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
        if near:
            hint = f"did you mean {' or '.join(folded[n] for n in near)}?"
        elif known:
            shown = ", ".join(known[:10])
            hint = f"there are {len(known)}: {shown}{', ...' if len(known) > 10 else ''}"
        else:
            hint = "there is none at all: run python -m runners.init, then a runner"
        return f"{dimension} {name!r} is not in the mart; {hint}"

    def _parameters(self, selection: Selection) -> dict[str, Any]:
        """What the mart says of a profile."""
        row = INTERVAL.c
        asked = sa.select(row.parameters_hash, sa.cast(row.parameters, sa.Text()).label("text"))
        found = self._fetch(asked.where(row.interval_id == selection.ids["interval"]))
        (told,) = found.to_pylist()
        return {
            "parameters": json.loads(told["text"] or "null"),
            "parameters_hash": told["parameters_hash"],
        }

    def _multiplier(self, series: Series, selection: Selection) -> sa.ColumnElement[float] | None:
        """What prices are divided by, if by anything; Refused where rows leave that in doubt."""
        claims = self._fetch(claims_of(selection.ids)).to_pylist()
        parts = spans([Claim(**row) for row in claims])
        fact = selection.table
        for contest in contests(parts):
            doubt = sa.select(sa.exists().where(selection.rows, contest.rows(fact)).label("any"))
            if self._fetch(doubt)["any"][0].as_py():
                raise Refused(contest.told(series))
        return multiplier(parts, fact)

    def _fetch(self, statement: sa.Executable) -> pyarrow.Table:
        """Run a statement whose values are all numbers, times, or quoted by SQLAlchemy."""
        text = str(
            statement.compile(  # type: ignore[attr-defined]  # every statement here compiles
                dialect=postgresql.dialect(paramstyle="named"),  # type: ignore[no-untyped-call]  # SQLAlchemy has no types here
                schema_translate_map={HOME_SCHEMA: self._schema},
                render_schema_translate=True,
                compile_kwargs={"literal_binds": True},
            )
        )
        self._require_open()
        manager = need("adbc_driver_manager")
        try:
            with self._cursor() as cursor:
                cursor.execute(text)
                return cursor.fetch_arrow_table()
        except manager.Error as error:
            self._drop_connection()
            raise _translate(error) from error

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Any]:
        if self._connection is None:
            self._connection = need("adbc_driver_postgresql.dbapi").connect(
                self._uri if isinstance(self._uri, str) else self._uri(), autocommit=True
            )
        with self._connection.cursor() as cursor:
            yield cursor

    def _drop_connection(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(Exception):  # it is broken: that is why it is dropped
                connection.close()

    def close(self) -> None:
        """Give the connection back, and stop the embedded server if this was its last user."""
        self._closed = True
        self._drop_connection()
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close()

    def __enter__(self) -> Warehouse:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Warehouse {self._schema}>"


def _range(start: When, end: When) -> tuple[datetime | None, datetime | None]:
    begin, before = bound(start, "start"), bound(end, "end")
    if begin is not None and before is not None and before < begin:
        raise Refused(f"end {before.isoformat()} lies before start {begin.isoformat()}")
    return begin, before


def _fact_of(kind: str, profile: str) -> BarFact:
    """The fact of a kind of bars, which the profile must be of."""
    facts = {fact.name: fact for fact in BAR_FACTS.values()}
    if kind not in facts:
        raise Refused(f"kind: found {kind!r}, allowed are {', '.join(facts)}")
    if isinstance(profile, str) and (own := BAR_FACTS.get(kind_of(profile))) is not facts[kind]:
        (prefix,) = (name for name, fact in BAR_FACTS.items() if fact is facts[kind])
        found = "is none of" if own is None else f"makes bars of the kind {own.name}, not"
        raise Refused(
            f"profile {profile} {found} {kind}: profiles of that kind begin with {prefix}_"
        )
    return facts[kind]


def _translate(error: Any) -> RavenwhError:
    text = str(error).splitlines()[0]
    state = error.sqlstate or next((AT_CONNECT[p] for p in AT_CONNECT if re.search(p, text)), "")
    return by_state(state, text)


def _storable(name: object) -> bool:
    """Whether PostgreSQL could hold the name at all."""
    return isinstance(name, str) and "\0" not in name and name.isprintable()


def _impossible(dimension: str, name: object) -> str:
    return f"{dimension} {name!r} is not in the mart, and cannot be: a name is printable text"
