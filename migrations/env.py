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

from ravenwh.app.database import database_url
from ravenwh.config import load
from ravenwh.domain.settings import Settings
from ravenwh.schema import HOME_SCHEMA, metadata_for
from ravenwh.warehouse.engine import make_engine


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
    """Print the SQL, with the schema name of the settings in it."""
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
    connection.execute(CreateSchema(schema, if_not_exists=True))
    connection.commit()
    context.configure(connection=connection, **options(schema))
    with context.begin_transaction():
        context.run_migrations()


async def connect_and_run(given: Settings) -> None:
    """Open the database of the settings, which may be the embedded one, for one run."""
    with database_url(given) as url:
        engine = make_engine(url, pooled=False)
        try:
            async with engine.connect() as connection:
                await connection.run_sync(run_online, given.timescale.schema)
        finally:
            await engine.dispose()


current = settings()
if context.is_offline_mode():
    run_offline(current.timescale.schema)
else:
    asyncio.run(connect_and_run(current))
