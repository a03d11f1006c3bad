"""A mart on a server with TimescaleDB, filled by the server itself; for benchmarks of it.

The klines have the entropy of an exchange's (prices in cents, five columns of volumes and counts
that nobody can foretell) and come as a live feed writes them: minute by minute. The server is that
of --dsn or RAVENWH_TEST_TIMESCALE_DSN, else a throw-away one where the local PostgreSQL has
TimescaleDB; without either nothing is measured.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import sqlalchemy as sa
from alembic import command
from loguru import logger

from ravenwh.app.preflight import alembic_config
from ravenwh.domain.settings import Settings
from ravenwh.schema import ROLLUPS
from tests.engines.native import DSN, NativeServer, native_server
from tests.engines.node import Missing

START = datetime(2023, 1, 1, tzinfo=UTC)

NAMES = """
INSERT INTO mart.dim__exchange (exchange) VALUES ('BINANCE_FUTURES');
INSERT INTO mart.dim__quote (quote) VALUES ('USDT');
INSERT INTO mart.dim__interval (interval, duration) VALUES ('1m', INTERVAL '1 minute');
INSERT INTO mart.dim__coin (coin)
SELECT 'C' || lpad(n::text, 3, '0') FROM generate_series(1, :series) AS n;
SELECT setseed(0.5)
"""
FILL = """
INSERT INTO mart.fact__kline (
    coin_id, quote_id, exchange_id, interval_id, open_time, event_time, source, ingested_at,
    open, high, low, close, volume, quote_volume, trade_count,
    taker_buy_volume, taker_buy_quote_volume)
WITH minutes AS MATERIALIZED (
    SELECT coin_id, t, 10 + coin_id * 7.0::float8 AS start, random() + random() + random() AS step,
           random() AS a, random() AS b, random() AS c
    FROM mart.dim__coin,
         generate_series(CAST(:start AS timestamptz),
                         CAST(:end AS timestamptz) - INTERVAL '1 minute', '1 minute') AS t
), walks AS (
    SELECT *, start * exp(0.0006 * sum(step - 1.5) OVER (PARTITION BY coin_id ORDER BY t)) AS price
    FROM minutes
), klines AS (
    SELECT *, round(lag(price, 1, start) OVER (PARTITION BY coin_id ORDER BY t)::numeric, 2) AS o,
           round(price::numeric, 2) AS k, round((-ln(1 - a) * 5000 / start)::numeric, 3) AS v
    FROM walks
)
SELECT coin_id, 1, 1, 1, t, t + INTERVAL '1 minute', 'stream',
       t + INTERVAL '60.3 seconds' + c * INTERVAL '1 second',
       o, round(greatest(o, k) * (1 + b::numeric * 0.0003), 2),
       round(least(o, k) * (1 - c::numeric * 0.0003), 2), k, v, round(v * (o + k) / 2, 5),
       1 + (v * (50 + 100 * b))::bigint, round(v * c::numeric, 3),
       round(round(v * c::numeric, 3) * (o + k) / 2, 5)
FROM klines ORDER BY t, coin_id
"""


@attrs.define(kw_only=True)
class Mart:
    """A migrated database whose jobs do not run by themselves."""

    url: str
    engine: sa.Engine

    def run(self, text: str, **values: Any) -> list[Any]:
        """Statements in a transaction of their own each; the rows of the last."""
        rows: list[Any] = []
        for statement in text.split(";\n"):
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as one:
                used = {n: v for n, v in values.items() if f":{n}" in statement}
                result = one.execute(sa.text(statement), used)
                rows = list(result) if result.returns_rows else []
        return rows

    def number(self, text: str) -> float:
        """The one number that a query gives."""
        return float(self.run(text)[0][0] or 0)


@contextmanager
def mart_on(server: NativeServer) -> Iterator[Mart]:
    """A new one, dropped afterwards."""
    with server.fresh_database() as url:
        command.upgrade(alembic_config(Settings(timescale={"url": url})), "head")
        engine = sa.create_engine(url.replace("+asyncpg", "+psycopg"))
        mart = Mart(url=url, engine=engine)
        mart.run(
            "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs"
            " WHERE job_id >= 1000"
        )
        yield mart
        engine.dispose()


def fill(mart: Mart, series: int, days: int) -> None:
    """The synthetic klines; keys are right by construction, so their row-wise check is left out."""
    mart.run(NAMES, series=series)
    at, end = START, START + timedelta(days=days)
    while at < end:
        until = min(at + timedelta(days=7), end)
        with mart.engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
            connection.execute(sa.text("SET LOCAL work_mem = '256MB'"))
            connection.execute(sa.text(FILL), {"start": at, "end": until})
        at = until
    mart.run("VACUUM ANALYZE mart.fact__kline")


def refresh(mart: Mart) -> None:
    """All rollups over everything that is complete, lower ones first."""
    for rollup_table in ROLLUPS.values():
        mart.run(f"CALL refresh_continuous_aggregate('mart.{rollup_table.name}', NULL, NULL)")


def convert(mart: Mart, *tables: str) -> None:
    """Every chunk into the columnstore."""
    for table in tables:
        for (chunk,) in mart.run(f"SELECT show_chunks('mart.{table}')::text"):
            mart.run(f"CALL convert_to_columnstore('{chunk}')")


def parser_for(text: str | None) -> argparse.ArgumentParser:
    """The options that benchmarks on TimescaleDB have in common."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn", help=f"a superuser's URL; without it {DSN}")
    parser.add_argument("--rounds", type=int, default=5)
    return parser


def on_a_server(options: argparse.Namespace, work: Callable[..., None]) -> None:
    """Find a server and measure, or say why not."""
    logger.disable("ravenwh")
    if options.dsn:
        os.environ[DSN] = options.dsn
    try:
        with native_server() as server:
            print(f"TimescaleDB {server.version}, {load()}", flush=True)
            work(server, options)
            print(load())
    except Missing as reason:
        print(f"nothing measured: there is no server with TimescaleDB: {reason}")


def load() -> str:
    """What else the machine has to do."""
    return f"load {' '.join(f'{each:.1f}' for each in os.getloadavg())}"
