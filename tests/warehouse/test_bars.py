"""What bars become in their tables, what stands of their profiles, and what a read gives back."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.errors import Refused, Rejected, UnknownName
from ravenwh.domain.instrument import Contract, Instrument, VolumeUnit
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.features import KINDS
from ravenwh.schema import BARS, DIMENSIONS
from ravenwh.warehouse.bar_sink import BarSink
from ravenwh.warehouse.bars import BAR_FACTS
from ravenwh.warehouse.read import Warehouse
from tests.conftest import engine_on
from tests.warehouse.bars import MILLISECOND, PARAMETERS, bar, bucket
from tests.warehouse.conftest import START, candle

INTERVALS = next(d.table for d in DIMENSIONS if d.name == "interval")


@pytest.fixture
def sink(mart: AsyncEngine) -> BarSink:
    return BarSink.into_all(mart, Register())


@pytest.fixture
def wh(mart_url: str) -> Iterator[Warehouse]:
    with Warehouse(mart_url.replace("+asyncpg", "")) as warehouse:
        yield warehouse


async def stored(engine: AsyncEngine, fact: str) -> Sequence[sa.Row[Any]]:
    table = BARS[fact]
    async with engine.connect() as connection:
        return (await connection.execute(sa.select(table).order_by(*table.primary_key))).all()


async def profiles(engine: AsyncEngine) -> dict[str, sa.Row[Any]]:
    async with engine.connect() as connection:
        found = await connection.execute(sa.select(INTERVALS))
    return {row.interval: row for row in found}


def codes(result: Any) -> list[tuple[int, str]]:
    return [(index, error.code) for index, error in result.rejected]


def test_there_is_a_fact_for_each_kind_of_bars_that_are_made() -> None:
    assert BAR_FACTS.keys() == KINDS.keys()
    assert {fact.name for fact in BAR_FACTS.values()} == BARS.keys()


async def test_each_kind_has_its_fact_and_every_value(sink: BarSink, mart: AsyncEngine) -> None:
    names = ("tib_small", "trb_x", "vib_x")
    batch = [bar(profile=name, theta=float(n)) for n, name in enumerate(names)]
    result = await sink.write([*batch, bucket()])
    assert (result.written, result.rejected) == (4, ())
    facts = ("tick_imbalance", "tick_run", "volume_imbalance")
    assert [[row.theta for row in await stored(mart, fact)] for fact in facts] == [[0], [1], [2]]
    (row,) = await stored(mart, "tick_imbalance")
    opened = datetime(2024, 1, 1, tzinfo=UTC)
    assert (row.open_time, row.bar_seq) == (opened, 0)
    assert (row.close_time - opened).total_seconds() == 0.005
    assert row.event_time == row.close_time
    assert (row.open, row.high, row.low, row.close, row.volume) == (100, 110, 90, 105, 12.5)
    assert (row.buy_ticks, row.sell_ticks, row.total_ticks, row.after_gap) == (61, 19, 80, False)
    assert (row.source, row.revised_at) == ("stream", None)
    (row,) = await stored(mart, "vpin")
    assert (row.vpin, row.buy_volume, row.sell_volume) == (0.25, 8.0, 4.5)


async def test_bars_that_open_in_one_millisecond_all_survive(
    sink: BarSink, mart: AsyncEngine
) -> None:
    runs = [bar(0, seq, profile="trb_x", theta=10.0 + seq) for seq in range(3)]
    result = await sink.write([*runs, *runs])
    assert (result.written, result.folded) == (3, 3)
    assert (await sink.write(runs[1:])).unchanged == 2
    assert [row.theta for row in await stored(mart, "tick_run")] == [10.0, 11.0, 12.0]


async def test_every_order_of_arrival_ends_in_the_same_row(mart: AsyncEngine) -> None:
    versions = [
        bar(),
        bar(close=106.0, event_time=START + 9 * MILLISECOND),
        bar(after_gap=True, event_time=START + 9 * MILLISECOND),
        bar(volume=13.0, close_time=START + 6 * MILLISECOND, event_time=START + 9 * MILLISECOND),
    ]
    compared = [c for c in BARS["tick_imbalance"].c if c.name not in ("ingested_at", "revised_at")]
    ends = set()
    for order in itertools.permutations(versions):
        for batch in ([[version] for version in order], [order]):
            sink = BarSink.into_all(mart, Register())
            for part in batch:
                await sink.write(part)
            async with mart.begin() as connection:
                ends.update((await connection.execute(sa.select(*compared))).all())
                await connection.execute(sa.delete(BARS["tick_imbalance"]))
    assert len(ends) == 1


async def test_a_profile_stands_in_the_mart_with_its_parameters(
    sink: BarSink, mart: AsyncEngine
) -> None:
    await sink.write([bar(), bar(1)])
    row = (await profiles(mart))["tib_small"]
    assert (row.parameters, row.parameters_hash) == (PARAMETERS, "a1")
    assert (row.duration, row.origin, row.is_deleted) == (None, "feed", False)
    # as they came back from the table, they are the same still
    again = BarSink.into_all(mart, Register())
    assert (await again.write([bar(2), bar(3, parameters=None)])).written == 2


async def test_the_same_name_with_another_hash_is_refused(sink: BarSink, mart: AsyncEngine) -> None:
    await sink.write([bar()])
    other = {"parameters_hash": "b2", "parameters": PARAMETERS | {"expected_ticks": 500}}
    mixed = [bar(1, **other), bar(2), bar(3, **other, symbol="ETHUSDT")]
    for each in (sink, BarSink.into_all(mart, Register())):
        result = await each.write(mixed)
        assert codes(result) == [(0, "PROFILE_CHANGED"), (2, "PROFILE_CHANGED")]
        text = str(result.rejected[0][1])
        assert "give changed parameters another name" in text
        assert "expected_ticks 400" in text
        assert "expected_ticks 500" in text
    assert (await sink.write([bar(4, profile="tib_other", **other)])).written == 1
    found = await profiles(mart)
    assert found["tib_small"].parameters_hash == "a1"
    assert found["tib_other"].parameters_hash == "b2"


async def test_of_two_hashes_in_one_batch_the_first_has_the_name(
    sink: BarSink, mart: AsyncEngine
) -> None:
    result = await sink.write([bar(), bar(1, parameters_hash="b2"), bar(2)])
    assert result.written == 2
    assert codes(result) == [(1, "PROFILE_CHANGED")]


async def test_other_parameters_under_the_same_hash_are_refused(
    sink: BarSink, mart: AsyncEngine
) -> None:
    other = bar(1, parameters=PARAMETERS | {"least": 0.25})
    result = await sink.write([bar(), other])
    assert codes(result) == [(1, "OTHER_PARAMETERS")]
    assert codes(await BarSink.into_all(mart, Register()).write([other])) == [
        (0, "OTHER_PARAMETERS")
    ]
    assert (await profiles(mart))["tib_small"].parameters == PARAMETERS


async def test_an_unknown_profile_needs_its_parameters_once(
    sink: BarSink, mart: AsyncEngine
) -> None:
    silent = bar(parameters=None)
    result = await sink.write([silent])
    assert codes(result) == [(0, "UNKNOWN_PROFILE")]
    assert "have its publisher send them" in str(result.rejected[0][1])
    assert (await profiles(mart)) == {}
    # what was refused is not remembered, and in one batch the order does not matter
    assert (await sink.write([silent, bar(1)])).written == 2
    assert (await sink.write([bar(2, parameters=None)])).written == 1


async def test_a_soft_deleted_profile_comes_back_but_never_as_another(
    sink: BarSink, mart: AsyncEngine
) -> None:
    await sink.write([bar()])
    async with mart.begin() as connection:
        await connection.execute(
            sa.update(INTERVALS).values(is_deleted=True, deleted_date=sa.func.now(), origin="seed")
        )
    assert codes(await sink.write([bar(1, parameters_hash="b2")])) == [(0, "PROFILE_CHANGED")]
    assert (await profiles(mart))["tib_small"].is_deleted
    assert (await sink.write([bar(1)])).written == 1
    row = (await profiles(mart))["tib_small"]
    assert (row.is_deleted, row.origin) == (False, "feed")


async def test_two_writers_with_the_same_new_profile_at_once(mart_url: str) -> None:
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(engine_on(mart_url)) for _ in range(4)]
        sinks = [BarSink.into_all(engine, Register()) for engine in engines]
        batch = [bar(profile=f"tib_{name}") for name in "abcde"]
        results = await asyncio.gather(*(sink.write(batch) for sink in sinks))
        assert sum(result.written for result in results) == 5
        assert sum(result.unchanged for result in results) == 15
        assert len(await profiles(engines[0])) == 5


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (bar(1, profile="renko_10"), "UNKNOWN_KIND"),
        (bar(1, profile="tick"), "UNKNOWN_KIND"),
        (bar(1, parameters_hash=None, parameters=None), "NOT_A_BAR"),
        (bar(1, theta=None), "NOT_A_BAR"),
        (bucket(1, sell_volume=None), "NOT_A_BAR"),
        (bar(1, closed=False), "NOT_CLOSED"),
        (bar(1, open_time=1_704_067_200_000), "BAD_TIME"),
        (bar(1, close_time=START), "BAD_TIME"),
        (bar(1, event_time=2**62), "BAD_TIME"),
        (bar(1, -1), "BAD_SEQ"),
        (bar(1, 2**31), "BAD_SEQ"),
        (bar(1, theta=float("nan")), "NOT_FINITE"),
        (bar(1, volume=float("inf")), "NOT_FINITE"),
        (bar(1, high=99.0), "BAD_OHLC"),
        (bar(1, volume=-1.0), "BAD_VOLUME"),
        (bucket(1, vpin=1.5), "BAD_VOLUME"),
        (bucket(1, buy_volume=-0.5), "BAD_VOLUME"),
        (bar(1, buy_ticks=-1), "BAD_TICKS"),
        (bar(1, profile="tib_new", parameters={"least": float("inf")}), "BAD_PARAMETERS"),
        (bar(1, profile="tib_new", parameters={"a": "x" * 20_000}), "BAD_PARAMETERS"),
        (bar(1, profile="tib_new", parameters={"a": "\0"}), "BAD_PARAMETERS"),
        (bar(1, profile="tib_\0"), "BAD_NAME"),
        (bar(1, parameters_hash=""), "BAD_NAME"),
        (bar(1, symbol="nonsense"), "UNKNOWN_SYMBOL"),
    ],
)
async def test_what_can_never_be_a_row_is_rejected_alone(
    sink: BarSink, mart: AsyncEngine, changed: Candle, code: str
) -> None:
    result = await sink.write([bar(0), changed, bar(2)])
    assert codes(result) == [(1, code)]
    assert result.written == 2
    (error,) = (error for _, error in result.rejected)
    assert isinstance(error, Rejected)
    assert "tib_new" not in await profiles(mart)


def perpetual(unit: VolumeUnit, multiplier: float = 1.0) -> Register:
    return Register(
        listings=(
            Instrument(
                exchange="BINANCE_FUTURES",
                symbol="BTCUSDT",
                coin="BTC",
                quote="USDT",
                contract=Contract.PERPETUAL,
                multiplier=multiplier,
                volume_unit=unit,
            ),
        )
    )


async def test_volumes_are_turned_into_coins_or_refused(mart: AsyncEngine) -> None:
    of_coins = BarSink.into_all(mart, perpetual(VolumeUnit(kind="contract", size=0.5, of="coin")))
    await of_coins.write([bar(), bar(profile="vib_x", theta=-8.0), bucket()])
    (tib,) = await stored(mart, "tick_imbalance")
    (vib,) = await stored(mart, "volume_imbalance")
    (vpin,) = await stored(mart, "vpin")
    assert (tib.volume, tib.theta) == (6.25, 42.0)
    assert (vib.volume, vib.theta) == (6.25, -4.0)
    assert (vpin.vpin, vpin.buy_volume, vpin.sell_volume) == (0.25, 4.0, 2.25)
    dollars = VolumeUnit(kind="contract", size=1.0, of="quote")
    of_dollars = BarSink.into_all(mart, perpetual(dollars))
    result = await of_dollars.write([bar(1), bar(1, profile="vib_x"), bucket(1)])
    assert codes(result) == [(1, "NOT_IN_COINS"), (2, "NOT_IN_COINS")]
    assert (await stored(mart, "tick_imbalance"))[1].volume is None


async def test_a_read_gives_bars_with_their_parameters(sink: BarSink, wh: Warehouse) -> None:
    await sink.write([bar(at, seq) for at, seq in ((2, 0), (0, 1), (0, 0), (1, 0))])
    series = ("BTC", "USDT", "BINANCE_FUTURES", "tib_small")
    frames = wh.bars("tick_imbalance", *series)
    pandas, arrow, polars = frames.pandas(), frames.arrow(), frames.polars()
    assert pandas.index.name == "open_time"
    assert list(pandas["bar_seq"]) == [0, 1, 0, 0]
    assert list(pandas.columns) == polars.columns[1:] == arrow.column_names[1:]
    assert list(pandas.columns) == [
        *("bar_seq", "close_time", "open", "high", "low", "close", "volume"),
        *("buy_ticks", "sell_ticks", "total_ticks", "after_gap", "theta"),
    ]
    told = {"profile": "tib_small", "parameters": PARAMETERS, "parameters_hash": "a1"}
    assert pandas.attrs == told
    assert {k.decode(): json.loads(v) for k, v in arrow.schema.metadata.items()} == told
    part = wh.bars("tick_imbalance", *series, "2024-01-01T00:00:00.001", "2024-01-01T00:00:00.002")
    assert len(part.pandas()) == 1
    assert "source" in wh.bars("tick_imbalance", *series, provenance=True).arrow().column_names


async def test_numbers_are_of_one_coin_unless_raw(mart: AsyncEngine, wh: Warehouse) -> None:
    batch = [bar(profile="vib_x", theta=-8.0), bucket()]
    pepe = [msgspec.structs.replace(one, symbol="1000PEPEUSDT") for one in batch]
    await BarSink.into_all(mart, Register()).write(pepe)
    series = ("PEPE", "USDT", "BINANCE_FUTURES")
    one = wh.bars("volume_imbalance", *series, "vib_x").arrow().to_pylist()[0]
    raw = wh.bars("volume_imbalance", *series, "vib_x", raw=True).arrow().to_pylist()[0]
    assert (raw["close"], raw["volume"], raw["theta"]) == (105.0, 12.5, -8.0)
    assert (one["close"], one["volume"], one["theta"]) == (0.105, 12_500.0, -8_000.0)
    vpin = wh.bars("vpin", *series, "vpin_btc").arrow().to_pylist()[0]
    assert (vpin["vpin"], vpin["buy_volume"], vpin["sell_volume"]) == (0.25, 8_000.0, 4_500.0)


async def test_a_wrong_kind_or_profile_is_told(sink: BarSink, wh: Warehouse) -> None:
    await sink.write([bar()])
    series = ("BTC", "USDT", "BINANCE_FUTURES")
    with pytest.raises(Refused, match="kind: found 'tib', allowed are tick_imbalance, tick_run"):
        wh.bars("tib", *series, "tib_small")
    with pytest.raises(Refused, match="tib_small makes bars of the kind tick_imbalance, not vpin"):
        wh.bars("vpin", *series, "tib_small")
    with pytest.raises(Refused, match=r"1m is none of tick_imbalance: .* begin with tib_"):
        wh.bars("tick_imbalance", *series, "1m")
    with pytest.raises(UnknownName, match="did you mean tib_small"):
        wh.bars("tick_imbalance", *series, "tib_smal").arrow()


async def test_a_kline_is_no_bar(sink: BarSink) -> None:
    assert codes(await sink.write([candle()])) == [(0, "UNKNOWN_KIND")]
