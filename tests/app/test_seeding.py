"""Seeding by the programs: what waits for another, and what a runner does not start with."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec
import psycopg
import pytest

from ravenwh.app import seeding
from ravenwh.domain.errors import Unavailable
from ravenwh.warehouse.seed import LOCK, Pruning
from tests.acceptance.test_kline_way import kline
from tests.app.test_doctor import programs
from tests.conftest import settings_for
from tests.programs import Runner, ended, free_ports
from tests.publish import publish_to


async def test_a_runner_that_waits_for_a_seeding_can_be_stopped(
    tmp_path: Path, mart_url: str
) -> None:
    world = programs(tmp_path, mart_url)
    with psycopg.connect(mart_url.replace("+asyncpg", "")) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        process = await world.start("runners.kline")
        async with ended(process):
            runner = Runner(process=process, metrics_port=0)
            await runner.until(lambda log: "another seeding is at work" in log)
            await runner.stop()


async def test_init_waits_for_another_seeding_but_not_for_ever(
    mart_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "OTHERS_MAY_TAKE_S", 0.3)
    with psycopg.connect(mart_url.replace("+asyncpg", "")) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        with closing(free_ports()) as free:
            server = {"kline_port": next(free)}
        settings = settings_for(mart_url, server=server)
        with pytest.raises(Unavailable, match=r"still at work after 0\.3 s.* run this again"):
            await seeding.init(settings, pruning=Pruning(), dry_run=False)


async def test_a_runner_does_not_start_with_another_meaning_of_what_is_stored(
    tmp_path: Path, mart_url: str
) -> None:
    endpoint = f"ipc://{tmp_path}/feed"
    feed = f'feeds.default.endpoint = "{endpoint}"'
    async with programs(tmp_path, mart_url, feed).kline_runner() as runner:
        pepe = msgspec.structs.replace(kline("1000PEPEUSDT", 0), venue="BINANCE_FUTURES")
        await publish_to(endpoint, [pepe])
        await runner.until(lambda log: "BATCH_WRITTEN written=1" in log)
    other = (
        'routing.symbol_map = { "KPEPE/USDT" = { BINANCE_FUTURES = '
        '{ symbol = "1000PEPEUSDT", multiplier = 1 } } }'
    )
    for program in ("runners.kline", "runners.init"):
        _, err = await programs(tmp_path, mart_url, other).run(program, code=1)
        assert "BINANCE_FUTURES:1000PEPEUSDT is PEPE/USDT with multiplier 1000" in err
        assert "KPEPE/USDT with multiplier 1 " in err
        assert "Traceback" not in err
