"""What a test looks at: rows to put into the star, and the catalog as one comparable value."""

from __future__ import annotations

from typing import Any

from tests.timescale.project import Place

FILL = """
INSERT INTO {s}.dim__coin (coin) VALUES ('BTC'), ('ETH');
INSERT INTO {s}.dim__quote (quote) VALUES ('USDT');
INSERT INTO {s}.fact__kline
SELECT coin_id, quote_id, t, p, p + 2, p - 2, p + 1, 1 + coin_id
FROM {s}.dim__coin, {s}.dim__quote,
     generate_series(TIMESTAMPTZ '2024-01-01', TIMESTAMPTZ '2024-01-20', '7 minutes') AS t,
     LATERAL (SELECT 100 + extract(epoch FROM t)::bigint % 97 AS p) AS prices;
"""


def fill(place: Place, *, compressed: bool = False) -> None:
    """Three weeks of klines of two series, the older chunks stored by column."""
    place.rows(FILL)
    if compressed:
        place.rows(
            "SELECT compress_chunk(c) FROM show_chunks('{s}.fact__kline',"
            " older_than => TIMESTAMPTZ '2024-01-14') AS c"
        )


def catalog(place: Place) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that a migration may change, without what numbers itself, and Alembic's table."""
    queries = STOCK | (COMMUNITY if place.level == "community" else {})
    found = {
        name: [row for row in rows if not row[0].startswith("alembic_version")]
        for name, rows in place.answers(queries).items()
    }
    if ("fact__kline", "r", None) in found["relations"]:
        found["rows"] = place.rows("SELECT count(*), sum(volume)::float8 FROM {s}.fact__kline")
    return found


STOCK = {
    "relations": """
        SELECT relname, relkind, obj_description(c.oid, 'pg_class') FROM pg_class c
        JOIN pg_namespace n ON n.oid = relnamespace
        WHERE nspname = '{s}' ORDER BY 1""",
    "columns": """
        SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity
        FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
        JOIN pg_namespace n ON n.oid = relnamespace
        WHERE nspname = '{s}' AND attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'v')
        ORDER BY 1, attnum""",
    "constraints": """
        SELECT conname, pg_get_constraintdef(c.oid) FROM pg_constraint c
        JOIN pg_namespace n ON n.oid = connamespace WHERE nspname = '{s}' ORDER BY 1""",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = '{s}' ORDER BY 1",
    "views": """
        SELECT viewname, definition FROM pg_views v WHERE schemaname = '{s}'
          AND definition NOT LIKE '%_materialized_hypertable_%' ORDER BY 1""",
}
COMMUNITY = {
    "hypertables": """
        SELECT h.hypertable_name, column_name::text, time_interval, compression_enabled,
               segmentby, orderby
        FROM timescaledb_information.hypertables h
        JOIN timescaledb_information.dimensions d USING (hypertable_schema, hypertable_name)
        LEFT JOIN timescaledb_information.hypertable_columnstore_settings s
          ON s.hypertable = format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass
        ORDER BY 1""",
    "aggregates": """
        SELECT view_name, view_definition, materialized_only, compression_enabled
        FROM timescaledb_information.continuous_aggregates ORDER BY 1""",
    "jobs": """
        SELECT hypertable_name, proc_name, schedule_interval,
               config - 'hypertable_id' - 'mat_hypertable_id'
        FROM timescaledb_information.jobs WHERE job_id >= 1000 ORDER BY 1, 2""",
}


def rollups(place: Place) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every rollup."""
    names = ("agg__kline_5m", "agg__kline_1h", "agg__kline_1d", "kline_1h")
    return place.answers({n: f"TABLE {{s}}.{n} ORDER BY coin_id, open_time" for n in names})
