"""Charts of frames that were read from a mart: every row is drawn where it belongs."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import ravenwh
from ravenwh.domain.errors import Refused
from ravenwh.domain.frames import Frames
from ravenwh.domain.register import Register
from ravenwh.domain.series import TimeRange
from ravenwh.features import Chain, Profile, TickImbalance, TickRun, Vpin, to_candle
from ravenwh.plot.chart import DOWN, MOST, PRICES, UP, chart
from ravenwh.sources.simulator import SimulatedMarket
from ravenwh.warehouse.bar_sink import BarSink
from ravenwh.warehouse.read import Warehouse
from tests.conftest import engine_on
from tests.servers import PgServer
from tests.warehouse.conftest import kline_sink

START = datetime(2024, 1, 1, tzinfo=UTC)
SPAN = TimeRange(start=START, end=START + timedelta(hours=2))
MARKET = SimulatedMarket(symbol="BTCUSDT")
MICROSECOND = np.timedelta64(1, "us")
NAMES = ("BTC", "USDT", "BINANCE_SPOT")
PROFILES: Mapping[str, tuple[str, Profile]] = {
    "tib_x": ("tick_imbalance", TickImbalance(expected_ticks=100)),
    "trb_x": ("tick_run", TickRun(expected_ticks=100)),
    "vpin_x": ("vpin", Vpin(bucket_volume=1.0, buckets=20)),
}


@pytest.fixture(scope="module")
def wh(pg_server: PgServer, mart_template: str) -> Iterator[Warehouse]:
    """Two hours of klines and bars; trades may be missing before the tenth bar."""
    with pg_server.fresh_database(template=mart_template) as name:
        asyncio.run(fill(pg_server.url(name)))
        with Warehouse(pg_server.url(name, driver="")) as warehouse:
            yield warehouse


async def fill(url: str) -> None:
    async with engine_on(url) as engine:
        await kline_sink(engine, Register()).write(list(MARKET.klines("1m", SPAN)))
        for name, (_, profile) in PROFILES.items():
            chain, candles = Chain(profile), []
            for trade in MARKET.trades(SPAN):
                bar = chain.push(trade)
                if bar is None:
                    continue
                candles.append(
                    to_candle(
                        bar,
                        profile=profile,
                        name=name,
                        venue=MARKET.venue,
                        symbol=MARKET.symbol,
                        producer="",
                    )
                )
                if len(candles) == 9:
                    chain.note_gap()
            await BarSink.into_all(engine, Register()).write(candles)


def bars(wh: Warehouse, profile: str) -> Frames:
    return wh.bars(PROFILES[profile][0], *NAMES, profile)


def traces(frames: Frames) -> dict[str, Any]:
    """By name; the figure must be one that can be sent to a browser."""
    figure = chart(frames)
    assert json.loads(figure.to_json())["data"]
    return {trace.name: trace for trace in figure.data}


@pytest.mark.parametrize("profile", [None, "tib_x", "trb_x", "vpin_x"])
def test_each_row_is_drawn_from_open_to_close_and_as_wide_as_it_lasted(
    wh: Warehouse, profile: str | None
) -> None:
    frames = wh.klines(*NAMES, "1m") if profile is None else bars(wh, profile)
    frame, drawn = frames.pandas(), traces(frames)
    bodies, wicks = drawn["open to close"], drawn["low to high"]
    assert len(frame) == len(bodies.x) >= 15
    assert list(bodies.base) == frame["open"].tolist()
    assert list(bodies.y) == pytest.approx((frame["close"] - frame["open"]).tolist())
    for n, (at, row) in enumerate(frame.iterrows()):
        closes = row.close_time if profile else at + timedelta(minutes=1)
        assert bodies.width[n] == pytest.approx((closes - at).total_seconds() * 1000)
        middle = (at + (closes - at) / 2).tz_localize(None)
        assert abs(bodies.x[n] - middle.to_datetime64()) <= MICROSECOND
        assert wicks.x[3 * n] == wicks.x[3 * n + 1] == bodies.x[n]
        assert wicks.y[3 * n : 3 * n + 2] == (row.low, row.high)
        assert bodies.marker.color[n] == (UP if row.close >= row.open else DOWN)
    assert f"close {frame['close'].iloc[0]}" in bodies.hovertext[0]


def test_below_klines_is_their_volume(wh: Warehouse) -> None:
    frames = wh.klines(*NAMES, "1m", "2024-01-01T00:10", "2024-01-01T00:20")
    drawn = traces(frames)
    assert list(drawn["volume"].y) == frames.pandas()["volume"].tolist()
    assert drawn["volume"].marker.color == drawn["open to close"].marker.color
    assert drawn.keys() == {"low to high", "open to close", "volume"}
    assert len(traces(wh.klines(*NAMES, "1m", "2024-01-01", "2024-01-01T00:01"))["volume"].y) == 1


def test_below_imbalance_bars_is_theta_by_its_sign(wh: Warehouse) -> None:
    frame, theta = bars(wh, "tib_x").pandas(), traces(bars(wh, "tib_x"))["theta"]
    assert list(theta.y) == frame["theta"].tolist()
    assert list(theta.marker.color) == [UP if value > 0 else DOWN for value in frame["theta"]]
    assert {UP, DOWN} == set(theta.marker.color)


def test_below_run_bars_is_theta_by_the_side_that_it_counts(wh: Warehouse) -> None:
    frame, theta = bars(wh, "trb_x").pandas(), traces(bars(wh, "trb_x"))["theta"]
    more_bought = frame["buy_ticks"] >= frame["sell_ticks"]
    assert list(theta.marker.color) == [UP if bought else DOWN for bought in more_bought]
    assert {UP, DOWN} == set(theta.marker.color)


def test_below_buckets_is_vpin_where_each_ended(wh: Warehouse) -> None:
    frame, vpin = bars(wh, "vpin_x").pandas(), traces(bars(wh, "vpin_x"))["vpin"]
    assert list(vpin.y) == frame["vpin"].tolist()
    assert list(vpin.x) == list(frame["close_time"].dt.tz_localize(None).to_numpy())


def test_a_cross_is_over_a_bar_after_a_gap(wh: Warehouse) -> None:
    frame, gaps = bars(wh, "tib_x").pandas(), traces(bars(wh, "tib_x"))["after a gap"]
    assert list(gaps.y) == [frame["high"].iloc[9]]
    assert gaps.x[0] == traces(bars(wh, "tib_x"))["open to close"].x[9]


def test_the_title_says_what_it_is_and_how_it_was_made(wh: Warehouse) -> None:
    titles = [chart(f).layout.title.text for f in (wh.klines(*NAMES, "1m"), bars(wh, "vpin_x"))]
    assert titles[0] == "BTC/USDT BINANCE_SPOT 1m"
    assert titles[1].startswith("BTC/USDT BINANCE_SPOT vpin_x, ")
    assert {"bucket_volume 1", "buckets 20", "slices 10"} <= set(titles[1].split(", "))


def given(**columns: list[Any]) -> Frames:
    return Frames(of="X", index="open_time", run=lambda: pa.table(columns))


def rows(count: int) -> Frames:
    at = [START + timedelta(minutes=n) for n in range(count)]
    numbers = dict.fromkeys((*PRICES, "volume"), [1.0] * count)
    return given(open_time=at, **numbers)


def test_what_did_not_move_and_what_took_no_time_is_drawn_too() -> None:
    drawn = traces(rows(2))
    flat = drawn["low to high"]
    minutes = [np.datetime64(f"2024-01-01T00:0{n}") for n in (0, 1, 2)]
    assert list(flat.x[6:8]) == minutes[:2]
    assert list(flat.x[9:11]) == minutes[1:]
    assert flat.y[6:11] == (1.0, 1.0, None, 1.0, 1.0)
    numbers = {name: [1.0] for name in (*PRICES, "volume", "theta")}
    ticks = {"buy_ticks": [1], "sell_ticks": [0], "after_gap": [False]}
    sudden = traces(given(open_time=[START], close_time=[START], **numbers, **ticks))
    assert sudden["theta"].width[0] == sudden["open to close"].width[0] == 1.0


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (given(open_time=[START], price=[1.0]), "a chart is of klines or bars"),
        (rows(0), "of 1 to 20,000 rows, and the range that was read has 0"),
        (rows(MOST + 1), "the range that was read has 20,001"),
    ],
)
def test_what_cannot_be_drawn_is_refused(frames: Frames, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        chart(frames)


def test_a_frame_is_refused_where_the_read_is_wanted(wh: Warehouse) -> None:
    frame: Any = wh.klines(*NAMES, "1m").pandas()
    with pytest.raises(Refused, match=r"give the read itself, without \.pandas\(\)"):
        chart(frame)


def test_without_plotly_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "plotly"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ravenwh.Refused, match=r"needs plotly.*pip install 'ravenwh\[charts\]'"):
        ravenwh.chart(rows(3))
