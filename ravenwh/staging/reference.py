"""The page ``docs/reference/measurements.md``, written from the tables.

``python -m ravenwh.staging.reference docs/reference/measurements.md`` writes it anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ravenwh.staging.measurements import MEASUREMENTS, STREAMS, Measurement

__all__ = ["reference"]

_HEAD = """\
# Measurements

Written by `python -m ravenwh.staging.reference` from the tables; change those, not this page.

What the tick runner writes into InfluxDB. Tags are text that points are found by; fields are their
values. A field that a venue does not say is left out, never zero. `exchange` is what the wire calls
venue, and `symbol` is the venue's own.

The time of a point is the venue's, but for trades and liquidations: theirs is the millisecond of
the venue and a slot in it, so that none overwrites another. [How a tick is
kept](../why/ticks.md) tells how, and how to get back to the time of the venue.
"""

_STREAMS = """\
## Which stream goes where

A stream that starts by itself brings all symbols of its venue. Of the others each symbol is started
by the settings or by control. Streams of other venues go by their data type.

| stream | venue | data type | measurement | starts by itself |
|---|---|---|---|---|"""

_KINDS = {float: "float", int: "integer", str: "string"}


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    for measurement in MEASUREMENTS.values():
        yield from _section(measurement)
    yield _STREAMS
    for stream in STREAMS:
        own = "yes" if stream.starts_by_itself else "no"
        goes_to = f"[`{stream.measurement.name}`](#{stream.measurement.name.replace('_', '-')})"
        yield f"| `{stream.name}` | `{stream.venue}` | {stream.data_type} | {goes_to} | {own} |"


def _section(measurement: Measurement) -> Iterator[str]:
    tags = ", ".join(f"`{tag}`" for tag in measurement.tags)
    yield f"## `{measurement.name}`\n"
    yield f"{measurement.meaning} From {measurement.data_type} messages. Tags: {tags}.\n"
    yield "| field | type | | |"
    yield "|---|---|---|---|"
    for field in measurement.fields:
        always = "where it is said" if field.optional else "always"
        yield f"| `{field.name}` | {_KINDS[field.kind]} | {field.meaning} | {always} |"
    yield ""


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
