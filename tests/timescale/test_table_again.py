"""A hypertable that becomes a table again keeps what hung on it, also after the way back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from ravenwh.timescale import Hypertable
from tests.timescale.project import Place, Project

ROLE = "test_reader_of_readings"

HANGS_ON_IT = {
    "grants": """
        SELECT attname, acl.privilege_type, acl.is_grantable
        FROM (SELECT NULL AS attname, relacl FROM pg_class WHERE oid = '{s}.readings'::regclass
              UNION ALL
              SELECT attname, attacl FROM pg_attribute
              WHERE attrelid = '{s}.readings'::regclass) AS given (attname, given),
             aclexplode(given) AS acl
        WHERE acl.grantee = 'test_reader_of_readings'::regrole ORDER BY 1, 2""",
    "row security": """
        SELECT relrowsecurity, relforcerowsecurity, reloptions FROM pg_class
        WHERE oid = '{s}.readings'::regclass""",
    "policies": """
        SELECT policyname, permissive, roles, cmd, qual, with_check FROM pg_policies
        WHERE tablename = 'readings' AND schemaname = '{s}' ORDER BY 1""",
    "statistics": """
        SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext
        WHERE stxrelid = '{s}.readings'::regclass""",
}


def readings(*, hypertable: bool) -> sa.MetaData:
    """A table with numbers of both kinds, as people use them for keys."""
    metadata = sa.MetaData(schema="market")
    sa.Table(
        "readings",
        metadata,
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("at", sa.TIMESTAMP(timezone=True), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=True),
        sa.Column("value", sa.Double),
        *([Hypertable("at")] if hypertable else []),
    )
    return metadata


def hanging(place: Place) -> dict[str, list[tuple[Any, ...]]]:
    return {name: place.rows(query) for name, query in HANGS_ON_IT.items()}


@pytest.fixture
def role(community: Place) -> Iterator[None]:
    """A role of the server, to which something is granted."""
    community.rows(f"CREATE ROLE {ROLE}")
    yield
    community.rows(f"DROP OWNED BY {ROLE}")
    community.rows(f"DROP ROLE {ROLE}")


def test_what_hangs_on_a_hypertable_survives(community: Place, project_on: Any, role: None) -> None:
    project: Project = project_on(community)
    hyper, plain = readings(hypertable=True), readings(hypertable=False)
    project.start(hyper)
    add = "INSERT INTO {s}.readings (at, value) SELECT '2024-01-01', 1 RETURNING id, number"
    assert community.rows(add) == [(1, 1)]
    for statement in (
        f"GRANT SELECT ON {{s}}.readings TO {ROLE} WITH GRANT OPTION",
        f"GRANT UPDATE (value) ON {{s}}.readings TO {ROLE}",
        f"CREATE POLICY seen ON {{s}}.readings AS RESTRICTIVE FOR SELECT TO {ROLE}"
        " USING (value > 0)",
        "CREATE POLICY made ON {s}.readings FOR INSERT WITH CHECK (value < 9)",
        "ALTER TABLE {s}.readings ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "ALTER TABLE {s}.readings SET (autovacuum_enabled = false, fillfactor = 70)",
        "CREATE STATISTICS {s}.both (dependencies) ON id, value FROM {s}.readings",
    ):
        community.rows(statement)
    before = hanging(community)
    assert all(before.values())

    project.revision(plain)
    project.upgrade(plain)
    assert hanging(community) == before
    assert community.rows(add) == [(2, 2)]
    project.downgrade(plain)
    assert hanging(community) == before
    assert community.rows(add) == [(3, 3)]
    project.forget()
    project.check(hyper)


def test_numbers_that_were_never_given_begin_at_the_first(
    community: Place, project_on: Any
) -> None:
    project: Project = project_on(community)
    project.start(readings(hypertable=True))
    project.revision(readings(hypertable=False))
    project.upgrade(readings(hypertable=False))
    add = "INSERT INTO {s}.readings (at, value) SELECT '2024-01-01', 1 RETURNING id, number"
    assert community.rows(add) == [(1, 1)]
    community.rows("DROP TABLE {s}.readings")
    sequences = (
        "SELECT relname FROM pg_class WHERE relkind = 'S' AND relnamespace = '{s}'::regnamespace"
    )
    assert community.rows(sequences) == []
