"""Points as tables, with the times of the venues."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ravenwh.domain.frames import need
from ravenwh.staging.identity import MILLISECOND
from ravenwh.staging.measurements import Measurement
from ravenwh.staging.options import option_of
from ravenwh.staging.query import Selection

if TYPE_CHECKING:
    import pyarrow

__all__ = ["table_of"]


def table_of(asked: Selection, chunks: Iterable[Sequence[Any]]) -> pyarrow.Table:
    """The rows as a table with the venue's time, without the tags that were asked for."""
    pa = need("pyarrow")
    measurement = asked.measurement
    schema = _schema(pa, measurement)
    batches = [
        pa.record_batch(list(map(pa.array, zip(*chunk, strict=True), schema.types)), schema)
        for chunk in chunks
        if chunk
    ]
    table = pa.Table.from_batches(batches, schema)
    times = table["event_time"]
    if measurement.of_events:  # as venue_time does
        compute, unit = need("pyarrow.compute"), pa.scalar(MILLISECOND, pa.int64())
        times = compute.multiply(compute.divide(times, unit), unit)
    table = table.set_column(0, "event_time", times.cast(pa.timestamp("ns", "UTC")))
    if measurement.name == "options_ticker" and asked.symbol is None:
        table = _with_terms(pa, table)
    known = {"exchange": asked.exchange, measurement.symbol_tag: asked.symbol}
    return table.drop_columns([tag for tag, value in known.items() if value is not None])


def _schema(pa: Any, measurement: Measurement) -> Any:
    kinds = {float: pa.float64(), int: pa.int64(), str: pa.string()}
    return pa.schema(
        [
            pa.field("event_time", pa.int64()),
            *(pa.field(tag, pa.string()) for tag in measurement.tags),
            *(pa.field(field.name, kinds[field.kind]) for field in measurement.fields),
        ]
    )


def _with_terms(pa: Any, table: pyarrow.Table) -> pyarrow.Table:
    """The table with expiry, strike and kind of each row's option, null where it is none."""
    names = list(zip(table["exchange"].to_pylist(), table["symbol"].to_pylist(), strict=True))
    found = {name: option_of(*name) for name in set(names)}
    terms = {
        name: (option.expiry, option.option.strike, option.option.kind)
        for name, option in found.items()
        if option is not None and option.option is not None
    }
    kinds = {"expiry": pa.timestamp("us", "UTC"), "strike": pa.float64(), "kind": pa.string()}
    for i, (column, kind) in enumerate(kinds.items()):
        values = [terms[name][i] if name in terms else None for name in names]
        table = table.append_column(column, pa.array(values, kind))
    return table
