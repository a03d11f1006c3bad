"""On a Citus cluster: dimensions whole on every node, the fact in shards, rollups as views."""

from __future__ import annotations

from typing import Any

import pytest
from alembic.util import CommandError

from tests.timescale.models import market
from tests.timescale.project import Place, Project
from tests.timescale.state import fill, rollups


def test_up_clean_and_down(citus: Place, none: Place, project_on: Any) -> None:
    project: Project = project_on(citus)
    models = market(citus.schema)
    project.start(models)
    project.check(models)
    assert "level citus" in project.said[0]
    assert citus.rows(
        "SELECT table_name::text, citus_table_type, distribution_column FROM citus_tables"
        " WHERE table_name::text LIKE '{s}.%' ORDER BY 1"
    ) == [
        (f"{citus.schema}.dim__coin", "reference", "<none>"),
        (f"{citus.schema}.dim__quote", "reference", "<none>"),
        (f"{citus.schema}.fact__kline", "distributed", "coin_id"),
    ]
    fill(citus)
    elsewhere = Project(folder=project.folder, place=none, options={"schema": "market"})
    elsewhere.upgrade(models)
    fill(none)
    assert rollups(citus) == rollups(none)
    with pytest.raises(CommandError, match="cannot share a database"):
        project.check(models, engine="community")
    changed = market(citus.schema, extra=("agg__kline_1h",))
    project.revision(changed)
    project.upgrade(changed)
    project.check(changed)
    project.downgrade(models, "base")
