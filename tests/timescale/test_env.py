"""What ``env.run`` does around a migration: schema, extension, level, locks, --sql, other names."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.util import CommandError

from ravenwh.timescale.level import Engine, inspect_engine
from tests.timescale.models import HOME, hypertable, market
from tests.timescale.project import Place, Project, connected
from tests.timescale.state import catalog, fill


def test_an_empty_database_gets_schema_and_tables_for_everyone(project: Project) -> None:
    """Seen from another connection: nothing was rolled back in silence."""
    project.revision(market())
    project.place.rows("DROP SCHEMA {s} CASCADE")
    project.upgrade(market())
    assert project.place.rows("SELECT to_regclass('{s}.fact__kline')::text") == [
        (f"{HOME}.fact__kline",)
    ]
    assert project.place.rows("SELECT obj_description('{s}.alembic_version'::regclass)") == [
        (f"migrated by ravenwh.timescale at level {project.place.level}",)
    ]


def test_showing_the_revision_of_an_empty_database_leaves_it_empty(project: Project) -> None:
    """Alembic mutates for every other command; for this one nothing at all is made."""
    there = project.place.rows("SELECT count(*) FROM pg_class")
    command.current(project.config(market()))
    assert project.place.rows("SELECT to_regnamespace('{s}')") == [(None,)]
    assert project.place.rows("SELECT count(*) FROM pg_class") == there
    project.revision(market())
    project.place.rows("DROP SCHEMA {s} CASCADE")
    with pytest.raises(CommandError, match=r"not at head|not on all head"):
        command.current(project.config(market()), check_heads=True)
    assert project.place.rows("SELECT to_regnamespace('{s}')") == [(None,)]
    project.upgrade(market())
    command.current(project.config(market()), check_heads=True)


def test_the_level_is_told_once(project: Project) -> None:
    project.start(market())
    (line,) = project.said
    assert f"level {project.place.level}" in line
    if project.place.level == "none":
        assert "no hypertables, rollups are plain views" in line


def test_sync_drivers_serve_as_well(place: Place, project_on: Any) -> None:
    url = sa.make_url(place.url).set(drivername="postgresql+psycopg")
    project: Project = project_on(place)
    project.options["url"] = url
    project.start(market())
    project.check(market())
    project.upgrade(market())


def test_a_connection_of_the_callers_own(place: Place, project_on: Any) -> None:
    project: Project = project_on(place)
    with connected(place) as connection:
        project.options |= {"connection": connection, "url": None}
        project.start(market())
        project.check(market())


@pytest.mark.parametrize("name", ["Market", "public", "pg_x", "_timescaledb_x", "a b", "a;b", "1a"])
def test_schema_names_that_are_not_allowed(none: Place, project_on: Any, name: str) -> None:
    with pytest.raises(CommandError, match="is not allowed"):
        project_on(none).upgrade(market(), schema=name)


def test_a_search_path_that_hides_the_schema_is_refused(none: Place, project_on: Any) -> None:
    none.rows("CREATE SCHEMA market")
    with (
        connected(none, options="-csearch_path=market,public") as connection,
        pytest.raises(CommandError, match="connect with search_path = public"),
    ):
        project_on(none).check(market(), url=None, connection=connection)


def test_another_schema_name(place: Place, project_on: Any) -> None:
    """Up, clean, nothing under the home name, down; also for what is written from there."""
    project: Project = project_on(place)
    project.revision(market())
    place.rows("DROP SCHEMA market CASCADE")
    elsewhere = Project(folder=project.folder, place=place, options={"schema": "wh_x"})
    elsewhere.upgrade(market())
    elsewhere.check(market())
    changed = market(extra=("agg__kline_1h",), volume=sa.Numeric(38, 8))
    text = elsewhere.revision(changed)
    assert "wh_x" not in text
    assert "schema='market'" in text
    elsewhere.upgrade(changed)
    elsewhere.check(changed)
    elsewhere.downgrade(market())
    elsewhere.forget()
    elsewhere.check(market())
    assert place.rows("SELECT to_regnamespace('market')::text") == [(None,)]
    elsewhere.downgrade(market(), "base")
    assert place.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'wh_x'::regnamespace AND relkind <> 'i'"
    ) == [("alembic_version",)]


def test_a_first_revision_written_under_another_name(none: Place, project_on: Any) -> None:
    project: Project = project_on(none)
    project.options["schema"] = "wh_x"
    text = project.start(market())
    assert "wh_x" not in text
    assert "['market.dim__coin.coin_id']" in text
    project.check(market())


@pytest.mark.parametrize("schema", [HOME, "wh_x"])
def test_the_printed_sql_makes_the_same(place: Place, project_on: Any, schema: str) -> None:
    project: Project = project_on(place)
    final = market(fact=hypertable(retention="1 year"), volume=sa.Numeric(38, 8))
    project.start(market())
    project.revision(final)
    place.rows("DROP SCHEMA market CASCADE")
    project.said.clear()
    project.options["schema"] = schema
    script = project.sql(final, x=(f"engine={place.level}",))
    assert "refresh_continuous_aggregate(" not in script
    assert (place.level == "community") is ("create_hypertable('" in script)
    assert (place.level == "community") is ("WITH NO DATA" in script)
    assert project.said == []
    if schema != HOME:
        assert "market" not in script
    with place.connect() as connection:
        connection.execute(script)  # type: ignore[call-overload]  # what was printed
    project.check(final)


def test_printing_for_an_engine_that_nobody_stated_is_refused(none: Place, project_on: Any) -> None:
    with pytest.raises(CommandError, match="-x engine=community"):
        project_on(none).sql(market())


def test_a_stated_level_that_is_not_there_is_refused_in_one_line(
    none: Place, project_on: Any
) -> None:
    with pytest.raises(CommandError, match="TimescaleDB is not installed on the server") as caught:
        project_on(none).upgrade(market(), engine="community")
    assert "\n" not in str(caught.value)
    with pytest.raises(CommandError, match="engine = citus is stated, but the server has level"):
        project_on(none).upgrade(market(), x=("engine=citus",))
    with pytest.raises(CommandError, match="'best' is none of auto, community, none, citus"):
        project_on(none).upgrade(market(), engine="best")


def test_level_none_can_be_stated_where_there_is_more(bare: Place, project_on: Any) -> None:
    project: Project = project_on(bare)
    project.options["engine"] = "none"
    project.start(market())
    project.check(market())
    assert "as stated" in project.said[0]
    assert bare.rows("SELECT FROM pg_extension WHERE extname = 'timescaledb'") == []


def test_the_apache_licence_counts_as_none_and_says_so(apache: Place, project_on: Any) -> None:
    project: Project = project_on(apache)
    project.start(market())
    project.check(market())
    assert "apache licence" in project.said[0]
    with pytest.raises(CommandError, match=r"set timescaledb\.license = 'timescale'") as caught:
        project.check(market(), engine="community")
    assert "\n" not in str(caught.value)


def test_the_migration_makes_the_extension(bare: Place, project_on: Any) -> None:
    """Where the role may; taking everything back leaves it, as others may use it by then."""
    project: Project = project_on(bare)
    project.start(market())
    assert "level community" in project.said[0]
    made = "SELECT extname FROM pg_extension WHERE extname = 'timescaledb'"
    assert bare.rows(made) == [("timescaledb",)]
    project.check(market())
    project.downgrade(market(), "base")
    assert bare.rows(made) == [("timescaledb",)]


def test_who_may_not_create_the_extension_is_told_who_must(bare: Place, project_on: Any) -> None:
    name = f"writer_{bare.url[-6:]}"
    url = sa.make_url(bare.url)
    bare.rows(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
    bare.rows(f"REVOKE CREATE ON DATABASE {url.database} FROM PUBLIC")
    bare.rows(f"CREATE SCHEMA market AUTHORIZATION {name}")
    project: Project = project_on(bare)
    project.options["url"] = url.set(username=name, password=name)
    try:
        with pytest.raises(CommandError, match="run CREATE EXTENSION timescaledb"):
            project.upgrade(market(), engine="community")
        project.start(market())
        assert "run CREATE EXTENSION timescaledb" in project.said[0]
        project.downgrade(market(), "base")
        bare.rows("CREATE EXTENSION timescaledb")
        project.upgrade(market(), engine="community")
        project.check(market())
    finally:
        bare.rows(f"DROP OWNED BY {name}")
        bare.rows(f"DROP ROLE {name}")


def test_two_processes_at_the_same_moment(server: Place, project_on: Any) -> None:
    """One waits, both end well."""
    project: Project = project_on(server)
    project.revision(market())
    server.rows("DROP SCHEMA market CASCADE")
    program = [sys.executable, "-m", "tests.timescale.upgrade", str(project.folder), server.url]
    with server.connect() as held:  # both must wait, so both are there at the same moment
        lock = "hashtextextended('alembic market.alembic_version', 0)"
        held.execute(f"SELECT pg_advisory_lock({lock})")  # type: ignore[call-overload]
        both = [subprocess.Popen(program, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        waited = [each.stdout.readline() for each in both if each.stdout]
        held.execute(f"SELECT pg_advisory_unlock({lock})")  # type: ignore[call-overload]
    said = [each.communicate(timeout=120)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert waited == ["another process is migrating: waiting for it\n"] * 2
    project.check(market())


def test_a_reader_in_the_way_delays_but_does_not_stop(server: Place, project_on: Any) -> None:
    """The lock is let go after lock_timeout_s each time, so that writers get through."""
    project: Project = project_on(server)
    project.start(market())
    fill(server)
    project.revision(market(volume=sa.Numeric(38, 8)))
    tried: list[str] = []
    with server.connect() as reader:
        reader.autocommit = False
        reader.execute("SELECT count(*) FROM market.fact__kline")

        def tell(line: str) -> None:
            if "trying again" in line:
                tried.append(line)
                reader.rollback()

        project.upgrade(market(volume=sa.Numeric(38, 8)), tell=tell, lock_timeout_s=0.2)
    assert tried
    project.check(market(volume=sa.Numeric(38, 8)))


def test_a_lock_that_never_comes_is_told_and_leaves_nothing(server: Place, project_on: Any) -> None:
    project: Project = project_on(server)
    project.start(market())
    before = catalog(server)
    project.revision(market(volume=sa.Numeric(38, 8)))
    with server.connect() as reader:
        reader.autocommit = False
        reader.execute("SELECT count(*) FROM market.fact__kline")
        with pytest.raises(CommandError, match=r"no lock within 0\.1 s, 2 times"):
            project.upgrade(market(), lock_timeout_s=0.1, lock_tries=2)
    assert catalog(server) == before


def test_a_statement_that_takes_too_long_is_told(server: Place, project_on: Any) -> None:
    project: Project = project_on(server)
    project.start(market())
    (file,) = (project.folder / "versions").glob("0001*")
    text = file.read_text().replace("0001", "0002").replace("down_revision = None", "")
    head, _, _ = text.partition("def upgrade")
    head = head.replace("revision = '0002'", "revision = '0002'\ndown_revision = '0001'")
    slow = head + "def upgrade():\n    op.execute('SELECT pg_sleep(30)')\n"
    (project.folder / "versions" / "0002_slow.py").write_text(slow)
    with pytest.raises(CommandError, match=r"longer than statement_timeout_s = 0\.2"):
        project.upgrade(market(), statement_timeout_s=0.2)


def test_policies_of_the_settings_are_compared(community: Place, project_on: Any) -> None:
    project: Project = project_on(community)
    project.start(market())
    policies = {
        "fact__kline": {"retention": "2 years", "columnstore_after": "1 month"},
        "agg__kline_1h": {"refresh_start": "3 days"},
        "agg__kline_5m": {"refresh_schedule": "5 minutes"},
    }
    with pytest.raises(CommandError) as caught:
        project.check(market(), policies=policies)
    assert set(re.findall(r"\('((?:add|remove|set)_\w+)'", str(caught.value))) == {
        "add_retention_policy",
        "remove_columnstore_policy",
        "add_columnstore_policy",
        "remove_refresh_policy",
        "add_refresh_policy",
    }
    with pytest.raises(CommandError, match=r"retention of 'fact__kline' .* must be longer"):
        project.check(
            market(), policies={"fact__kline": {"retention": "20 hours", "columnstore_after": None}}
        )
    with pytest.raises(CommandError, match="there is no such hypertable or aggregate"):
        project.check(market(), policies={"fact__line": {"retention": "1 year"}})


def look(place: Place) -> Engine:
    with connected(place) as connection:
        return inspect_engine(connection)


def test_one_query_tells_the_engine(bare: Place) -> None:
    found = look(bare)
    assert (found.level, found.timescaledb_creatable) == ("none", True)
    assert (
        found.missing() == "TimescaleDB is loaded but not created: run CREATE EXTENSION timescaledb"
    )
    bare.rows("CREATE EXTENSION timescaledb")
    assert (look(bare).level, look(bare).missing()) == ("community", None)


def test_one_query_tells_that_there_is_no_timescaledb(none: Place) -> None:
    found = look(none)
    assert (found.level, found.timescaledb_creatable) == ("none", False)
    assert found.missing() == "TimescaleDB is not installed on the server"
