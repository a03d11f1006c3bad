"""How long `alembic check` takes on the whole mart, with a year of chunks in it.

Each is a new process, as people and CI start it: `current`, which only connects and reads the
revision, and `check`, which compares everything. The best of the rounds counts: what the machine
does beside this only adds. ``_timescale.py`` tells which server.

    python -m benchmarks.check [--rounds 5]
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import subprocess
import sys
import time

from benchmarks._timescale import Mart, convert, fill, mart_on, on_a_server, parser_for
from tests.engines.native import NativeServer

SERIES = 2
DAYS = 365


def took(mart: Mart, name: str) -> tuple[float, float]:
    """Seconds of a command of Alembic, and those of them that were its own CPU."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAVENWH_")}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(  # noqa: S603  this Python, on words of this file
        [sys.executable, "-m", "ravenwh", "alembic", name],
        env=clean | {"RAVENWH_TIMESCALE_URL": mart.url.replace("+asyncpg", "")},
        check=True,
        capture_output=True,
    )
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(server: NativeServer, options: argparse.Namespace) -> None:
    """Both commands in turn, and the best of each."""
    with mart_on(server) as mart:
        fill(mart, SERIES, DAYS)
        convert(mart, "fact__kline")
        chunks = mart.number("SELECT count(*) FROM timescaledb_information.chunks")
        print(f"{chunks:.0f} chunks, best of {options.rounds} rounds")
        best = {"current": (math.inf, math.inf), "check": (math.inf, math.inf)}
        for name in tuple(best) * options.rounds:
            best[name] = min(best[name], took(mart, name))
    for name, (seconds, used) in best.items():
        ratio = seconds / best["current"][0]
        print(f"alembic {name:<8} {seconds:5.2f} s, {used:.2f} s of them its CPU  {ratio:.1f}")


if __name__ == "__main__":
    on_a_server(parser_for(__doc__).parse_args(), measure)
