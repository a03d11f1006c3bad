"""Every operation without a database: its SQL on each level, its reverse, its text in a file."""

from __future__ import annotations

import io
from typing import Any

import pytest
from alembic import autogenerate
from alembic.operations import Operations
from alembic.operations.ops import UpgradeOps
from alembic.runtime.migration import MigrationContext

import ravenwh.timescale.render
from ravenwh.timescale import LevelError, MigrationError, ops
from ravenwh.timescale.ddl import Site
from ravenwh.timescale.level import Level

assert ravenwh.timescale.render  # it registers how operations are written

AT: dict[str, Any] = {"name": "fact", "schema": "mart"}
SELECT = (
    "SELECT time_bucket(INTERVAL '1 hour', k.t) AS t, count(*) FROM {schema}.fact AS k GROUP BY 1"
)
PLAIN = "SELECT date_trunc('hour', k.t, 'UTC') AS t, count(*) FROM {schema}.fact AS k GROUP BY 1"
STORE: dict[str, Any] = {"segmentby": ("coin_id", "Quote"), "orderby": "t DESC"}

OPS: list[tuple[ops.TimescaleOp, list[str]]] = [
    (
        ops.CreateHypertable(**AT, time_column="t", chunk_interval="7 days", together=True),
        [
            "SELECT create_hypertable('mart.fact', by_range('t', INTERVAL '7 days'),"
            " create_default_indexes => false)"
        ],
    ),
    (
        ops.CreateHypertable(**AT, time_column="t", chunk_interval="7 days"),
        [
            "SELECT create_hypertable('mart.fact', by_range('t', INTERVAL '7 days'),"
            " create_default_indexes => false, migrate_data => true)"
        ],
    ),
    (ops.DropHypertable(**AT, time_column="t", chunk_interval="7 days", together=True), []),
    (
        ops.SetChunkInterval(**AT, interval="1 day", old="7 days"),
        ["SELECT set_chunk_time_interval('mart.fact', INTERVAL '1 day')"],
    ),
    (
        ops.EnableColumnstore(**AT, **STORE),
        [
            "ALTER TABLE mart.fact SET (timescaledb.enable_columnstore = true,"
            " timescaledb.segmentby = 'coin_id,\"Quote\"', timescaledb.orderby = 't DESC')"
        ],
    ),
    (
        ops.EnableColumnstore(**AT, **STORE, aggregate=True, together=True),
        [
            "ALTER MATERIALIZED VIEW mart.fact SET (timescaledb.enable_columnstore = true,"
            " timescaledb.segmentby = 'coin_id,\"Quote\"', timescaledb.orderby = 't DESC')"
        ],
    ),
    (
        ops.DisableColumnstore(**AT, **STORE),
        [
            "DO $$ DECLARE chunk regclass; BEGIN FOR chunk IN SELECT show_chunks('mart.fact') LOOP"
            " CALL convert_to_rowstore(chunk, if_columnstore => true); END LOOP; END $$",
            "ALTER TABLE mart.fact SET (timescaledb.enable_columnstore = false)",
        ],
    ),
    (ops.DisableColumnstore(**AT, **STORE, together=True), []),
    (
        ops.SetColumnstore(
            **AT, segmentby=("a",), orderby="t", old_segmentby=("b",), old_orderby="t DESC"
        ),
        [
            "ALTER TABLE mart.fact SET (timescaledb.enable_columnstore = true,"
            " timescaledb.segmentby = 'a', timescaledb.orderby = 't')"
        ],
    ),
    (
        ops.AddColumnstorePolicy(**AT, after="14 days"),
        ["CALL add_columnstore_policy('mart.fact', after => INTERVAL '14 days')"],
    ),
    (
        ops.AddColumnstorePolicy(**AT, after="14 days", schedule="1 hour"),
        [
            "CALL add_columnstore_policy('mart.fact', after => INTERVAL '14 days',"
            " schedule_interval => INTERVAL '1 hour')"
        ],
    ),
    (
        ops.RemoveColumnstorePolicy(**AT, after="14 days"),
        ["CALL remove_columnstore_policy('mart.fact', if_exists => true)"],
    ),
    (
        ops.AddRetentionPolicy(**AT, drop_after="1 year"),
        ["SELECT add_retention_policy('mart.fact', drop_after => INTERVAL '1 year')"],
    ),
    (
        ops.RemoveRetentionPolicy(**AT, drop_after="1 year"),
        ["SELECT remove_retention_policy('mart.fact', if_exists => true)"],
    ),
    (
        ops.CreateContinuousAggregate(**AT, definition=SELECT, fallback=PLAIN),
        [
            "CREATE MATERIALIZED VIEW mart.fact WITH (timescaledb.continuous,"
            " timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS"
            f" {SELECT.replace('{schema}', 'mart')} WITH NO DATA",
            "COMMENT ON VIEW mart.fact IS 'kept by ravenwh.timescale'",
        ],
    ),
    (
        ops.DropContinuousAggregate(**AT, definition=SELECT, fallback=PLAIN),
        ["DROP MATERIALIZED VIEW mart.fact"],
    ),
    (
        ops.SetMaterializedOnly(**AT, value=True),
        ["ALTER MATERIALIZED VIEW mart.fact SET (timescaledb.materialized_only = true)"],
    ),
    (
        ops.AddRefreshPolicy(**AT, start="1 day", end="00:05:00", schedule="1 minute"),
        [
            "SELECT add_continuous_aggregate_policy('mart.fact', start_offset => INTERVAL '1 day',"
            " end_offset => INTERVAL '00:05:00', schedule_interval => INTERVAL '1 minute')"
        ],
    ),
    (
        ops.RemoveRefreshPolicy(**AT, start=None, end="1 hour", schedule="1 hour"),
        ["SELECT remove_continuous_aggregate_policy('mart.fact', if_exists => true)"],
    ),
    (
        ops.CreatePlainView(**AT, definition="SELECT '50 %  off' AS sale, 12::text"),
        [
            "CREATE VIEW mart.fact AS SELECT '50 %  off' AS sale, 12::text",
            "COMMENT ON VIEW mart.fact IS 'kept by ravenwh.timescale'",
        ],
    ),
    (ops.DropPlainView(**AT, definition="SELECT 1"), ["DROP VIEW mart.fact"]),
    (ops.DistributeTable(**AT, column="coin_id"), []),
    (ops.UndistributeTable(**AT, column="coin_id"), []),
]
BACK = ops.DropHypertable(**AT, time_column="t", chunk_interval="7 days")
every_op = pytest.mark.parametrize(
    ("op", "expected"), OPS, ids=[f"{op.operation}-{n}" for n, (op, _) in enumerate(OPS)]
)


def site(level: Level = Level.COMMUNITY, schema: str = "mart") -> Site:
    return Site(level=level, schemas={"mart": schema})


@every_op
def test_the_sql_with_timescaledb(op: ops.TimescaleOp, expected: list[str]) -> None:
    assert op.statements(site()) == expected


@every_op
def test_the_sql_without_timescaledb(op: ops.TimescaleOp, expected: list[str]) -> None:
    """Only views, no word of TimescaleDB; and on Citus where tables are."""
    for level in (Level.NONE, Level.CITUS):
        found = " ".join(op.statements(site(level)))
        assert "timescaledb." not in found.replace("ravenwh.timescale", "")
        assert "MATERIALIZED" not in found
        assert bool(found) is (
            isinstance(
                op,
                ops.CreateContinuousAggregate
                | ops.DropContinuousAggregate
                | ops.CreatePlainView
                | ops.DropPlainView,
            )
            or (
                isinstance(op, ops.DistributeTable | ops.UndistributeTable) and level is Level.CITUS
            )
        )


def test_the_sql_on_citus() -> None:
    assert ops.DistributeTable(**AT, column="coin_id").statements(site(Level.CITUS)) == [
        "SELECT create_distributed_table('mart.fact', 'coin_id')"
    ]
    assert ops.DistributeTable(**AT).statements(site(Level.CITUS)) == [
        "SELECT create_reference_table('mart.fact')"
    ]


@every_op
def test_another_schema_name(op: ops.TimescaleOp, expected: list[str]) -> None:
    there = op.statements(site(schema="Wh"))
    assert there == [text.replace("mart.fact", '"Wh".fact') for text in expected]


@every_op
def test_reverse_of_reverse_is_the_same(op: ops.TimescaleOp, expected: list[str]) -> None:
    assert op.reverse().reverse() == op
    assert op.reverse() != op


@every_op
def test_what_is_written_into_a_file_makes_the_same(
    op: ops.TimescaleOp, expected: list[str]
) -> None:
    context = MigrationContext.configure(dialect_name="postgresql")
    text = autogenerate.render_python_code(UpgradeOps([op]), migration_context=context)
    made: list[Any] = []
    recorder = Operations(context)
    recorder.invoke = made.append  # type: ignore[method-assign]  # so that nothing runs
    exec(f"def upgrade():\n    {text}\nupgrade()", {"op": recorder})  # noqa: S102 - it is ours
    assert made == [op]
    again = autogenerate.render_python_code(UpgradeOps(made), migration_context=context)
    assert again == text


@every_op
@pytest.mark.parametrize("dialect", [{}, {"paramstyle": "named"}])
def test_printed_as_it_is(
    op: ops.TimescaleOp, expected: list[str], dialect: dict[str, str]
) -> None:
    """Nothing between the statement and the script touches colons or per cent signs."""
    out = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},
        opts={"as_sql": True, "output_buffer": out, "timescale_site": site(), **dialect},
    )
    Operations(context).invoke(op)
    assert out.getvalue() == "".join(f"{text};\n\n" for text in expected)


@every_op
def test_the_difference_names_operation_and_object(
    op: ops.TimescaleOp, expected: list[str]
) -> None:
    name, schema, table, values = op.to_diff_tuple()
    assert (name, schema, table) == (op.operation, "mart", "fact")
    assert dict(values) == op.arguments()


def test_the_way_back_copies_and_keeps_names() -> None:
    (text,) = BACK.statements(site())
    assert "CREATE TABLE mart.fact__copy (LIKE mart.fact" in text
    assert "RENAME TO fact" in text


def test_a_text_that_a_level_needs_and_nobody_wrote() -> None:
    op = ops.CreateContinuousAggregate(**AT, fallback=PLAIN)
    with pytest.raises(MigrationError, match="has no definition, which level community needs"):
        op.statements(site())
    assert op.statements(site(Level.NONE))


def test_printing_without_a_stated_engine_is_refused() -> None:
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True})
    with pytest.raises(LevelError, match="--sql cannot ask the server"):
        Operations(context).invoke(BACK)


def test_data_loss_stands_above_the_drop_only() -> None:
    context = MigrationContext.configure(dialect_name="postgresql")
    made = ops.CreateContinuousAggregate(**AT, definition=SELECT, fallback=PLAIN, loss="all of it")

    def text(op: ops.TimescaleOp) -> str:
        return autogenerate.render_python_code(UpgradeOps([op]), migration_context=context)

    assert "DATA LOSS" not in text(made)
    assert "# DATA LOSS: all of it\n" in text(made.reverse())
