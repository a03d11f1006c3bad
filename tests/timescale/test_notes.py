"""What a revision tells its reader about aggregates on rows that are there already."""

from __future__ import annotations

from typing import Any

import pytest

from ravenwh.timescale import Refresh
from tests.timescale.models import market
from tests.timescale.project import Place, Project

NOTE = "# refresh all of it: "


def upgrade_in(text: str) -> str:
    """The upgrade of a revision, its comments in one line each."""
    return text.partition("def downgrade")[0].replace("\n    # ", " ")


def test_a_rollup_of_new_tables_needs_no_refresh(none: Place, project_on: Any) -> None:
    assert NOTE not in project_on(none).revision(market())


@pytest.mark.parametrize("before", [("agg__kline_1d",), ()])
def test_a_rollup_of_tables_with_rows_does(
    none: Place, project_on: Any, before: tuple[str, ...]
) -> None:
    """Whether it is new or made again."""
    project: Project = project_on(none)
    project.start(market(without=before))
    after = market() if before else market(extra=("agg__kline_1h",))
    text = upgrade_in(project.revision(after))
    made = text.count("op.create_continuous_aggregate(")
    assert made == (1 if before else 2)
    assert text.count("once its policy has run, which is soon, older buckets are hidden") == made


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"refresh": None}, "right but slower before"),
        ({"refresh": Refresh("2 days", "1 hour", "1 hour"), "materialized_only": True}, "nothing"),
    ],
)
def test_what_it_shows_meanwhile(
    none: Place, project_on: Any, declared: dict[str, Any], told: str
) -> None:
    project: Project = project_on(none)
    project.start(market(without=("agg__kline_1h", "agg__kline_1d", "kline_1h")))
    final = market(without=("agg__kline_1d", "kline_1h"), aggregate={"agg__kline_1h": declared})
    assert told in upgrade_in(project.revision(final))


def test_what_the_note_says_is_so(community: Place, project_on: Any) -> None:
    """A policy that has run hides what it did not reach, until a refresh of everything."""
    project: Project = project_on(community)
    project.start(market(without=("agg__kline_1h", "agg__kline_1d", "kline_1h")))
    community.rows(
        "INSERT INTO {s}.dim__coin (coin) VALUES ('BTC');"
        "INSERT INTO {s}.dim__quote (quote) VALUES ('USDT');"
        "INSERT INTO {s}.fact__kline SELECT 1, 1, t, 1, 1, 1, 1, 1"
        " FROM unnest(ARRAY[TIMESTAMPTZ '2024-01-01', now() - INTERVAL '5 hours']) AS t"
    )
    project.revision(market())
    project.upgrade(market())
    shown = "SELECT count(*) FROM {s}.agg__kline_1h"
    ((job,),) = community.rows(
        "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = 'agg__kline_1h'"
        " AND proc_name = 'policy_refresh_continuous_aggregate'"
    )
    community.rows(f"CALL run_job({job})")
    assert community.rows(shown) == [(1,)]
    community.rows(
        "CALL refresh_continuous_aggregate('{s}.agg__kline_1h', NULL, time_bucket('1 hour', now()))"
    )
    assert community.rows(shown) == [(2,)]
