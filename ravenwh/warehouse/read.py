"""Named reads: from the names of a series to a frame."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from difflib import get_close_matches
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ravenwh.domain.errors import RavenwhError, Refused, UnknownName
from ravenwh.domain.series import Series
from ravenwh.schema import DIMENSIONS, HOME_SCHEMA, KLINES
from ravenwh.warehouse.errors import by_state
from ravenwh.warehouse.multipliers import Claim, claims_of, contests, multiplier, spans
from ravenwh.warehouse.when import When, bound

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

__all__ = ["Frames", "Warehouse"]

PRICES = ("open", "high", "low", "close")
COINS = ("volume", "taker_buy_volume")
PROVENANCE = ("event_time", "source", "ingested_at", "revised_at")

AT_CONNECT = {
    r"authentication failed|no password supplied|password file": "28P01",
    r"no pg_hba\.conf entry|FATAL: +role .* does not exist": "28000",
    r"FATAL: +database .* does not exist": "3D000",
}
"""What a server says to who connects, and its SQLSTATE, which libpq does not tell for that."""


@attrs.frozen(kw_only=True)
class Frames:
    """A read that is not run yet: ask it for the kind of frame you work with.

    Each call runs the query again. ``open_time`` is aware UTC, rows are sorted by it.
    """

    series: Series
    _run: Callable[[], pyarrow.Table]

    def arrow(self) -> pyarrow.Table:
        """A pyarrow Table; ``open_time`` is timestamp[us, UTC]."""
        return self._run()

    def polars(self) -> polars.DataFrame:
        """A polars DataFrame; ``open_time`` is Datetime("us", "UTC")."""
        frame: polars.DataFrame = _need("polars").from_arrow(self._run())
        return frame

    def pandas(self) -> pandas.DataFrame:
        """A pandas DataFrame, indexed by ``open_time``; counts are Int64, so that null stays."""
        pd, pa = _need("pandas"), _need("pyarrow")
        table = self._run()
        mapping = {pa.int64(): pd.Int64Dtype()}
        frame: pandas.DataFrame = table.to_pandas(types_mapper=mapping.get)
        return frame.set_index("open_time")


class Warehouse:
    """The mart, for reading. Safe to use from a script and from a notebook cell.

    ``uri`` is a libpq URI, or gives it: it is asked at each new connection, and so sees a password
    that was changed. The connection is opened at the first read and opened again after it broke;
    close it with :meth:`close` or ``with``, and then it reads no more.
    """

    def __init__(
        self,
        uri: str | Callable[[], str],
        *,
        schema: str = HOME_SCHEMA,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        self._uri = uri
        self._schema = schema
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
        begin, before = bound(start, "start"), bound(end, "end")
        if begin is not None and before is not None and before < begin:
            raise Refused(f"end {before.isoformat()} lies before start {begin.isoformat()}")

        def run() -> pyarrow.Table:
            ids = self._ids(series)
            within = _within(ids, begin, before)
            by = None if raw else self._multiplier(series, ids, within)
            return self._fetch(_klines(within, by, provenance=provenance))

        return Frames(series=series, run=run)

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

    def _multiplier(
        self, series: Series, ids: dict[str, int], within: sa.ColumnElement[bool]
    ) -> sa.ColumnElement[float] | None:
        """What prices are divided by, if by anything; Refused where rows leave that in doubt."""
        parts = spans([Claim(**row) for row in self._fetch(claims_of(ids)).to_pylist()])
        for contest in contests(parts):
            doubtful = sa.select(sa.exists().where(within, contest.rows).label("any"))
            if self._fetch(doubtful)["any"][0].as_py():
                raise Refused(contest.told(series))
        return multiplier(parts)

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
        if self._closed:
            raise Refused("this warehouse is closed: open another one with ravenwh.connect()")
        manager = _need("adbc_driver_manager")
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
            self._connection = _need("adbc_driver_postgresql.dbapi").connect(
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


def _need(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise Refused(
            f"reading needs {error.name}, which is not installed: "
            "python -m pip install 'ravenwh[frames]'"
        ) from error


def _translate(error: Any) -> RavenwhError:
    text = str(error).splitlines()[0]
    state = error.sqlstate or next((AT_CONNECT[p] for p in AT_CONNECT if re.search(p, text)), "")
    return by_state(state, text)


def _storable(name: object) -> bool:
    """Whether PostgreSQL could hold the name at all."""
    return isinstance(name, str) and "\0" not in name and name.isprintable()


def _impossible(dimension: str, name: object) -> str:
    return f"{dimension} {name!r} is not in the mart, and cannot be: a name is printable text"


def _within(
    ids: dict[str, int], begin: datetime | None, before: datetime | None
) -> sa.ColumnElement[bool]:
    """Which rows are asked for."""
    fact = KLINES.c
    wanted = [fact[f"{name}_id"] == ids[name] for name in ids]
    if begin is not None:
        wanted.append(fact.open_time >= begin)
    if before is not None:
        wanted.append(fact.open_time < before)
    return sa.and_(*wanted)


def _klines(
    within: sa.ColumnElement[bool], by: sa.ColumnElement[float] | None, *, provenance: bool
) -> sa.Select[*tuple[Any, ...]]:
    """The query for a series; ``by`` is the multiplier, if it is not 1."""
    keys = {d.id.name for d in DIMENSIONS}
    columns: list[sa.ColumnElement[Any]] = []
    for column in KLINES.columns:
        name = column.name
        if name in keys or (name in PROVENANCE and not provenance):
            continue
        if by is not None and name in PRICES:
            columns.append((column / by).label(name))
        elif by is not None and name in COINS:
            columns.append((column * by).label(name))
        else:
            columns.append(column)
    return sa.select(*columns).where(within).order_by(KLINES.c.open_time)
