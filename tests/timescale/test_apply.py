"""Without a migration: policies of the settings, and a database that gets TimescaleDB later."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from alembic.util import CommandError

from ravenwh.timescale import Columnstore, LevelError, MigrationError
from ravenwh.timescale.apply import adopt, apply_policies, policy_differences
from tests.engines.fixtures import EngineDatabase
from tests.timescale.models import IDS, hypertable, market
from tests.timescale.project import Place, Project, connected
from tests.timescale.state import catalog, fill, rollups


@pytest.fixture(params=["wasm", "bare"])
def unused(request: pytest.FixtureRequest) -> Place:
    """An empty database whose TimescaleDB nobody uses yet; the native one has no extension yet."""
    found: Place | EngineDatabase = request.getfixturevalue(request.param)
    return found if isinstance(found, Place) else Place.on(found)


def test_a_database_of_level_none_is_adopted(unused: Place, project_on: Any) -> None:
    """Its rows and its rollups are the same afterwards, and it is what a migration would make."""
    project: Project = project_on(unused)
    final = market(fact=hypertable(retention="50 years"), extra=("agg__kline_1h",))
    project.options["engine"] = "none"
    project.start(final)
    fill(unused)
    before = rollups(unused)
    project.options["engine"] = "auto"
    unused.rows("CREATE EXTENSION IF NOT EXISTS timescaledb")
    project.said.clear()
    project.upgrade(final)
    assert "bring the database over with `ravenwh timescale adopt`" in project.said[0]
    project.check(final)
    with pytest.raises(CommandError, match="bring it over once with `ravenwh timescale adopt`"):
        project.upgrade(final, engine="community")

    told: list[str] = []
    with connected(unused) as connection:
        done = adopt(connection, metadata=final, tell=told.append)
    assert done == told
    assert "create_hypertable fact__kline: time_column=open_time, chunk_interval=7 days" in done
    project.check(final, engine="community")
    assert rollups(unused) == before

    adopted = catalog(unused)
    with connected(unused) as connection:
        assert adopt(connection, metadata=final) == []
    project.downgrade(final, "base")
    unused.rows("DROP SCHEMA market CASCADE")
    project.upgrade(final)
    fill(unused)
    assert catalog(unused) == adopted


def test_what_cannot_be_adopted_says_why(none: Place, community: Place, project_on: Any) -> None:
    with connected(none) as connection, pytest.raises(LevelError, match="is not installed"):
        adopt(connection, metadata=market())
    with (
        connected(community) as connection,
        pytest.raises(MigrationError, match="was never migrated"),
    ):
        adopt(connection, metadata=market())
    project: Project = project_on(community)
    project.options["engine"] = "none"
    project.start(market())
    community.rows("ALTER TABLE market.fact__kline ADD COLUMN other int")
    stock = attrs.evolve(community, level="none")
    before = catalog(stock)
    with (
        connected(community) as connection,
        pytest.raises(MigrationError, match=r"upgrade head` first; .* DropColumnOp"),
    ):
        adopt(connection, metadata=market())
    assert catalog(stock) == before


def test_a_table_in_use_is_not_adopted_and_nothing_is_changed(bare: Place, project_on: Any) -> None:
    project: Project = project_on(bare)
    project.options["engine"] = "none"
    project.start(market())
    fill(bare)
    stock = attrs.evolve(bare, level="none")
    before = catalog(stock)
    with bare.connect() as reader, connected(bare) as connection, reader.transaction():
        reader.execute("SELECT count(*) FROM market.fact__kline")
        with pytest.raises(MigrationError, match=r"no lock within 0\.2 s: nothing was"):
            adopt(connection, metadata=market(), lock_timeout_s=0.2)
    assert catalog(stock) == before
    policies = {"fact__kline": {"retention": "50 years"}}
    with connected(bare) as connection:  # it makes the extension, which asks for a new session
        done = adopt(connection, metadata=market(), policies=policies, lock_timeout_s=0.2)
    assert done[-1] == "add_retention_policy fact__kline: drop_after=50 years"
    del project.options["engine"]
    project.check(market(), policies=policies)


def test_policies_are_written_and_clean_afterwards(community: Place, project_on: Any) -> None:
    project: Project = project_on(community)
    store = Columnstore(segmentby=IDS, orderby="open_time DESC", after="30 days")
    models = market(aggregate={"agg__kline_1h": {"columnstore": store}})
    project.start(models)
    policies: dict[str, dict[str, str | None]] = {
        "fact__kline": {"retention": "2 years", "columnstore_after": None},
        "agg__kline_1h": {
            "refresh_start": "3 days",
            "retention": "5 years",
            "columnstore_after": "60 days",
        },
    }
    with connected(community) as connection:
        planned = policy_differences(connection, metadata=models, policies=policies)
        connection.rollback()
        done = apply_policies(connection, metadata=models, policies=policies)
        assert len(done) == len(planned) == 7
        assert "add_retention_policy fact__kline: drop_after=2 years" in done
        assert apply_policies(connection, metadata=models, policies=policies) == []
    project.check(models, policies=policies)
    with pytest.raises(CommandError, match="remove_retention_policy"):
        project.check(models)
    with connected(community) as connection:
        apply_policies(connection, metadata=models)
    project.check(models)


def test_policies_change_nothing_else(community: Place, project_on: Any) -> None:
    """Tables and aggregates that differ from the models are a migration's business."""
    project: Project = project_on(community)
    project.start(market(without=("agg__kline_1d", "kline_1h")))
    community.rows("SELECT set_chunk_time_interval('market.fact__kline', INTERVAL '3 days')")
    before = catalog(community)
    with connected(community) as connection:
        assert apply_policies(connection, metadata=market(extra=("agg__kline_1h",))) == []
    assert catalog(community) == before


def test_policies_without_timescaledb_are_nothing(none: Place, project_on: Any) -> None:
    project: Project = project_on(none)
    project.start(market())
    with connected(none) as connection:
        assert apply_policies(connection, metadata=market()) == []
