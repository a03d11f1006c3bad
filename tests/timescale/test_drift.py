"""What was done by hand is seen, what is somebody else's is left alone, rows are the same."""

from __future__ import annotations

from typing import Any

import pytest
from alembic.util import CommandError

from tests.timescale.models import market
from tests.timescale.project import Place, Project
from tests.timescale.state import catalog, fill, rollups

BY_HAND = {
    "chunk interval": (
        "SELECT set_chunk_time_interval('{s}.fact__kline', INTERVAL '3 days')",
        "set_chunk_interval",
    ),
    "columnstore policy": (
        "CALL remove_columnstore_policy('{s}.fact__kline')",
        "add_columnstore_policy",
    ),
    "more retention": (
        "SELECT add_retention_policy('{s}.fact__kline', INTERVAL '9 years')",
        "remove_retention_policy",
    ),
    "less retention": (
        "SELECT remove_retention_policy('{s}.agg__kline_1d')",
        "add_retention_policy",
    ),
    "refresh": (
        "SELECT remove_continuous_aggregate_policy('{s}.agg__kline_1d')",
        "add_refresh_policy",
    ),
    "second refresh": (
        "SELECT add_continuous_aggregate_policy('{s}.agg__kline_5m', INTERVAL '9 days',"
        " INTERVAL '1 day', INTERVAL '1 day')",
        "remove_refresh_policy",
    ),
    "dropped aggregate": (
        "DROP MATERIALIZED VIEW {s}.agg__kline_1d",
        "create_continuous_aggregate",
    ),
    "index": ("CREATE INDEX by_hand ON {s}.fact__kline (volume)", "remove_index"),
    "view": ("CREATE OR REPLACE VIEW {s}.kline_1h AS {v} WHERE coin <> 'x'", "create_plain_view"),
    "materialized only": (
        "ALTER MATERIALIZED VIEW {s}.agg__kline_1h SET (timescaledb.materialized_only = true)",
        "set_materialized_only",
    ),
    "columnstore": (
        "ALTER TABLE {s}.fact__kline SET (timescaledb.segmentby = 'coin_id',"
        " timescaledb.orderby = 'quote_id, open_time')",
        "set_columnstore",
    ),
}


@pytest.mark.parametrize("hand", BY_HAND)
def test_a_change_by_hand_is_seen_and_put_right(
    community: Place, project_on: Any, hand: str
) -> None:
    statement, expected = BY_HAND[hand]
    models = market(aggregate={"agg__kline_1d": {"retention": "50 years"}})
    project: Project = project_on(community)
    project.start(models)
    fill(community)
    before = catalog(community)
    if "{v}" in statement:
        ((text,),) = community.rows("SELECT pg_get_viewdef('{s}.kline_1h'::regclass)")
        statement = statement.replace("{v}", text.rstrip(";"))
    community.rows(statement)
    with pytest.raises(CommandError, match=expected):
        project.check(models)
    project.revision(models)
    project.upgrade(models)
    project.check(models)
    assert catalog(community) == before


def test_an_aggregate_made_again_by_hand_with_another_select(
    community: Place, project_on: Any
) -> None:
    """Its name is claimed by the models, so it is replaced, and the migration says what it does."""
    project: Project = project_on(community)
    project.start(market())
    community.rows("DROP MATERIALIZED VIEW {s}.agg__kline_1d")
    community.rows(
        "CREATE MATERIALIZED VIEW {s}.agg__kline_1d WITH (timescaledb.continuous) AS SELECT"
        " time_bucket('1 day', open_time) AS open_time, max(high) AS high FROM {s}.agg__kline_1h"
        " GROUP BY 1 WITH NO DATA"
    )
    with pytest.raises(CommandError, match="drop_continuous_aggregate"):
        project.check(market())
    text = project.revision(market())
    assert "# agg__kline_1d was not made by a migration: what it holds is replaced" in text
    project.upgrade(market())
    project.check(market())


def test_what_is_somebody_elses_survives(place: Place, project_on: Any) -> None:
    project: Project = project_on(place)
    project.start(market())
    if place.level == "community":
        place.rows(
            "CREATE MATERIALIZED VIEW {s}.theirs WITH (timescaledb.continuous) AS SELECT"
            " time_bucket('1 day', open_time) AS day, max(high) FROM {s}.fact__kline GROUP BY 1"
            " WITH NO DATA"
        )
    place.rows("CREATE VIEW {s}.their_view AS SELECT * FROM {s}.dim__coin")
    project.check(market())
    project.revision(market(without=("agg__kline_5m",)))
    project.upgrade(market())
    left = [name for name, *_ in catalog(place)["relations"]]
    assert "their_view" in left
    assert ("theirs" in left) is (place.level == "community")
    assert "agg__kline_5m" not in left


def test_the_same_rows_on_every_level(none: Place, community: Place, project_on: Any) -> None:
    """Also after a refresh, after a late correction, and whatever the session's time zone is."""
    project: Project = project_on(community)
    project.start(market())
    elsewhere = Project(folder=project.folder, place=none)
    elsewhere.upgrade(market())
    fill(community, compressed=True)
    fill(none)
    assert len(rollups(none)["agg__kline_1d"]) == 38
    assert rollups(community) == rollups(none)
    for place in (none, community):
        place.rows("UPDATE {s}.fact__kline SET close = 1 WHERE open_time = '2024-01-19 03:09:00Z'")
    for name, width in (("5m", "5 minutes"), ("1h", "1 hour"), ("1d", "1 day")):
        community.rows(
            f"CALL refresh_continuous_aggregate('{{s}}.agg__kline_{name}', NULL,"
            f" time_bucket('{width}', TIMESTAMPTZ '2024-01-20'))"
        )
    assert rollups(community) == rollups(none)
    for place in (none, community):
        with place.connect() as connection:
            connection.execute("SET timezone = 'Asia/Seoul'")
            days = connection.execute(
                "SELECT extract(epoch FROM open_time)::bigint, close FROM market.agg__kline_1d"
                " ORDER BY coin_id, 1"
            ).fetchall()
        assert [day % 86_400 for day, _ in days] == [0] * 38
