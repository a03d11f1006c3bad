"""The tick runner around its work: settings, the bucket, the ledger of gaps, ``ravenwh up``."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import attrs
import psycopg
import pytest
from loguru import logger

from ravenwh.app.bucket import BucketWatch
from ravenwh.app.collecting import tell_guessed
from ravenwh.app.doctor import examine
from ravenwh.app.gaps import mart_gaps
from ravenwh.app.instruments import any_symbols, own_symbols
from ravenwh.app.seeding import init
from ravenwh.app.tick import run_tick, tick_collections
from ravenwh.app.up import STAGES
from ravenwh.config import load
from ravenwh.domain.errors import Rejected, SettingsError, Unavailable, UnknownSymbol
from ravenwh.domain.finding import Finding
from ravenwh.domain.register import Register
from ravenwh.domain.settings import Settings
from ravenwh.feed.control import Collection
from ravenwh.ports import Gap
from ravenwh.warehouse.seed import Pruning
from tests.acceptance.test_up import brought_up
from tests.app.test_doctor import programs
from tests.conftest import settings_for
from tests.engines.influx import InfluxBucket
from tests.engines.influx_shim import ALL
from tests.programs import free_ports

GAP = Gap(
    feed="f",
    topic=b"BINANCE_SPOT:TRADE:BTCUSDT ",
    epoch=1,
    first_seq=2,
    last_seq=5,
    missing=4,
    reason="not received",
    detected_at=1_704_067_200_000_000_000,
)


def in_settings(influx: InfluxBucket, **changes: object) -> str:
    """The keys of a bucket."""
    about = attrs.evolve(influx.settings, **changes)
    assert about.token is not None
    return f"""
        [influx]
        url = {json.dumps(about.url)}
        org = {json.dumps(about.org)}
        bucket = {json.dumps(about.bucket)}
        token = {json.dumps(about.token.reveal())}
        retention_days = {about.retention_days}
        batch_interval_ms = 50
    """


@pytest.fixture
def lines() -> Iterator[list[str]]:
    told: list[str] = []
    handler = logger.add(lambda line: told.append(str(line)), format="{message} {extra}")
    yield told
    logger.remove(handler)


async def test_without_a_token_it_does_not_start() -> None:
    with pytest.raises(SettingsError, match=r"influx\.token: found nothing; allowed: a token"):
        await run_tick(Settings(), None)  # type: ignore[arg-type]  # it does not come so far


def test_what_is_collected_from_the_start() -> None:
    added = ["BINANCE_SPOT:TRADE:BTC/USDT", "DERIBIT:ORDERBOOK:*", "OKX_SPOT:TRADE:BTC-USDT"]
    excluded = {"venue_exclude": ["DERIBIT"]}
    settings = Settings(ticks={"collect": added}, routing=excluded)  # type: ignore[arg-type]
    found = {str(collection) for collection in tick_collections(settings)}
    assert found == {
        "BINANCE_FUTURES:FUNDING:*",
        "BINANCE_FUTURES:LIQUIDATION:*",
        "BINANCE_FUTURES:OPEN_INTEREST:*",
        "BINANCE_OPTIONS:TICKER:*",
        "BINANCE_SPOT:TRADE:BTCUSDT",
        "OKX_SPOT:TRADE:BTC-USDT",
    }
    assert {str(c) for c in tick_collections(Settings())} >= {
        "DERIBIT:TICKER:*",
        "DERIBIT:TRADE:*",
        "DERIBIT:PRICE_INDEX:*",
    }
    unknown = Settings(ticks={"collect": ["NOWHERE:TRADE:BTC/USDT"]})  # type: ignore[arg-type]
    with pytest.raises(UnknownSymbol, match="NOWHERE has no symbol for BTC/USDT"):
        tick_collections(unknown)


def test_every_stream_without_a_feed_is_told_at_once() -> None:
    """TRADE falls back to the default; the other types do not."""
    routing = {"upstreams": {"default": "default", "DERIBIT:TICKER": "default"}}
    with pytest.raises(SettingsError) as raised:
        tick_collections(Settings(routing=routing))  # type: ignore[arg-type]  # as a file has it
    *problems, remedy = raised.value.problems
    assert [problem.partition(": found nothing")[0] for problem in problems] == [
        f'routing.upstreams."{name}"'
        for name in (
            "BINANCE_FUTURES:FUNDING",
            "BINANCE_FUTURES:LIQUIDATION",
            "BINANCE_FUTURES:OPEN_INTEREST",
            "BINANCE_OPTIONS:TICKER",
            "DERIBIT:PRICE_INDEX",
        )
    ]
    assert "routing.venue_exclude" in remedy


def test_symbols_need_no_series() -> None:
    wanted = {
        "DERIBIT": ("BTC-27DEC24-100000-C", "btc_usd"),
        "OKX_PERP": ("BTC-USDT-SWAP",),
        "NOWHERE": ("x",),
        "OKX_SPOT": None,
    }
    register = Register()
    assert any_symbols(wanted, register) == {
        venue: None if names is None else frozenset(names) for venue, names in wanted.items()
    }
    with pytest.raises(Rejected):
        own_symbols(wanted, register)


def test_whom_the_default_feed_stands_in_for_is_told(lines: list[str]) -> None:
    upstreams = {"default": "default", "OKX_SPOT": "default", "DERIBIT:TRADE": "default"}
    settings = Settings(routing={"upstreams": upstreams})  # type: ignore[arg-type]
    wanted = [
        Collection(venue, "TRADE", symbol)
        for venue in ("OKX_SPOT", "DERIBIT", "BINANCE_SPOT")
        for symbol in ("A", "B")
    ]
    tell_guessed(settings, wanted)
    (line,) = lines
    assert line.startswith("FEED_BY_DEFAULT")
    assert "BINANCE_SPOT" in line


async def test_gaps_are_noted_in_the_mart(mart_url: str) -> None:
    async with mart_gaps(settings_for(mart_url)) as ledger:
        await ledger.note([GAP])
        await ledger.note([GAP])
        await ledger.repaired([attrs.evolve(GAP, repaired_at=GAP.detected_at)])
    with psycopg.connect(mart_url.replace("+asyncpg", "")) as connection:
        query = "SELECT topic, missing, repaired_at IS NULL FROM mart.ops__feed_gap"
        rows = connection.execute(query).fetchall()
    assert rows == [("BINANCE_SPOT:TRADE:BTCUSDT", 4, False)]


async def test_gaps_wait_where_there_is_no_mart_or_no_table(
    database: str, lines: list[str]
) -> None:
    """What is wrong with the mart never ends a runner that has no other business with it."""
    for url, reason in (
        (database, "ravenwh alembic upgrade head"),
        ("postgresql+asyncpg://nobody@127.0.0.1:1/nothing", "cannot be reached"),
    ):
        lines.clear()
        async with mart_gaps(settings_for(url)) as ledger:
            for _ in range(2):
                with pytest.raises(Unavailable, match=reason):
                    await ledger.note([GAP])
        (line,) = lines
        assert line.startswith("GAPS_WAIT")


@pytest.fixture
def missing(influx: InfluxBucket) -> Iterator[InfluxBucket]:
    """A bucket that is not there yet."""
    if influx.influxd is None:
        pytest.skip("the buckets of a real version 2 are not ours to make at will")
    name = f"test_{uuid4().hex[:12]}"
    yield attrs.evolve(
        influx, settings=attrs.evolve(influx.settings, bucket=name, retention_days=3)
    )
    influx.influxd.query(f"DROP DATABASE {name}")


async def test_a_bucket_that_is_away_from_the_start_is_told(lines: list[str]) -> None:
    with closing(free_ports()) as free:
        url = f"http://127.0.0.1:{next(free)}"
    watch = BucketWatch(settings=Settings(influx={"url": url, "token": "a-token"}))  # type: ignore[arg-type]
    looking = asyncio.create_task(watch.keep_looking())
    async with asyncio.timeout(60):
        while (watch.trouble or "").startswith("starting"):  # noqa: ASYNC110  a thread looks
            await asyncio.sleep(0.01)
    looking.cancel()
    await asyncio.wait([looking])
    (line,) = lines
    assert line.startswith("SINK_UNAVAILABLE")
    assert url in line
    assert watch.trouble is not None
    assert url in watch.trouble


async def test_init_makes_the_bucket_and_doctor_looks_at_it(
    tmp_path: Path, mart_url: str, missing: InfluxBucket
) -> None:
    world = programs(tmp_path, mart_url, in_settings(missing))
    settings = load(world.settings_file, {})

    async def bucket(about: Settings) -> Finding:
        (found,) = (one for one in await examine(about) if one.check == "bucket")
        return found

    found = await bucket(settings)
    assert found.fatal
    assert found.remedy.startswith("python -m runners.init")
    done = await init(settings, pruning=Pruning(), dry_run=True)
    assert done.bucket == found

    may = missing.shim.tokens["token"]
    missing.shim.tokens["token"] = ALL - {"manage"}
    out, err = await world.run("runners.init", code=1)
    assert f"influx bucket create --name {missing.settings.bucket} --org test" in out
    assert "the bucket takes no points: mend it" in err
    assert "exchange: 2 added" in out  # the rest is done

    missing.shim.tokens["token"] = may
    out, _ = await world.run("runners.init")
    assert "is made, and keeps points for 3 days" in out
    assert (await bucket(settings)).found.endswith("takes points")

    longer = attrs.evolve(settings, influx=attrs.evolve(settings.influx, retention_days=4))
    found = await bucket(longer)
    assert (found.ok, found.fatal) == (False, False)
    assert "keeps points for 3 days, and should for 4 days" in found.found


async def test_doctor_tells_of_streams_without_a_feed(mart_url: str) -> None:
    """And of an InfluxDB that is not there, in the same run."""
    upstreams = {"BINANCE_SPOT:CANDLE": "default", "BINANCE_FUTURES:CANDLE": "default"}
    influx = {"url": "http://127.0.0.1:1", "token": "a-token"}
    settings = settings_for(mart_url, routing={"upstreams": upstreams}, influx=influx)
    found = {one.check: one for one in await examine(settings) if one.fatal}
    assert 'routing.upstreams."DERIBIT:PRICE_INDEX"' in found["streams"].found
    assert "start InfluxDB" in found["bucket"].remedy


async def test_init_does_not_begin_where_streams_have_no_feed(mart_url: str) -> None:
    upstreams = {"BINANCE_SPOT:CANDLE": "default", "BINANCE_FUTURES:CANDLE": "default"}
    influx = {"url": "http://127.0.0.1:1", "token": "a-token"}
    settings = settings_for(mart_url, routing={"upstreams": upstreams}, influx=influx)
    done = await init(settings, pruning=Pruning(), dry_run=True)
    assert [one.check for one in done.findings if one.fatal] == ["streams"]
    assert done.plans is None


async def test_ticks_that_cannot_be_written_for_want_of_a_token_are_told(
    tmp_path: Path, mart_url: str
) -> None:
    settings = settings_for(mart_url, ticks={"collect": ("BINANCE_SPOT:TRADE:*",)})
    (found,) = (one for one in await examine(settings) if one.check == "streams")
    assert (found.ok, found.fatal) == (False, False)
    assert "influx.token is not set" in found.found
    world = programs(
        tmp_path, "postgresql://nobody@127.0.0.1:1/mart", 'ticks.collect = ["OKX_SPOT:TRADE:*"]'
    )
    _, err = await world.run("ravenwh", "up", code=1)
    assert err.count("TICKS_NOT_WRITTEN") == 1


def test_up_starts_it_where_there_is_a_token() -> None:
    (tick,) = (service for stage in STAGES for service in stage if service.name == "tick")
    assert not tick.is_wanted(Settings())
    assert tick.is_wanted(Settings(influx={"token": "a-token"}))  # type: ignore[arg-type]


async def test_up_writes_ticks_and_bars_of_the_same_trades(
    tmp_path: Path, mart_url: str, influx: InfluxBucket, shared_data: Path
) -> None:
    """Whoever finds the publisher first, the other one misses nothing either."""
    with closing(free_ports()) as free:
        ports = {"replay_port": next(free), "make_bars_port": next(free)}
    further = f"""
        {in_settings(influx, retention_days=0)}
        [feeds.default]
        endpoint = "ipc://{tmp_path}/feed"
        control = "tcp://127.0.0.1:{ports["replay_port"]}"
        [feeds.bars]
        endpoint = "ipc://{tmp_path}/bars"
        control = "tcp://127.0.0.1:{ports["make_bars_port"]}"
        [ticks]
        collect = ["BINANCE_FUTURES:TRADE:BTC/USDT"]
        [bars]
        feed = "bars"
        profiles.tib_small = {{ expected_ticks = 400, least_imbalance = 0.05 }}
    """
    world = programs(tmp_path, mart_url, further, **ports)
    trades = ("--data", str(shared_data / "trades_vision" / "um"), "--venue", "BINANCE_FUTURES")
    async with brought_up(world, "--once", *trades) as up:
        assert await up.end() == 0, up.err
    for name in ("tick", "make_bars"):
        assert re.search(rf"{name} +\| .*RUNNER_STOPPED .*received=21313 recovered=0 ", up.out), (
            name
        )
    assert influx.count() == 21_313
