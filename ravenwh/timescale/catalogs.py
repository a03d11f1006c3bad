"""The queries on PostgreSQL's, TimescaleDB's and Citus's catalogs; ``:schemas`` says where."""

from __future__ import annotations

__all__ = [
    "AGGREGATES",
    "CHUNKS",
    "CHUNK_INTERVALS",
    "CITUS",
    "DROPPED",
    "HYPERTABLES",
    "INTERRUPTED",
    "JOBS",
    "JOB_RUNS",
    "MATERIALISED",
    "NOTED",
    "READS",
    "READS_AGGREGATES",
    "VIEWS",
]

VIEWS = """
SELECT n.nspname AS schema, c.relname AS name, pg_get_viewdef(c.oid) AS definition,
       obj_description(c.oid, 'pg_class') AS comment
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'v' AND n.nspname IN :schemas
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'
                                            AND d.classid = CAST('pg_class' AS regclass))
"""

# What the rule of a view depends on. A continuous aggregate's own rule reads its materialised
# table; what its SELECT reads is told by the "direct view" that TimescaleDB keeps beside it.
READS_OF = """
SELECT DISTINCT {schema} AS schema, {name} AS name, rn.nspname AS read_schema,
       rc.relname AS read_name, a.attname AS read_column
FROM pg_class v JOIN pg_namespace n ON n.oid = v.relnamespace {join}
JOIN pg_rewrite r ON r.ev_class = v.oid
JOIN pg_depend d ON d.classid = CAST('pg_rewrite' AS regclass) AND d.objid = r.oid
                AND d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid <> v.oid
JOIN pg_class rc ON rc.oid = d.refobjid JOIN pg_namespace rn ON rn.oid = rc.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = rc.oid AND a.attnum = d.refobjsubid AND a.attnum > 0
WHERE v.relkind = 'v' AND {schema} IN :schemas
"""
READS = READS_OF.format(schema="n.nspname", name="v.relname", join="")
READS_AGGREGATES = (
    READS
    + "UNION"
    + READS_OF.format(
        schema="ca.user_view_schema",
        name="ca.user_view_name",
        join="JOIN _timescaledb_catalog.continuous_agg ca"
        " ON ca.direct_view_schema = n.nspname AND ca.direct_view_name = v.relname",
    )
)

HYPERTABLES = """
SELECT h.hypertable_schema AS schema, h.hypertable_name AS name,
       CAST(d.column_name AS text) AS time_column, CAST(d.time_interval AS text) AS chunk,
       h.compression_enabled AS columnstore, c.segmentby, c.orderby
FROM timescaledb_information.hypertables h
JOIN timescaledb_information.dimensions d
    ON (d.hypertable_schema, d.hypertable_name, d.dimension_number)
     = (h.hypertable_schema, h.hypertable_name, 1)
LEFT JOIN timescaledb_information.hypertable_columnstore_settings c
    ON c.hypertable = CAST(format('%I.%I', h.hypertable_schema, h.hypertable_name) AS regclass)
WHERE h.hypertable_schema IN :schemas
"""

AGGREGATES = """
SELECT a.view_schema AS schema, a.view_name AS name, a.view_definition AS definition,
       a.materialized_only, a.compression_enabled AS columnstore, c.segmentby, c.orderby
FROM timescaledb_information.continuous_aggregates a
LEFT JOIN timescaledb_information.hypertable_columnstore_settings c
    ON c.hypertable = CAST(format('%I.%I', a.materialization_hypertable_schema,
                                  a.materialization_hypertable_name) AS regclass)
WHERE a.view_schema IN :schemas
"""

JOBS = """
SELECT hypertable_schema AS schema, hypertable_name AS name, proc_name AS kind,
       CAST(CAST(config ->> 'drop_after' AS interval) AS text) AS drop_after,
       CAST(CAST(config ->> 'compress_after' AS interval) AS text) AS compress_after,
       CAST(CAST(config ->> 'start_offset' AS interval) AS text) AS start_offset,
       CAST(CAST(config ->> 'end_offset' AS interval) AS text) AS end_offset,
       CAST(schedule_interval AS text) AS schedule
FROM timescaledb_information.jobs
WHERE hypertable_schema IN :schemas
  AND proc_name IN ('policy_retention', 'policy_compression', 'policy_refresh_continuous_aggregate')
ORDER BY job_id
"""

# one row a table and kind: an aggregate may have several refreshes
JOB_RUNS = """
SELECT j.hypertable_schema AS schema, j.hypertable_name AS name, j.proc_name AS kind,
       max(NULLIF(s.last_run_started_at, '-infinity')) AS last_run,
       min(NULLIF(coalesce(s.next_start, j.next_start), '-infinity')) AS next_run,
       CAST(coalesce(sum(s.total_runs), 0) AS bigint) AS runs,
       CAST(coalesce(sum(s.total_failures), 0) AS bigint) AS failures
FROM timescaledb_information.jobs j
LEFT JOIN timescaledb_information.job_stats s USING (job_id)
WHERE j.hypertable_schema IN :schemas
  AND j.proc_name IN
      ('policy_retention', 'policy_compression', 'policy_refresh_continuous_aggregate')
GROUP BY 1, 2, 3
"""

CITUS = """
SELECT n.nspname AS schema, c.relname AS name, t.citus_table_type AS kind, t.distribution_column
FROM citus_tables t
JOIN pg_class c ON c.oid = t.table_name JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN :schemas AND t.citus_table_type IN ('distributed', 'reference')
"""

# How far each aggregate is materialised, and where; times are microseconds since 1970.
MATERIALISED = """
SELECT ca.user_view_schema AS schema, ca.user_view_name AS name, ca.mat_hypertable_id AS id,
       CAST(h.schema_name AS text) AS table_schema, CAST(h.table_name AS text) AS table_name,
       format('%I.%I', h.schema_name, h.table_name) AS materialised,
       format('%I.%I', ca.partial_view_schema, ca.partial_view_name) AS made_from,
       _timescaledb_functions.cagg_watermark(ca.mat_hypertable_id) AS watermark
FROM _timescaledb_catalog.continuous_agg ca
JOIN _timescaledb_catalog.hypertable h ON h.id = ca.mat_hypertable_id
WHERE ca.user_view_schema IN :schemas
"""

CHUNKS = """
SELECT CAST(hypertable_schema AS text) AS schema, CAST(hypertable_name AS text) AS name,
       range_start, range_end
FROM timescaledb_information.chunks
WHERE hypertable_schema IN :schemas AND range_start IS NOT NULL
"""

CHUNK_INTERVALS = """
SELECT CAST(hypertable_schema AS text) AS schema, CAST(hypertable_name AS text) AS name,
       time_interval AS chunk
FROM timescaledb_information.dimensions
WHERE hypertable_schema IN :schemas AND dimension_number = 1 AND time_interval IS NOT NULL
"""

DROPPED = """
SELECT CAST(hypertable_schema AS text) AS schema, CAST(hypertable_name AS text) AS name,
       now() - CAST(config ->> 'drop_after' AS interval) AS drop_before
FROM timescaledb_information.jobs
WHERE hypertable_schema IN :schemas AND proc_name = 'policy_retention' AND config ? 'drop_after'
"""

# The times of each aggregate, below its watermark, whose rows changed since they were materialised,
# or never were. One entry holds all times between the first and the last change of a transaction.
NOTED = """
SELECT ca.mat_hypertable_id AS id, noted.lowest_modified_value AS lowest,
       noted.greatest_modified_value AS greatest
FROM _timescaledb_catalog.continuous_agg ca
JOIN _timescaledb_catalog.continuous_aggs_materialization_invalidation_log noted
    ON noted.materialization_id = ca.mat_hypertable_id
WHERE ca.user_view_schema IN :schemas
  AND noted.lowest_modified_value < _timescaledb_functions.cagg_watermark(ca.mat_hypertable_id)
"""

# What a refresh has taken up, and has left undone where it was interrupted.
INTERRUPTED = """
SELECT ca.mat_hypertable_id AS id, r.lowest_modified_value AS lowest,
       r.greatest_modified_value AS greatest
FROM _timescaledb_catalog.continuous_agg ca
JOIN _timescaledb_catalog.continuous_aggs_materialization_ranges r
    ON r.materialization_id = ca.mat_hypertable_id
WHERE ca.user_view_schema IN :schemas
"""
