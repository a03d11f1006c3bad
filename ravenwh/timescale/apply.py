"""Bringing a database to what is declared without a migration: policies, and adoption.

Both use the comparison of autogenerate and run its operations at once, in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations
from alembic.operations import MigrateOperation, Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import DBAPIError

from ravenwh.timescale import ops
from ravenwh.timescale.ddl import Site
from ravenwh.timescale.declare import copy_metadata
from ravenwh.timescale.env import configuration, lock_name
from ravenwh.timescale.errors import LevelError, MigrationError
from ravenwh.timescale.level import Level, inspect_engine
from ravenwh.timescale.online import DEADLOCK, LOCK_NOT_AVAILABLE, alone
from ravenwh.timescale.policies import Policies
from ravenwh.timescale.read import sqlstate
from ravenwh.timescale.record import comment_for, recorded_level
from ravenwh.timescale.touched import flattened

__all__ = ["adopt", "apply_policies", "policy_differences"]

POLICIES = (
    ops.AddColumnstorePolicy,
    ops.AddRefreshPolicy,
    ops.AddRetentionPolicy,
    ops.RemoveColumnstorePolicy,
    ops.RemoveRefreshPolicy,
    ops.RemoveRetentionPolicy,
)


def adopt(
    connection: sa.Connection,
    *,
    metadata: sa.MetaData,
    schema: str | None = None,
    policies: Policies | None = None,
    version_table: str = "alembic_version",
    tell: Callable[[str], None] = lambda line: None,
    lock_timeout_s: float = 10.0,
    wait_s: float = 600.0,
) -> list[str]:
    """Bring a database that was migrated at level none over to TimescaleDB that is there now.

    Tables become hypertables, their rows move into chunks (under a lock, as long as that takes),
    plain views become continuous aggregates, and policies are added. All or nothing; what was done
    is given back, one operation a line, and nothing where the database is at level community. The
    aggregates are empty, and right until their policies first run and hide what is older: refresh
    them at once. ``connection`` must not be in a
    transaction; a table is waited for during ``lock_timeout_s``. Raises LevelError where
    TimescaleDB is not there, MigrationError where a table is in use, or where the tables themselves
    differ from the models: upgrade first.
    """
    schema = metadata.schema if schema is None else schema
    with alone(connection, lock_name(schema, version_table), wait_s=wait_s, tell=tell):
        try:
            connection.execute(
                sa.text("SELECT set_config('lock_timeout', :value, true)"),
                {"value": f"{lock_timeout_s * 1000:.0f}"},
            )
            done = adopted(connection, metadata, schema, policies, version_table, tell)
        except DBAPIError as error:
            connection.rollback()
            if sqlstate(error) not in (LOCK_NOT_AVAILABLE, DEADLOCK):
                raise
            raise MigrationError(
                f"a table is in use, no lock within {lock_timeout_s:g} s: nothing was changed; see "
                "pg_stat_activity for who holds it, and adopt again when it has ended"
            ) from error
        except BaseException:
            connection.rollback()
            raise
        connection.commit()
        return done


def adopted(
    connection: sa.Connection,
    metadata: sa.MetaData,
    schema: str | None,
    policies: Policies | None,
    version_table: str,
    tell: Callable[[str], None],
) -> list[str]:
    """The same within one transaction."""
    engine = inspect_engine(connection)
    if engine.timescaledb is None and engine.timescaledb_creatable and not engine.citus:
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS timescaledb")
        engine = inspect_engine(connection)
    if engine.level is not Level.COMMUNITY:
        raise LevelError(f"nothing to adopt: {engine.missing()}")
    made_at = recorded_level(connection, schema, version_table)
    if made_at is None:
        raise MigrationError(
            "nothing to adopt: this database was never migrated; run `alembic upgrade head`"
        )
    if made_at is Level.COMMUNITY:
        return []
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    found, context = differences(connection, metadata, schema, policies, version_table)
    ours = [op for op in found if isinstance(op, ops.TimescaleOp)]
    if len(ours) < len(found):
        others = sorted({type(op).__name__ for op in found if not isinstance(op, ops.TimescaleOp)})
        raise MigrationError(
            "the tables are not those of the models: run `alembic upgrade head` first; differs: "
            + ", ".join(others)
        )
    done = invoke(context, ours, tell)
    if policies:  # what is made is made as declared
        found, context = differences(connection, metadata, schema, policies, version_table)
        done += invoke(context, only_policies(found), tell)
    connection.exec_driver_sql(comment_for(schema, version_table, Level.COMMUNITY))
    return done


def policy_differences(
    connection: sa.Connection,
    *,
    metadata: sa.MetaData,
    schema: str | None = None,
    policies: Policies | None = None,
    version_table: str = "alembic_version",
) -> list[ops.TimescaleOp]:
    """The operations that would bring the policies to what is declared, with the times given."""
    schema = metadata.schema if schema is None else schema
    found, _ = differences(connection, metadata, schema, policies, version_table)
    return only_policies(found)


def apply_policies(
    connection: sa.Connection,
    *,
    metadata: sa.MetaData,
    schema: str | None = None,
    policies: Policies | None = None,
    version_table: str = "alembic_version",
    tell: Callable[[str], None] = lambda line: None,
    wait_s: float = 600.0,
) -> list[str]:
    """Write the times of policies: those declared, or those given instead. One line for each.

    Only jobs are changed, in one transaction; where there is no TimescaleDB there is nothing to do.
    ``connection`` must not be in a transaction; whoever migrates or does the same is waited for.
    """
    schema = metadata.schema if schema is None else schema
    with alone(connection, lock_name(schema, version_table), wait_s=wait_s, tell=tell):
        found, context = differences(connection, metadata, schema, policies, version_table)
        done = invoke(context, only_policies(found), tell)
        connection.commit()
        return done


def only_policies(found: Iterable[MigrateOperation]) -> list[ops.TimescaleOp]:
    """The policies of what is there; those of tables and aggregates to come wait for these."""
    listed = list(found)
    to_come = {
        (op.schema, op.name)
        for op in listed
        if isinstance(op, ops.CreateHypertable | ops.CreateContinuousAggregate)
    }
    to_go = {
        (op.schema, op.name)
        for op in listed
        if isinstance(op, ops.DropHypertable | ops.DropContinuousAggregate | ops.DropPlainView)
    }
    stored = {(op.schema, op.name) for op in listed if isinstance(op, ops.EnableColumnstore)}
    return [
        op
        for op in listed
        if isinstance(op, POLICIES)
        and (op.schema, op.name) not in to_come | to_go
        and not (isinstance(op, ops.AddColumnstorePolicy) and (op.schema, op.name) in stored)
    ]


def differences(
    connection: sa.Connection,
    metadata: sa.MetaData,
    schema: str | None,
    policies: Policies | None,
    version_table: str,
) -> tuple[list[MigrateOperation], MigrationContext]:
    """Everything that autogenerate finds, in order."""
    models = metadata if schema == metadata.schema else copy_metadata(metadata, schema)
    options: dict[str, Any] = configuration(schema, version_table, (), {})
    level = inspect_engine(connection).level
    context = MigrationContext.configure(
        connection,
        opts={
            **options,
            "target_metadata": models,
            "timescale_site": Site(level=level),
            "timescale_policies": policies or {},
        },
    )
    script = produce_migrations(context, models)
    return list(flattened(script.upgrade_ops.ops if script.upgrade_ops else [])), context


def invoke(
    context: MigrationContext, found: Iterable[ops.TimescaleOp], tell: Callable[[str], None]
) -> list[str]:
    """Run operations; each is told in a line."""
    operations, done = Operations(context), []
    for op in found:
        line = f"{op.operation} {op.name}"
        if given := ", ".join(f"{k}={v}" for k, v in op.arguments().items() if k not in SELECTS):
            line += f": {given}"
        tell(line)
        operations.invoke(op)
        done.append(line)
    return done


SELECTS = ("definition", "fallback", "together", "aggregate")
