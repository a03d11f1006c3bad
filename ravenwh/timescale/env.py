"""The whole of a user's ``env.py``, in one function.

::

    from alembic import context
    from ravenwh.timescale import env
    from mymodels import Base

    env.run(context, metadata=Base.metadata, url="postgresql+asyncpg://...")

It looks only at the schema of the models, tells Alembic which of them are views, makes the schema
and (where the role may) the extension, runs each migration in a transaction of its own that waits
only shortly for locks and is tried again, lets one process migrate at a time, and prints SQL for a
stated engine: ``alembic -x engine=community upgrade head --sql``.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import sqlalchemy as sa
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.plugins import Plugin
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from ravenwh.timescale import plugin, render
from ravenwh.timescale.declare import copy_metadata
from ravenwh.timescale.errors import LevelError, TimescaleError
from ravenwh.timescale.offline import print_sql
from ravenwh.timescale.online import migrate

__all__ = ["Run", "configuration", "lock_name", "run"]

SCHEMA_NAME = re.compile(r"(?!public$|pg_|_timescaledb|timescaledb_|citus)[a-z_][a-z0-9_]{0,40}")


@attrs.frozen(kw_only=True)
class Run:
    """What one run of Alembic is to do; the times are in seconds."""

    metadata: sa.MetaData
    home: str | None
    schema: str | None
    engine: str
    policies: Mapping[str, Mapping[str, str | None]]
    version_table: str
    tell: Callable[[str], None]
    lock_timeout_s: float
    lock_tries: int
    statement_timeout_s: float
    wait_s: float
    configure: Mapping[str, Any]

    @property
    def schemas(self) -> dict[str | None, str | None]:
        """What the schema of the migrations is called in the database."""
        return {} if self.schema == self.home else {self.home: self.schema}

    @property
    def lock_name(self) -> str:
        """What processes that migrate the same schema have in common."""
        return lock_name(self.schema, self.version_table)


def run(
    context: Any,
    *,
    metadata: sa.MetaData,
    url: str | sa.URL | None = None,
    connection: sa.Connection | None = None,
    schema: str | None = None,
    engine: str = "auto",
    policies: Mapping[str, Mapping[str, str | None]] | None = None,
    version_table: str = "alembic_version",
    plugins: Sequence[str] = (),
    tell: Callable[[str], None] | None = None,
    lock_timeout_s: float = 1.0,
    lock_tries: int = 60,
    statement_timeout_s: float = 3600.0,
    wait_s: float = 600.0,
    **configure: Any,
) -> None:
    """Run what Alembic was asked for, on ``connection`` or on a new one to ``url``.

    ``metadata``: the models, in the schema that the migrations are written for. ``schema``: what
    that schema is called in this database. ``engine``: auto, community, none or citus; ``-x
    engine=`` goes before it. ``policies``: other times than declared (:func:`with_policies`), which
    the comparison takes into account. ``url`` may name an async driver. ``connection`` must not be
    in a transaction. ``plugins`` are further ones for autogenerate. ``tell`` gets one line for the
    user now and then; without it they go to stderr. ``lock_timeout_s`` is how long a statement may
    wait for a lock, and so how long writers may have to wait for it; such a migration is tried
    ``lock_tries`` times. ``wait_s`` bounds the wait for another process that migrates. Anything
    else goes to ``context.configure``. Raises CommandError with one line.
    """
    schema = metadata.schema if schema is None else schema
    try:
        if schema is not None and not SCHEMA_NAME.fullmatch(schema):
            raise LevelError(
                f"the schema name {schema!r} is not allowed: lower-case letters, digits and _, at "
                "most 41, and not one of PostgreSQL's or TimescaleDB's own"
            )
        stated = context.get_x_argument(as_dictionary=True).get("engine") or engine
        this = Run(
            metadata=metadata if schema == metadata.schema else copy_metadata(metadata, schema),
            home=metadata.schema,
            schema=schema,
            engine=stated,
            policies=policies or {},
            version_table=version_table,
            tell=tell or tell_on_stderr,
            lock_timeout_s=lock_timeout_s,
            lock_tries=lock_tries,
            statement_timeout_s=statement_timeout_s,
            wait_s=wait_s,
            configure=configuration(schema, version_table, plugins, configure),
        )
        if context.is_offline_mode():
            print_sql(context, this)
        elif connection is not None:
            migrate(context, this, connection)
        elif url is not None:
            connect_and_migrate(context, this, sa.make_url(url))
        else:
            raise LevelError("env.run needs a url or a connection")
    except TimescaleError as error:
        raise CommandError(str(error)) from error


def lock_name(schema: str | None, version_table: str) -> str:
    """The name under which one process at a time migrates."""
    return f"alembic {schema}.{version_table}"


def tell_on_stderr(line: str) -> None:
    """One line for the user, kept apart from SQL on stdout."""
    sys.stderr.write(f"{line}\n")


def configuration(
    schema: str | None, version_table: str, plugins: Sequence[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of ``context.configure`` that every run has."""
    with contextlib.suppress(ValueError):  # loaded by its entry point already
        Plugin.setup_plugin_from_module(plugin, plugin.NAME)
    user_name, user_object = given.get("include_name"), given.get("include_object")

    def include_name(name: str | None, type_: str, parents: Any) -> bool:
        if type_ == "schema" and name != schema:
            return False
        return user_name is None or bool(user_name(name, type_, parents))

    def include_object(
        item: Any, name: str | None, type_: str, reflected: bool, other: Any
    ) -> bool:
        if type_ == "table" and not reflected and item.is_view:
            return False
        return user_object is None or bool(user_object(item, name, type_, reflected, other))

    return {
        "include_schemas": True,
        "version_table": version_table,
        "version_table_schema": schema,
        "transaction_per_migration": True,
        "autogenerate_plugins": ["alembic.autogenerate.*", plugin.NAME, *plugins],
        **given,
        "include_name": include_name,
        "include_object": include_object,
    }


def connect_and_migrate(context: EnvironmentContext, this: Run, url: sa.URL) -> None:
    """On a connection of its own, whose search_path is fixed: facts of a role do not matter."""
    settings = {"search_path": "public", "TimeZone": "UTC", "application_name": "alembic"}
    if url.get_dialect().is_async:

        async def connect() -> None:
            engine = create_async_engine(
                url, poolclass=NullPool, connect_args={"server_settings": settings}
            )
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(lambda sync: migrate(context, this, sync))
            finally:
                await engine.dispose()

        asyncio.run(connect())
        return
    options = " ".join(f"-c{name}={value}" for name, value in settings.items())
    engine = sa.create_engine(url, poolclass=NullPool, connect_args={"options": options})
    with engine.connect() as connection:
        migrate(context, this, connection)


_ = render  # imported for what it registers
