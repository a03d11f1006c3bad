"""Klines made by hand, and a sink on a real mart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.schema import KLINES
from ravenwh.warehouse.rows import kline_values
from ravenwh.warehouse.upsert import Upsert
from ravenwh.warehouse.write import FactSink

MINUTE = 60_000_000_000
START = 1_704_067_200_000_000_000  # 2024-01-01


def candle(minute: int = 0, **changes: Any) -> Candle:
    """A closed 1m kline of BTCUSDT, with whatever the test changes."""
    opened = START + minute * MINUTE
    values: dict[str, Any] = {
        "venue": "BINANCE_SPOT",
        "symbol": "BTCUSDT",
        "event_time": opened + MINUTE,
        "interval": "1m",
        "open_time": opened,
        "close_time": opened + MINUTE - 1_000_000,
        "open": 100.0,
        "high": 110.0,
        "low": 90.0,
        "close": 105.0,
        "volume": 12.5,
        "quote_volume": 1250.0,
        "trade_count": 42,
        "taker_buy_volume": 6.0,
        "taker_buy_quote_volume": 600.0,
    }
    return Candle(**values | changes)


@pytest.fixture
def sink(mart: AsyncEngine) -> FactSink[Candle]:
    """Where klines go, with the venues' rules alone."""
    return kline_sink(mart, Register())


def kline_sink(engine: AsyncEngine, register: Register) -> FactSink[Candle]:
    """Where klines go, with a register of the test's."""
    return FactSink(
        engine=engine, register=register, upsert=Upsert.into(KLINES), to_values=kline_values
    )


async def rows(engine: AsyncEngine, *columns: sa.ColumnElement[Any]) -> Sequence[sa.Row[Any]]:
    """Columns of all klines, in the order of the key."""
    async with engine.connect() as connection:
        statement = sa.select(*columns).order_by(*KLINES.primary_key)
        return (await connection.execute(statement)).all()
