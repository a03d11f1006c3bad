"""Named reads: from the names of a series to a frame."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from difflib import get_close_matches
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ravenwh.domain.errors import RavenwhError, Refused, UnknownName
from ravenwh.domain.series import Series
from ravenwh.schema import DIMENSIONS, HOME_SCHEMA, KLINES, SYMBOLS
from ravenwh.warehouse.errors import by_state

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

__all__ = ["Frames", "Warehouse"]

When = str | date | datetime | None

PRICES = ("open", "high", "low", "close")
COINS = ("volume", "taker_buy_volume")
PROVENANCE = ("event_time", "source", "ingested_at", "revised_at")


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

    ``uri`` is a libpq URI. The connection is opened at the first read and opened again after it
    broke; close it with :meth:`close` or ``with``.
    """

    def __init__(
        self, uri: str, *, schema: str = HOME_SCHEMA, on_close: Callable[[], object] | None = None
    ) -> None:
        self._uri = uri
        self._schema = schema
        self._on_close = on_close
        self._connection: Any = None

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

        A bound is a date, an aware time, or ISO 8601 text; text without a zone is UTC; None leaves
        the side open. Prices are in quote units for one coin, ``volume`` and ``taker_buy_volume``
        in coins, ``quote_volume`` and ``taker_buy_quote_volume`` in quote units; ``raw=True`` gives
        the venue's own numbers where it trades several coins as one unit (``1000PEPEUSDT``).
        ``provenance`` adds event_time, source, ingested_at and revised_at. Raises UnknownName for a
        name that the mart does not have, with the nearest that it has.
        """
        series = Series(coin=coin, quote=quote, exchange=exchange, interval=interval)
        begin, before = _bound(start, "start"), _bound(end, "end")
        if begin is not None and before is not None and before < begin:
            raise Refused(f"end {before.isoformat()} lies before start {begin.isoformat()}")

        def run() -> pyarrow.Table:
            ids = self._ids(series)
            units = [] if raw else self._units(ids)
            statement = _klines(ids, begin, before, units, provenance=provenance)
            return self._fetch(statement)

        return Frames(series=series, run=run)

    def _ids(self, series: Series) -> dict[str, int]:
        """The ids of the names; soft-deleted ones are as good as any."""
        names = attrs.asdict(series)
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

    def _units(self, ids: dict[str, int]) -> list[dict[str, Any]]:
        """Multipliers of the symbols that ever stood for the series, with their times."""
        rows: list[dict[str, Any]] = self._fetch(
            sa.select(SYMBOLS.c.multiplier, SYMBOLS.c.listed_at, SYMBOLS.c.delisted_at).where(
                *(SYMBOLS.c[f"{n}_id"] == ids[n] for n in ("coin", "quote", "exchange"))
            )
        ).to_pylist()
        return [row for row in rows if row["multiplier"] != 1.0]

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
                self._uri, autocommit=True
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
    return by_state(error.sqlstate or "", str(error).splitlines()[0])


def _bound(when: When, name: str) -> datetime | None:
    """A bound of a range as an aware UTC time."""
    if when is None:
        return None
    if isinstance(when, str):
        try:
            parsed = datetime.fromisoformat(when)
        except ValueError as error:
            raise Refused(
                f"{name} {when!r} is no time: give ISO 8601 text such as 2024-01-31 or "
                "2024-01-31T12:00:00Z"
            ) from error
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    if not isinstance(when, datetime):
        return datetime(when.year, when.month, when.day, tzinfo=UTC)
    if when.utcoffset() is None:
        raise Refused(
            f"{name} {when.isoformat()} has no time zone: add one, such as tzinfo=datetime.UTC"
        )
    return when.astimezone(UTC)


def _klines(
    ids: dict[str, int],
    begin: datetime | None,
    before: datetime | None,
    units: list[dict[str, Any]],
    *,
    provenance: bool,
) -> sa.Select[*tuple[Any, ...]]:
    """The query for a series; ``units`` gives multipliers other than 1, with their times."""
    fact = KLINES.c
    columns: list[sa.ColumnElement[Any]] = []
    for column in KLINES.columns:
        name = column.name
        if name in {f"{d}_id" for d in ids} or (name in PROVENANCE and not provenance):
            continue
        if units and name in PRICES:
            columns.append((column / _multiplier(units)).label(name))
        elif units and name in COINS:
            columns.append((column * _multiplier(units)).label(name))
        else:
            columns.append(column)
    statement = sa.select(*columns).where(*(fact[f"{d}_id"] == ids[d] for d in ids))
    if begin is not None:
        statement = statement.where(fact.open_time >= begin)
    if before is not None:
        statement = statement.where(fact.open_time < before)
    return statement.order_by(fact.open_time)


def _multiplier(units: list[dict[str, Any]]) -> sa.ColumnElement[float]:
    """The multiplier of a row: of the symbol that stood for the series at its open_time."""
    at = KLINES.c.open_time
    whens: list[tuple[sa.ColumnElement[bool], sa.ColumnElement[float]]] = [
        (
            sa.and_(
                sa.true() if unit["listed_at"] is None else at >= unit["listed_at"],
                sa.true() if unit["delisted_at"] is None else at < unit["delisted_at"],
            ),
            sa.literal(unit["multiplier"], sa.Double()),
        )
        for unit in units
    ]
    return sa.case(*whens, else_=sa.literal(1.0, sa.Double()))
