"""Declare, migrate, check, change, migrate, check, take back, check: on every engine level."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from ravenwh.timescale import Columnstore, Refresh
from tests.timescale.models import IDS, hypertable, market
from tests.timescale.project import Place, Project
from tests.timescale.state import catalog, fill

DRIFT = "New upgrade operations detected"


def store(**changes: Any) -> Columnstore:
    values: dict[str, Any] = {"segmentby": IDS, "orderby": "open_time DESC", "after": "14 days"}
    return Columnstore(**values | changes)


CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "retention": ({"fact": hypertable(retention="365 days")}, {"add_retention_policy"}),
    "chunk interval": ({"fact": hypertable(chunk="1 day")}, {"set_chunk_interval"}),
    "columnstore after": (
        {"fact": hypertable(columnstore=store(after="30 days"))},
        {"remove_columnstore_policy", "add_columnstore_policy"},
    ),
    "columnstore settings": (
        {"fact": hypertable(columnstore=store(orderby="quote_id, open_time", segmentby="coin_id"))},
        {"set_columnstore"},
    ),
    "no columnstore policy": (
        {"fact": hypertable(columnstore=store(after=None))},
        {"remove_columnstore_policy"},
    ),
    "no columnstore": (
        {"fact": hypertable(columnstore=None)},
        {"remove_columnstore_policy", "disable_columnstore"},
    ),
    "removed aggregate": (
        {"without": ("agg__kline_1d",)},
        {"remove_refresh_policy", "drop_continuous_aggregate"},
    ),
    "changed aggregate": (
        {"extra": ("agg__kline_1h",)},
        {
            "drop_plain_view",
            "remove_refresh_policy",
            "drop_continuous_aggregate",
            "create_continuous_aggregate",
            "add_refresh_policy",
            "create_plain_view",
        },
    ),
    "refresh": (
        {"aggregate": {"agg__kline_1h": {"refresh": Refresh("2 days", "1 hour", "15 minutes")}}},
        {"remove_refresh_policy", "add_refresh_policy"},
    ),
    "materialized only": (
        {"aggregate": {"agg__kline_1d": {"materialized_only": True}}},
        {"set_materialized_only"},
    ),
    "aggregate columnstore and retention": (
        {
            "aggregate": {
                "agg__kline_1h": {"columnstore": store(after="30 days"), "retention": "5 years"}
            }
        },
        {"enable_columnstore", "add_columnstore_policy", "add_retention_policy"},
    ),
    "source column type": (
        {"volume": sa.Numeric(38, 8)},
        {
            "drop_plain_view",
            "remove_refresh_policy",
            "drop_continuous_aggregate",
            "remove_columnstore_policy",
            "disable_columnstore",
            "alter_column",
            "enable_columnstore",
            "add_columnstore_policy",
            "create_continuous_aggregate",
            "add_refresh_policy",
            "create_plain_view",
        },
    ),
    "no hypertable": (
        {"fact": None},
        {
            "drop_plain_view",
            "remove_refresh_policy",
            "drop_continuous_aggregate",
            "remove_columnstore_policy",
            "disable_columnstore",
            "drop_hypertable",
        },
    ),
    "no fact": (
        {"with_fact": False},
        {
            "drop_plain_view",
            "remove_refresh_policy",
            "drop_continuous_aggregate",
            "remove_columnstore_policy",
            "disable_columnstore",
            "drop_hypertable",
            "drop_index",
            "drop_table",
        },
    ),
}


def upgrade_of(text: str) -> str:
    return text.partition("def upgrade")[2].partition("def downgrade")[0]


def operations(text: str) -> list[str]:
    return re.findall(r"op\.([a-z_]+)\(", upgrade_of(text).replace("op.f(", ""))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_made_and_taken_back(
    community: Place, project_on: Any, change: str
) -> None:
    changes, expected = CHANGES[change]
    project: Project = project_on(community)
    project.start(market())
    if change != "no fact":  # whose rows nobody brings back
        fill(community, compressed=True)
    project.check(market())
    before = catalog(community)

    with pytest.raises(CommandError, match=DRIFT):
        project.check(market(**changes))
    text = project.revision(market(**changes))
    assert set(operations(text)) == expected
    project.upgrade(market(**changes))
    project.check(market(**changes))
    assert catalog(community) != before

    project.downgrade(market())
    project.forget()
    project.check(market())
    assert catalog(community) == before


@pytest.mark.parametrize("change", ["removed aggregate", "changed aggregate", "no fact"])
def test_the_same_on_stock_postgresql(none: Place, project_on: Any, change: str) -> None:
    changes, _ = CHANGES[change]
    project: Project = project_on(none)
    project.start(market())
    if change != "no fact":
        fill(none)
    before = catalog(none)
    with pytest.raises(CommandError, match=DRIFT):
        project.check(market(**changes))
    project.revision(market(**changes))
    project.upgrade(market(**changes))
    project.check(market(**changes))
    project.downgrade(market())
    project.forget()
    project.check(market())
    assert catalog(none) == before


def test_a_migration_written_on_one_level_serves_the_others(
    none: Place, community: Place, project_on: Any
) -> None:
    """What was written with TimescaleDB goes up and down without it."""
    project: Project = project_on(community)
    project.start(market())
    project.revision(market(extra=("agg__kline_1h",)))
    project.upgrade(market(extra=("agg__kline_1h",)))
    elsewhere = Project(folder=project.folder, place=none)
    elsewhere.upgrade(market())
    elsewhere.check(market(extra=("agg__kline_1h",)))
    elsewhere.downgrade(market())
    elsewhere.forget()
    elsewhere.check(market())
    elsewhere.downgrade(market(), "base")
    elsewhere.upgrade(market())
    elsewhere.check(market())


def test_what_is_written_without_timescaledb_makes_everything_with_it(
    none: Place, community: Place, project_on: Any
) -> None:
    project: Project = project_on(none)
    project.start(market())
    elsewhere = Project(folder=project.folder, place=community)
    elsewhere.upgrade(market())
    elsewhere.check(market())


def test_a_changed_aggregate_goes_children_first_and_comes_parents_first(
    community: Place, project_on: Any
) -> None:
    project: Project = project_on(community)
    project.start(market())
    text = upgrade_of(project.revision(market(extra=("agg__kline_1h",))))
    order = re.findall(
        r"op\.((?:drop|create)_(?:continuous_aggregate|plain_view))\(\s*'(\w+)'", text
    )
    assert order == [
        ("drop_continuous_aggregate", "agg__kline_1d"),
        ("drop_plain_view", "kline_1h"),
        ("drop_continuous_aggregate", "agg__kline_1h"),
        ("create_continuous_aggregate", "agg__kline_1h"),
        ("create_continuous_aggregate", "agg__kline_1d"),
        ("create_plain_view", "kline_1h"),
    ]
    assert "DATA LOSS" not in text
    project.forget()
    assert text == upgrade_of(project.revision(market(extra=("agg__kline_1h",))))


def test_dropping_what_cannot_be_made_again_says_so(community: Place, project_on: Any) -> None:
    project: Project = project_on(community)
    fact = hypertable(retention="90 days")
    project.start(market(fact=fact))
    text = project.revision(market(fact=hypertable(retention="90 days"), extra=("agg__kline_1h",)))
    flat = " ".join(text.split())
    assert "# DATA LOSS: fact__kline keeps only 90 days; older buckets of agg__kline_1h" in flat


def test_down_to_nothing_and_up_again(project: Project) -> None:
    project.start(market())
    fill(project.place, compressed=project.place.level == "community")
    project.downgrade(market(), "base")
    left = project.place.rows(
        "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind IN ('r', 'v', 'm') AND (nspname = '{s}' OR nspname ="
        " '_timescaledb_internal' AND relname ~ '^_(hyper|materialized|direct|partial)')"
    )
    assert left == [("alembic_version",)]
    if project.place.level == "community":
        assert project.place.rows("SELECT FROM timescaledb_information.hypertables") == []
        jobs = "SELECT FROM timescaledb_information.jobs WHERE job_id >= 1000"
        assert project.place.rows(jobs) == []
    project.upgrade(market())
    project.check(market())
