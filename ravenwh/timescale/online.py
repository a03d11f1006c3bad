"""Migrating on a connection: alone, with short locks, at a level that is recorded."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic.runtime.environment import EnvironmentContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

from ravenwh.timescale.ddl import Site
from ravenwh.timescale.errors import LevelError, MigrationError
from ravenwh.timescale.home import alter_elsewhere, written_for
from ravenwh.timescale.level import Engine, Level, inspect_engine, required_level
from ravenwh.timescale.read import sqlstate
from ravenwh.timescale.record import recorded_level, recording

if TYPE_CHECKING:
    from ravenwh.timescale.env import Run

__all__ = ["alone", "migrate", "session_for"]

LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK = "40P01"
QUERY_CANCELED = "57014"


def migrate(context: EnvironmentContext, run: Run, connection: sa.Connection) -> None:
    """What Alembic was asked for: upgrade, downgrade, stamp, or a comparison."""
    if run.schemas:
        connection = connection.execution_options(schema_translate_map=run.schemas)
    session_for(connection, run)
    if not is_migrating(context):
        once(context, run, connection, level_to_compare_at(connection, run))
        return
    with alone(connection, run.lock_name, wait_s=run.wait_s, tell=run.tell):
        level = prepared(connection, run)
        for attempt in range(1, run.lock_tries + 1):
            try:
                once(context, run, connection, level)
            except DBAPIError as error:
                connection.rollback()
                if sqlstate(error) == QUERY_CANCELED:
                    raise MigrationError(
                        f"a statement took longer than statement_timeout_s = "
                        f"{run.statement_timeout_s:g}: {error.orig}"
                    ) from error
                if sqlstate(error) not in (LOCK_NOT_AVAILABLE, DEADLOCK):
                    raise
                if attempt == run.lock_tries:
                    raise MigrationError(
                        f"no lock within {run.lock_timeout_s:g} s, {attempt} times: "
                        "something holds the tables; see pg_stat_activity, or raise lock_tries"
                    ) from error
                run.tell(
                    f"a table is in use, no lock within {run.lock_timeout_s:g} s: trying again "
                    f"({attempt} of {run.lock_tries - 1})"
                )
                time.sleep(random.uniform(0.5, 1.5) * run.lock_timeout_s)  # noqa: S311 - no secret
            else:
                return


def is_migrating(context: EnvironmentContext) -> bool:
    """Whether revisions are to be applied or stamped, and not only compared or shown."""
    try:
        context.get_revision_argument()
    except KeyError:  # the command has no revision to go to
        return False
    return True


def session_for(connection: sa.Connection, run: Run) -> None:
    """Fix what a role's own settings could change. Raises LevelError for a schema in the way."""
    if run.schema is not None and connection.dialect.default_schema_name == run.schema:
        raise LevelError(
            f"the search_path of this connection begins with {run.schema!r}, which hides the "
            "schema's name from every comparison: connect with search_path = public"
        )
    for name, value in {
        "search_path": "public",
        "timezone": "UTC",
        "lock_timeout": f"{run.lock_timeout_s * 1000:.0f}",
        "statement_timeout": f"{run.statement_timeout_s * 1000:.0f}",
    }.items():
        connection.execute(
            sa.text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value}
        )
    connection.commit()


@contextmanager
def alone(
    connection: sa.Connection, name: str, *, wait_s: float, tell: Callable[[str], None]
) -> Iterator[None]:
    """One process at a time works under a name. Raises MigrationError after ``wait_s`` seconds."""
    deadline, told = time.monotonic() + wait_s, False
    take = sa.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
    while not connection.scalar(take, {"name": name}):
        connection.rollback()
        if time.monotonic() > deadline:
            raise MigrationError(f"another process has been migrating for {wait_s:g} s")
        if not told:
            tell("another process is migrating: waiting for it")
            told = True
        time.sleep(0.2)
    connection.commit()
    try:
        yield
    finally:
        if not connection.invalidated and not connection.closed:
            connection.rollback()
            give = sa.text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))")
            connection.execute(give, {"name": name})
            connection.commit()


def ensure_schema(connection: sa.Connection, run: Run) -> None:
    """Make the schema, committed: Alembic's version table is made in it before anything else."""
    there = connection.scalar(sa.text("SELECT to_regnamespace(:name)"), {"name": run.schema})
    if run.schema is not None and there is None:
        connection.execute(CreateSchema(run.schema, if_not_exists=True))
    connection.commit()


def level_to_compare_at(connection: sa.Connection, run: Run) -> Level:
    """The level of a comparison, which makes no extension: an empty database is at level none."""
    engine = inspect_engine(connection)
    made_at = recorded_level(connection, run.schema, run.version_table)
    connection.rollback()
    to_come = engine.timescaledb_creatable and not engine.timescaledb
    if run.engine == Level.COMMUNITY and made_at is None and to_come:
        return Level.NONE
    return required_level(run.engine, engine, made_at)


def prepared(connection: sa.Connection, run: Run) -> Level:
    """Make the extension, and tell the level once. Raises LevelError."""
    made_at = recorded_level(connection, run.schema, run.version_table)
    engine = with_extension(connection, run, inspect_engine(connection), made_at)
    level = required_level(run.engine, engine, made_at)
    run.tell(told(engine, level, run.engine))
    connection.commit()
    return level


def with_extension(
    connection: sa.Connection, run: Run, engine: Engine, made_at: Level | None
) -> Engine:
    """The engine, after creating TimescaleDB where it is wanted and this role may do so."""
    wanted = run.engine in ("auto", Level.COMMUNITY) and made_at in (None, Level.COMMUNITY)
    if (
        not wanted
        or engine.timescaledb
        or engine.citus
        or not engine.timescaledb_creatable
        or (run.engine == "auto" and engine.timescaledb_license != "timescale")
    ):
        return engine
    connection.exec_driver_sql("SET LOCAL client_min_messages = warning")
    connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS timescaledb")
    connection.commit()
    return inspect_engine(connection)


def told(engine: Engine, level: Level, stated: str) -> str:
    """The line about the level."""
    if level is Level.NONE and stated == Level.NONE:
        return f"working at level none, as stated; the server has {engine}"
    if level is Level.NONE and engine.level is Level.COMMUNITY:
        return (
            "working at level none, at which this database was migrated; TimescaleDB "
            f"{engine.timescaledb} is here now: bring the database over with "
            "`ravenwh timescale adopt`"
        )
    if level is Level.NONE and stated == "auto":
        return (
            f"working at {engine}: no hypertables, rollups are plain views, no policies; "
            f"{engine.missing()}"
        )
    return f"working at {engine}"


def once(context: EnvironmentContext, run: Run, connection: sa.Connection, level: Level) -> None:
    """One run of Alembic on the connection."""
    configure: dict[str, Any] = {
        **run.configure,
        "on_version_apply": recording(run.configure.get("on_version_apply"), level),
    }
    if run.schemas:
        configure["process_revision_directives"] = written_for(
            run.home, run.schema, configure.get("process_revision_directives")
        )
    context.configure(
        connection=connection,
        target_metadata=run.metadata,
        timescale_site=Site(level=level, schemas=run.schemas),
        timescale_policies=run.policies,
        **configure,
    )
    migration = context.get_context()
    alter_elsewhere(migration.impl, run.schemas)
    if not migration.opts.get("dont_mutate"):  # Alembic's own word for `current`
        ensure_schema(connection, run)
    with context.begin_transaction():
        context.run_migrations()
