"""Bars that can be no row: dead letters that say why, while the others are written."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import psycopg

from ravenwh.journal import Store
from tests.programs import Programs
from tests.publish import publish_to
from tests.warehouse.bars import PARAMETERS, bar, bucket
from tests.warehouse.conftest import candle


async def test_refused_bars_are_dead_letters_that_say_why(tmp_path: Path, mart_url: str) -> None:
    endpoint = f"ipc://{tmp_path}/bars"
    programs = Programs(folder=tmp_path).configure(
        f"""
        timescale.url = {json.dumps(mart_url)}
        journal.dir = "journal"
        binance_klines.venues = ["BINANCE_FUTURES"]
        routing.upstreams = {{ default = "bars" }}
        [feeds.bars]
        endpoint = "{endpoint}"
        [bars]
        feed = "bars"
        symbols = ["BTC/USDT"]
        """
    )
    other = PARAMETERS | {"expected_ticks": 500}
    sent = [
        bar(0, profile="renko_10"),
        bar(1),
        bar(2, parameters_hash="b2", parameters=other),
        bar(3, profile="tib_silent", parameters=None),
        candle(0, venue="BINANCE_FUTURES"),  # a kline is none of its business
        bar(4, parameters_hash=None, parameters=None),
        bar(5, theta=float("nan")),
        bucket(6),
    ]
    async with programs.runner("bar") as runner:
        await publish_to(endpoint, sent)
        await runner.until(lambda log: log.count("written=1 ") + 2 * log.count("written=2 ") >= 2)
    with closing(Store(tmp_path / "journal" / "bar.sqlite")) as store:
        letters = store.dead_letters()
    assert [letter.code for letter in letters] == [
        "UNKNOWN_KIND",
        "PROFILE_CHANGED",
        "UNKNOWN_PROFILE",
        "NOT_A_BAR",
        "NOT_FINITE",
    ]
    assert letters[0].reason == (
        "profile 'renko_10' is of no kind that there is a table for; allowed are tib_..., trb_..., "
        "vib_..., vpin_..."
    )
    assert "give changed parameters another name" in letters[1].reason
    with psycopg.connect(mart_url.replace("+asyncpg", "")) as connection:
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM mart.fact__tick_imbalance),"
            " (SELECT count(*) FROM mart.fact__vpin)"
        ).fetchall()
    assert counts == [(1, 1)]
