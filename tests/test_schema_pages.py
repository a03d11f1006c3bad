"""What the reference shows of the mart: the SQL and the picture are those of the code."""

from __future__ import annotations

from xml.etree import ElementTree

import psycopg
from alembic import command

from docs.schema import FOLDER, schema_sql
from docs.star import star
from ravenwh.app.preflight import alembic_config
from ravenwh.schema import Base
from tests.conftest import settings_for
from tests.engines.fixtures import EngineDatabase

STALE = "it is stale: make reference"


def test_the_sql_is_what_the_migrations_print() -> None:
    page = (FOLDER / "schema.sql").read_text(encoding="utf-8")
    assert page == schema_sql(), STALE
    assert max(map(len, page.splitlines())) <= 100


def test_the_sql_makes_the_mart(each_community: EngineDatabase) -> None:
    """Broken lines and all: nothing differs from the models afterwards."""
    with psycopg.connect(each_community.libpq_url, autocommit=True) as connection:
        connection.execute((FOLDER / "schema.sql").read_bytes())
    command.check(alembic_config(settings_for(each_community.url)))


def test_the_picture_is_that_of_the_models() -> None:
    picture = (FOLDER / "star.svg").read_text(encoding="utf-8")
    assert picture == star(), STALE


def test_the_picture_has_every_table_with_its_columns() -> None:
    root = ElementTree.fromstring(star())  # noqa: S314 - we drew it ourselves
    shown = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    for table in Base.metadata.tables.values():
        if table.is_view and not table.name.startswith("agg__"):
            continue
        assert table.name in shown
        if not table.is_view:
            at = shown.index(table.name)
            assert shown[at + 1 : at + 1 + 2 * len(table.c) : 2] == table.c.keys()
