"""The main job on the embedded server, and kill -9 of every process of that server."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from ravenwh.embedded import EmbeddedPostgres
from tests.acceptance.test_kline_way import kline
from tests.embedded.test_kills import kill_everything
from tests.programs import Programs
from tests.publish import publish_to
from tests.servers import open_folder


@pytest.fixture
def world(tmp_path: Path) -> Programs:
    return Programs(folder=tmp_path)


async def test_a_killed_server_keeps_what_was_acknowledged_and_the_runner_brings_it_back(
    world: Programs,
) -> None:
    with open_folder() as folder:
        root, endpoint = folder / "pg", f"ipc://{world.folder}/feed"
        world.configure(
            f'embedded.data_dir = "{root}"\njournal.dir = "journal"\n'
            f'feeds.default.endpoint = "{endpoint}"\n'
        )
        await world.run("ravenwh", "alembic", "upgrade", "head")
        async with world.kline_runner() as runner:
            await publish_to(endpoint, [kline("BTCUSDT", n) for n in range(500)])
            await runner.until(lambda log: written(log) == 500)
            kill_everything(root)
            with EmbeddedPostgres(root=root) as server:  # before the runner has noticed
                assert count(server) == 500
                kill_everything(root)
            await publish_to(endpoint, [kline("BTCUSDT", n) for n in range(500, 700)])
            await runner.until(lambda log: "SINK_UNAVAILABLE" in log)
            await runner.until(lambda log: written(log) == 700)
        with EmbeddedPostgres(root=root) as server:
            assert count(server) == 700


def written(log: str) -> int:
    """How many rows the runner has told of, in however many batches."""
    return sum(map(int, re.findall(r"BATCH_WRITTEN written=(\d+)", log)))


def count(server: EmbeddedPostgres) -> int:
    """How many klines there are."""
    with psycopg.connect(server.libpq_url) as connection:
        row = connection.execute("SELECT count(*) FROM mart.fact__kline").fetchone()
        assert row is not None
        return int(row[0])
