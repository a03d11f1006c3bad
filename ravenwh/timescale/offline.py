"""``--sql``: the same migrations as a script, for a stated engine and any schema name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from alembic.runtime.environment import EnvironmentContext
from sqlalchemy.schema import CreateSchema

from ravenwh.timescale.ddl import Site
from ravenwh.timescale.errors import LevelError
from ravenwh.timescale.home import alter_elsewhere
from ravenwh.timescale.level import Level
from ravenwh.timescale.ops.base import as_it_is
from ravenwh.timescale.record import recording

if TYPE_CHECKING:
    from ravenwh.timescale.env import Run

__all__ = ["print_sql"]


def print_sql(context: EnvironmentContext, run: Run) -> None:
    """Print the SQL of the revisions. Raises LevelError where no engine is stated."""
    if run.engine not in tuple(Level):
        raise LevelError(
            "--sql asks no server for its level, so it must be stated: say alembic -x "
            "engine=community (or none, or citus) upgrade head --sql"
        )
    level = Level(run.engine)
    configure: dict[str, Any] = {
        **run.configure,
        "on_version_apply": recording(run.configure.get("on_version_apply"), level),
    }
    context.configure(
        dialect_name="postgresql",
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        target_metadata=run.metadata,
        timescale_site=Site(level=level, schemas=run.schemas),
        **configure,
    )
    migration = context.get_context()
    if run.schemas:
        translate(migration.dialect, run.schemas)
        alter_elsewhere(migration.impl, run.schemas)
    with context.begin_transaction():
        if level is Level.COMMUNITY:
            context.execute(as_it_is("CREATE EXTENSION IF NOT EXISTS timescaledb"))
        if level is Level.CITUS:
            context.execute(as_it_is("CREATE EXTENSION IF NOT EXISTS citus"))
        if run.schema is not None:
            context.execute(CreateSchema(run.schema, if_not_exists=True))
        context.run_migrations()


def translate(dialect: Any, schemas: dict[str | None, str | None]) -> None:
    """Let everything that this dialect compiles name the schemas as the database does."""
    names = {"schema_translate_map": schemas, "render_schema_translate": True}
    dialect.ddl_compiler = partial(dialect.ddl_compiler, **names)
    dialect.statement_compiler = partial(dialect.statement_compiler, **names)
