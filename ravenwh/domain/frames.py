"""What a read gives: one result, in the kind of frame that one works with."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import attrs

from ravenwh.domain.errors import Refused

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

__all__ = ["Frames", "need", "told_in"]


@attrs.frozen(kw_only=True)
class Frames:
    """A read that is not run yet: ask it for the kind of frame you work with.

    ``of`` says what is read, and ``index`` which column holds the times: ``open_time`` of klines
    and bars, in microseconds; ``event_time`` of ticks, in nanoseconds. They are aware UTC, and rows
    are sorted by them. Each call reads again.

    What is told of a series beside its rows, as the parameters of bars, stands in the metadata of
    the frame: ``attrs`` in pandas, ``schema.metadata`` in Arrow, where each value is JSON. polars
    has no place for it.
    """

    of: str
    index: str
    _run: Callable[[], pyarrow.Table]

    def arrow(self) -> pyarrow.Table:
        """A pyarrow Table; times are timestamp[us, UTC], or timestamp[ns, UTC]."""
        return self._run()

    def polars(self) -> polars.DataFrame:
        """A polars DataFrame; times are Datetime("us", "UTC"), or Datetime("ns", "UTC")."""
        frame: polars.DataFrame = need("polars").from_arrow(self._run())
        return frame

    def pandas(self) -> pandas.DataFrame:
        """A pandas DataFrame, indexed by the times; whole numbers are Int64, so that null stays."""
        pd, pa = need("pandas"), need("pyarrow")
        table = self._run()
        mapping = {pa.int64(): pd.Int64Dtype()}
        frame: pandas.DataFrame = table.to_pandas(types_mapper=mapping.get).set_index(self.index)
        told = table.schema.metadata or {}
        frame.attrs |= {name.decode(): json.loads(value) for name, value in told.items()}
        return frame


def told_in(table: pyarrow.Table, **told: object) -> pyarrow.Table:
    """The table with this in its metadata."""
    return table.replace_schema_metadata({name: json.dumps(value) for name, value in told.items()})


def need(module: str, *, what: str = "reading", extra: str = "frames") -> Any:
    """The module, which ``what`` needs. Raises Refused where it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise Refused(
            f"{what} needs {error.name}, which is not installed: "
            f"python -m pip install 'ravenwh[{extra}]'"
        ) from error
