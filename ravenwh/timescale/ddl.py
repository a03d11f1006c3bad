"""The text of every statement, and the only place that quotes.

A :class:`Site` says where a statement goes; the functions give SQL without a final semicolon.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs
from sqlalchemy.dialects.postgresql.base import PGDialect

from ravenwh.timescale.level import Level

__all__ = ["MARK", "MARK_FALLBACK", "Site", "literal", "quoted"]

MARK = "kept by ravenwh.timescale"
"""The comment on what we made: nothing without it is ever dropped."""

MARK_FALLBACK = f"{MARK}, in place of a continuous aggregate"
"""The same on a view that is a continuous aggregate where there is TimescaleDB."""

PREPARER = PGDialect().identifier_preparer  # type: ignore[no-untyped-call]  # SQLAlchemy's


def quoted(name: str) -> str:
    """An identifier, quoted where it must be."""
    return str(PREPARER.quote(name))


def literal(value: str | None) -> str:
    """A text literal, or NULL."""
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def interval(value: str | None) -> str:
    """An interval literal, or NULL."""
    return "NULL" if value is None else f"INTERVAL {literal(value)}"


def names(columns: tuple[str, ...]) -> str:
    """A list of columns as TimescaleDB's options take it: one text literal."""
    return literal(",".join(quoted(column) for column in columns))


def true_or_false(value: bool) -> str:
    """A boolean literal."""
    return "true" if value else "false"


@attrs.frozen(kw_only=True)
class Site:
    """Where statements go: the engine level, and what the schemas of the migrations are called."""

    level: Level
    schemas: Mapping[str | None, str | None] = attrs.Factory(dict)

    def schema(self, schema: str | None) -> str | None:
        """What a schema of the migrations is called here."""
        return self.schemas.get(schema, schema)

    def relation(self, name: str, schema: str | None) -> str:
        """A table or view, qualified."""
        here = self.schema(schema)
        return quoted(name) if here is None else f"{quoted(here)}.{quoted(name)}"

    def body(self, sql: str, schema: str | None) -> str:
        """A SELECT with the schema's name in it."""
        here = self.schema(schema)
        return sql.replace("{schema}.", "" if here is None else f"{quoted(here)}.")


def create_hypertable(relation: str, *, time_column: str, chunk: str, migrate_data: bool) -> str:
    """Without TimescaleDB's own time index: the model declares the index it wants."""
    moved = ", migrate_data => true" if migrate_data else ""
    return (
        f"SELECT create_hypertable({literal(relation)}, by_range({literal(time_column)}, "
        f"{interval(chunk)}), create_default_indexes => false{moved})"
    )


def set_chunk_interval(relation: str, chunk: str) -> str:
    """For chunks to come."""
    return f"SELECT set_chunk_time_interval({literal(relation)}, {interval(chunk)})"


def set_columnstore(
    relation: str, *, segmentby: tuple[str, ...], orderby: str, aggregate: bool
) -> str:
    """Switches it on, or changes how chunks to come are stored."""
    return (
        f"ALTER {'MATERIALIZED VIEW' if aggregate else 'TABLE'} {relation} SET ("
        f"timescaledb.enable_columnstore = true, timescaledb.segmentby = {names(segmentby)}, "
        f"timescaledb.orderby = {literal(orderby)})"
    )


def rows_again(relation: str) -> str:
    """Every chunk back to rows."""
    return (
        "DO $$ DECLARE chunk regclass; BEGIN "
        f"FOR chunk IN SELECT show_chunks({literal(relation)}) LOOP "
        "CALL convert_to_rowstore(chunk, if_columnstore => true); END LOOP; END $$"
    )


def disable_columnstore(relation: str, *, aggregate: bool) -> str:
    """Refused while a chunk is still stored by column."""
    kind = "MATERIALIZED VIEW" if aggregate else "TABLE"
    return f"ALTER {kind} {relation} SET (timescaledb.enable_columnstore = false)"


def add_columnstore_policy(relation: str, *, after: str, schedule: str | None) -> str:
    """Refused where there is one: a policy is changed by removing it first."""
    every = "" if schedule is None else f", schedule_interval => {interval(schedule)}"
    return f"CALL add_columnstore_policy({literal(relation)}, after => {interval(after)}{every})"


def remove_columnstore_policy(relation: str) -> str:
    """Nothing where there is none."""
    return f"CALL remove_columnstore_policy({literal(relation)}, if_exists => true)"


def add_retention_policy(relation: str, *, drop_after: str, schedule: str | None) -> str:
    """Refused where there is one: a policy is changed by removing it first."""
    every = "" if schedule is None else f", schedule_interval => {interval(schedule)}"
    return (
        f"SELECT add_retention_policy({literal(relation)}, "
        f"drop_after => {interval(drop_after)}{every})"
    )


def remove_retention_policy(relation: str) -> str:
    """Nothing where there is none."""
    return f"SELECT remove_retention_policy({literal(relation)}, if_exists => true)"


def add_refresh_policy(relation: str, *, start: str | None, end: str | None, schedule: str) -> str:
    """Keeps an aggregate fresh between now - start and now - end."""
    return (
        f"SELECT add_continuous_aggregate_policy({literal(relation)}, "
        f"start_offset => {interval(start)}, end_offset => {interval(end)}, "
        f"schedule_interval => {interval(schedule)})"
    )


def remove_refresh_policy(relation: str) -> str:
    """Removes all refresh policies of the aggregate; nothing where there is none."""
    return f"SELECT remove_continuous_aggregate_policy({literal(relation)}, if_exists => true)"


def refresh(relation: str, start: datetime, end: datetime, *, force: bool) -> str:
    """Materialises the buckets between two times, as far as they changed; never in a transaction.

    With ``force`` those also that did not change.
    """
    window = ", ".join(f"TIMESTAMPTZ {literal(edge.isoformat())}" for edge in (start, end))
    forced = ", force => true" if force else ""
    return f"CALL refresh_continuous_aggregate({literal(relation)}, {window}{forced})"


def create_aggregate(relation: str, select: str, *, materialized_only: bool) -> list[str]:
    """Empty, as a transaction demands: `refresh` fills it, and meanwhile it reads the source."""
    return [
        f"CREATE MATERIALIZED VIEW {relation} WITH (timescaledb.continuous, "
        f"timescaledb.materialized_only = {true_or_false(materialized_only)}, "
        f"timescaledb.create_group_indexes = false) AS {select} WITH NO DATA",
        comment_on_view(relation, MARK),
    ]


def set_materialized_only(relation: str, value: bool) -> str:
    """Whether rows that are not yet materialised are left out."""
    return (
        f"ALTER MATERIALIZED VIEW {relation} SET "
        f"(timescaledb.materialized_only = {true_or_false(value)})"
    )


def create_view(relation: str, select: str, mark: str = MARK) -> list[str]:
    """A plain view with our mark."""
    return [f"CREATE VIEW {relation} AS {select}", comment_on_view(relation, mark)]


def comment_on_view(relation: str, comment: str) -> str:
    """Right for plain views and for continuous aggregates."""
    return f"COMMENT ON VIEW {relation} IS {literal(comment)}"


def distribute(relation: str, column: str | None) -> str:
    """Over the nodes of Citus by a column, or whole on every node."""
    if column is None:
        return f"SELECT create_reference_table({literal(relation)})"
    return f"SELECT create_distributed_table({literal(relation)}, {literal(column)})"


def undistribute(relation: str) -> str:
    """Back to a table of the coordinator; Citus refuses it for identity columns."""
    return f"SELECT undistribute_table({literal(relation)})"


OWNED_SEQUENCE = (
    "classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND refobjsubid > 0"
    " AND EXISTS (SELECT FROM pg_class WHERE pg_class.oid = objid AND relkind = 'S')"
)


def table_again(name: str, relation: str) -> str:
    """A hypertable back to a table: copied, then named as before, with all that hung on it.

    TimescaleDB has no way back of its own. Columns, defaults and comments come with LIKE; keys,
    checks, foreign keys, indexes, triggers, owner, grants, row security, storage parameters and
    statistics are made again from the catalog. Sequences of columns go on counting.
    """
    copy = relation.removesuffix(quoted(name)) + quoted(f"{name[:50]}__copy")
    return f"""DO $$
DECLARE
    hyper CONSTANT regclass := {literal(relation)};
    owned CONSTANT text := (SELECT relowner::regrole FROM pg_class WHERE oid = hyper);
    listed CONSTANT text := (
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = hyper AND attnum > 0 AND NOT attisdropped AND attgenerated = '');
    freed CONSTANT text[] := ARRAY(
        SELECT format('ALTER SEQUENCE %s OWNED BY NONE', objid::regclass) FROM pg_depend
        WHERE refobjid = hyper AND {OWNED_SEQUENCE} AND deptype = 'a');
    again CONSTANT text[] := ARRAY(
        WITH owning AS (
            SELECT objid::regclass AS sequence, attname, deptype FROM pg_depend
            JOIN pg_attribute ON (attrelid, attnum) = (refobjid, refobjsubid)
            WHERE refobjid = hyper AND {OWNED_SEQUENCE})
        SELECT made FROM (
            SELECT 1, format('ALTER TABLE {relation} ADD CONSTRAINT %I %s', conname,
                             pg_get_constraintdef(oid))
            FROM pg_constraint WHERE conrelid = hyper AND contype IN ('p', 'u', 'c', 'x', 'f')
            UNION ALL
            SELECT 2, pg_get_indexdef(indexrelid) FROM pg_index
            WHERE indrelid = hyper
              AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
            UNION ALL
            SELECT 3, pg_get_triggerdef(oid) FROM pg_trigger
            WHERE tgrelid = hyper AND NOT tgisinternal AND tgname NOT LIKE 'ts\\_%'
            UNION ALL
            SELECT 4, format('GRANT %s%s ON {relation} TO %s%s', privilege_type, columns,
                             CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
                             CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
            FROM (SELECT relacl, '' FROM pg_class WHERE oid = hyper
                  UNION ALL
                  SELECT attacl, format(' (%I)', attname) FROM pg_attribute
                  WHERE attrelid = hyper AND NOT attisdropped) AS given (acl, columns),
                 aclexplode(acl)
            WHERE grantee <> (SELECT relowner FROM pg_class WHERE oid = hyper)
            UNION ALL
            SELECT 5, format('COMMENT ON TABLE {relation} IS %L', obj_description(hyper))
            WHERE obj_description(hyper) IS NOT NULL
            UNION ALL
            SELECT 6, format('ALTER TABLE {relation} SET (%s)', array_to_string(reloptions, ', '))
            FROM pg_class WHERE oid = hyper AND reloptions IS NOT NULL
            UNION ALL
            SELECT 7, pg_get_statisticsobjdef(oid) FROM pg_statistic_ext WHERE stxrelid = hyper
            UNION ALL
            SELECT 8, format('CREATE POLICY %I ON {relation} AS %s FOR %s TO %s%s%s', policyname,
                             permissive, cmd, (SELECT string_agg(CASE role WHEN 'public' THEN role
                                               ELSE quote_ident(role) END, ', ')
                                               FROM unnest(roles) AS role),
                             ' USING (' || qual || ')', ' WITH CHECK (' || with_check || ')')
            FROM pg_policies WHERE format('%I.%I', schemaname, tablename)::regclass = hyper
            UNION ALL
            SELECT 9, format('ALTER TABLE {relation} %s ROW LEVEL SECURITY', word)
            FROM pg_class, unnest(ARRAY['ENABLE', 'FORCE'],
                                  ARRAY[relrowsecurity, relforcerowsecurity]) AS flags (word, is_so)
            WHERE oid = hyper AND is_so
            UNION ALL
            SELECT 10, CASE deptype
                WHEN 'a' THEN format('ALTER SEQUENCE %s OWNED BY {relation}.%I', sequence, attname)
                ELSE format('SELECT setval(pg_get_serial_sequence(%L, %L), %s)',
                            {literal(relation)}, attname, pg_sequence_last_value(sequence)) END
            FROM owning WHERE deptype = 'a' OR pg_sequence_last_value(sequence) IS NOT NULL
        ) AS parts (rank, made) ORDER BY rank, made);
    statement text;
BEGIN
    PERFORM set_config('row_security', 'off', true);  -- an error in place of rows left behind
    FOREACH statement IN ARRAY freed LOOP
        EXECUTE statement;
    END LOOP;
    CREATE TABLE {copy} (LIKE {relation} INCLUDING DEFAULTS INCLUDING IDENTITY
        INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMMENTS);
    EXECUTE format('INSERT INTO {copy} (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM {relation}',
                   listed, listed);
    DROP TABLE {relation};
    ALTER TABLE {copy} RENAME TO {quoted(name)};
    EXECUTE format('ALTER TABLE {relation} OWNER TO %s', owned);
    FOREACH statement IN ARRAY again LOOP
        EXECUTE statement;
    END LOOP;
END $$"""  # noqa: S608 - names are quoted, there are no values
