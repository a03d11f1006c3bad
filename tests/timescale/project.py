"""A user's project with Alembic: a folder of migrations whose env.py is three lines."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import attrs
import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

from ravenwh.timescale import declarations_of
from tests.engines.fixtures import EngineDatabase
from tests.timescale.models import HOME

ENV = """
from alembic import context
from ravenwh.timescale import env

env.run(context, **context.config.attributes["run"])
"""

MAKO = '''"""${message}"""
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
'''


DIALECT = PGDialect()


@attrs.frozen(kw_only=True)
class Place:
    """A database to migrate, and the schema there that is the test's own."""

    url: str
    level: str
    schema: str = HOME

    @classmethod
    def on(cls, database: EngineDatabase) -> Self:
        """The database of an engine, as the tests here take it."""
        return cls(url=database.url, level=database.level)

    def stop_jobs(self) -> None:
        """No policy runs by itself from now on: it would change what a test compares."""
        self.rows("SELECT _timescaledb_functions.stop_background_workers()")

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """For looking, and for changes by hand."""
        libpq = sa.make_url(self.url).set(drivername="postgresql")
        return psycopg.connect(libpq.render_as_string(hide_password=False), autocommit=True)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives; ``{s}`` is the schema."""
        return self.answers({"": query})[""]

    def answers(self, queries: Mapping[str, str]) -> dict[str, list[tuple[Any, ...]]]:
        """What several give, by their names, on one connection: a new one loads TimescaleDB."""
        found = {}
        with self.connect() as connection:
            for name, query in queries.items():
                cursor = connection.execute(query.replace("{s}", self.schema))  # type: ignore[arg-type]
                found[name] = list(cursor.fetchall()) if cursor.description else []
        return found


@contextmanager
def connected(place: Place, **connect: Any) -> Iterator[sa.Connection]:
    """A connection of the caller's own, on a place."""
    url = sa.make_url(place.url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, connect_args=connect)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@attrs.define(kw_only=True)
class Project:
    """Alembic's commands on a place."""

    folder: Path
    place: Place
    said: list[str] = attrs.Factory(list)
    options: dict[str, Any] = attrs.Factory(dict)

    def __attrs_post_init__(self) -> None:
        (self.folder / "versions").mkdir(parents=True, exist_ok=True)
        (self.folder / "env.py").write_text(ENV)
        (self.folder / "script.py.mako").write_text(MAKO)

    def config(self, metadata: sa.MetaData, *, x: tuple[str, ...] = (), **run: Any) -> Config:
        out = io.StringIO()
        config = Config(output_buffer=out, stdout=out)
        config.set_main_option("script_location", str(self.folder))
        config.set_main_option("path_separator", "os")
        config.attributes["out"] = out
        config.attributes["run"] = {
            "metadata": metadata,
            "url": self.place.url,
            "tell": self.said.append,
            **self.options,
            **run,
        }
        config.cmd_opts = type("Options", (), {"x": list(x)})()
        return config

    def revision(self, metadata: sa.MetaData, message: str = "next", **run: Any) -> str:
        """Autogenerate a revision; its text."""
        number = len(list((self.folder / "versions").glob("*.py"))) + 1
        command.revision(
            self.config(metadata, **run),
            message,
            autogenerate=True,
            rev_id=f"{number:04}",
        )
        (file,) = (self.folder / "versions").glob(f"{number:04}_*.py")
        return file.read_text()

    def upgrade(self, metadata: sa.MetaData, to: str = "head", **run: Any) -> None:
        command.upgrade(self.config(metadata, **run), to)

    def downgrade(self, metadata: sa.MetaData, to: str = "-1", **run: Any) -> None:
        command.downgrade(self.config(metadata, **run), to)

    def forget(self) -> None:
        """Delete the newest revision, so that a comparison with the one before is possible."""
        max((self.folder / "versions").glob("*.py")).unlink()

    def check(self, metadata: sa.MetaData, **run: Any) -> None:
        command.check(self.config(metadata, **run))

    def sql(self, metadata: sa.MetaData, to: str = "head", **run: Any) -> str:
        config = self.config(metadata, **run)
        command.upgrade(config, to, sql=True)
        return str(config.attributes["out"].getvalue())

    def start(self, metadata: sa.MetaData) -> str:
        """The first revision, applied; it is written once a run for the same models and options."""
        made_of = (self.place.level, repr(self.options), told(metadata))
        file = self.folder / "versions" / "0001_start.py"
        if made_of in STARTS:
            file.write_text(STARTS[made_of])
        else:
            STARTS[made_of] = self.revision(metadata, "start")
        self.upgrade(metadata)
        return file.read_text()


STARTS: dict[tuple[str, str, str], str] = {}


def told(metadata: sa.MetaData) -> str:
    """All that models say, as a text."""
    tables = [table for table in metadata.sorted_tables if not table.is_view]
    made: list[DDLElement] = [CreateTable(table) for table in tables]
    made += [CreateIndex(index) for table in tables for index in table.indexes]
    return f"{[str(each.compile(dialect=DIALECT)) for each in made]} {declarations_of(metadata)}"
