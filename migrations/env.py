"""How Alembic reaches the mart: the database and the schema name of ravenwh's settings.

``alembic -x config=FILE`` names the settings file; a program passes the settings themselves as
``config.attributes["settings"]``. Migrations are written for the schema ``mart`` and translated
where the settings give another name.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import context
from sqlalchemy.schema import CreateSchema

from ravenwh.app.database import engine_of
from ravenwh.config import load
from ravenwh.domain.errors import Refused
from ravenwh.domain.settings import Settings
from ravenwh.schema import HOME_SCHEMA, metadata_for


def settings() -> Settings:
    """What the caller passed, or what the settings file and the environment say."""
    given = context.config.attributes.get("settings")
    if given is not None:
        return given
    file = context.get_x_argument(as_dictionary=True).get("config")
    return load(Path(file) if file else None)


def options(schema: str) -> dict[str, Any]:
    """What online and offline runs share: only our schema is looked at, and all of it."""

    def include_name(name: str | None, type_: str, _parents: object) -> bool:
        return name == schema if type_ == "schema" else True

    return {
        "target_metadata": metadata_for(schema),
        "include_schemas": True,
        "include_name": include_name,
        "version_table_schema": schema,
        "transaction_per_migration": True,
    }


def run_offline(schema: str) -> None:
    """Print the SQL. Raises Refused for another schema name than that of the migrations."""
    if schema != HOME_SCHEMA:
        raise Refused(
            f'--sql prints the schema name "{HOME_SCHEMA}"; the settings say "{schema}": print it '
            f'with timescale.schema = "{HOME_SCHEMA}" and replace the name, or migrate online'
        )
    context.configure(
        dialect_name="postgresql",
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        **options(schema),
    )
    with context.begin_transaction():
        context.execute(CreateSchema(schema, if_not_exists=True))
        context.run_migrations()


def run_online(connection: sa.Connection, schema: str) -> None:
    """Migrate; the schema must be there, and committed, before the version table."""
    if schema != HOME_SCHEMA:
        connection = connection.execution_options(schema_translate_map={HOME_SCHEMA: schema})
    if not connection.scalar(sa.select(sa.func.to_regnamespace(f'"{schema}"').is_not(None))):
        connection.execute(CreateSchema(schema, if_not_exists=True))
    connection.commit()
    context.configure(connection=connection, **options(schema))
    with context.begin_transaction():
        context.run_migrations()


async def connect_and_run(given: Settings) -> None:
    """Open the database of the settings, which may be the embedded one, for one run."""
    async with (
        engine_of(given, schema=HOME_SCHEMA, pooled=False, statement_s=None) as engine,
        engine.connect() as connection,
    ):
        await connection.run_sync(run_online, given.timescale.schema)


current = settings()
if context.is_offline_mode():
    run_offline(current.timescale.schema)
else:
    asyncio.run(connect_and_run(current))
