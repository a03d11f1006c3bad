"""A password that is changed while a runner runs."""

from __future__ import annotations

from pathlib import Path

import psycopg
import sqlalchemy as sa
from psycopg import sql

from tests.acceptance.test_kline_way import kline
from tests.app.test_doctor import programs
from tests.programs import Runner
from tests.publish import publish_to


def use(owner: psycopg.Connection[tuple[object, ...]], password: str) -> None:
    """Give the role another password, and end its connections."""
    owner.execute(sql.SQL("ALTER ROLE writer PASSWORD {}").format(password))
    owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'writer'")


async def test_a_rotated_password_is_read_again(tmp_path: Path, mart_url: str) -> None:
    secret = tmp_path / "password"
    secret.write_text("first\n")
    server = sa.make_url(mart_url)
    address = f"postgresql://writer@{server.host}:{server.port}/{server.database}"
    endpoint = f"ipc://{tmp_path}/feed"
    world = programs(
        tmp_path,
        address,
        f'timescale.password_file = "password"\nfeeds.default.endpoint = "{endpoint}"',
    )

    async def written(runner: Runner, minute: int) -> None:
        runner.log = ""
        await publish_to(endpoint, [kline("BTCUSDT", minute)])
        await runner.until(lambda log: "BATCH_WRITTEN written=1" in log)

    with psycopg.connect(mart_url.replace("+asyncpg", ""), autocommit=True) as owner:
        owner.execute("CREATE ROLE writer LOGIN PASSWORD 'first'")
        owner.execute("GRANT USAGE ON SCHEMA mart TO writer")
        owner.execute("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA mart TO writer")
        try:
            async with world.kline_runner() as runner:
                await written(runner, 0)
                use(owner, "second")
                before = len(runner.log)
                await publish_to(endpoint, [kline("BTCUSDT", 1)])
                await runner.until(lambda log: "password authentication failed" in log)
                secret.write_text("second\n")
                await runner.until(lambda log: "BATCH_WRITTEN written=1" in log[before:])
                assert "first" not in runner.log
                assert "second" not in runner.log
                await written(runner, 2)
            count = owner.execute("SELECT count(*) FROM mart.fact__kline").fetchone()
            assert count == (3,)
        finally:
            owner.execute("DROP OWNED BY writer")
            owner.execute("DROP ROLE writer")
