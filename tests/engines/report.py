"""One line at the start of a test run: the engines found, and why others are not; a plug-in."""

from __future__ import annotations

import os
from collections.abc import Callable

from ravenwh.domain.errors import RavenwhError
from ravenwh.embedded.binaries import find
from tests.engines import influx
from tests.engines.influxd import find_influxd
from tests.engines.native import DSN, find_installed, named_server
from tests.engines.node import Missing, find_node
from tests.engines.wasm_server import VERSION, cached


def pytest_report_header() -> str:
    """The line."""
    looks = {
        "embedded PostgreSQL": embedded,
        "TimescaleDB in WASM": wasm,
        "native TimescaleDB": native,
        "InfluxDB": influxdb,
    }
    return f"engines: {'; '.join(told(what, look) for what, look in looks.items())}"


def told(what: str, look: Callable[[], str]) -> str:
    """What was found, or why it was not."""
    try:
        return look()
    except (Missing, RavenwhError) as reason:
        return f"no {what}: {reason}"


def embedded() -> str:
    """The one of the wheel, or whatever stands in for it."""
    return f"embedded PostgreSQL {find().version}"


def wasm() -> str:
    """What the lock of npm names, if there is a Node.js to run it."""
    node = find_node()
    fetched = "" if cached().is_dir() else f", still to be fetched by npm of Node.js {node.version}"
    return f"TimescaleDB {VERSION} (WASM, community{fetched})"


def influxdb() -> str:
    """The real one that is named, or the local installation of version 1."""
    url = os.environ.get(influx.URL)
    return f"InfluxDB at {url} ({influx.URL})" if url else f"InfluxDB 1 ({find_influxd()})"


def native() -> str:
    """The server of the DSN, or the local installation that one would be started from."""
    dsn = os.environ.get(DSN)
    if dsn is not None:
        return f"native TimescaleDB {named_server(dsn).version} ({DSN})"
    return f"native TimescaleDB {find_installed().version} (the local PostgreSQL's)"
