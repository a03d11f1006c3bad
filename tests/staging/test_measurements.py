"""Which stream goes where, row by row, and the page that tells it."""

from __future__ import annotations

import pytest

from ravenwh.domain.messages import DATA_TYPES
from ravenwh.domain.symbols import RULES
from ravenwh.staging.measurements import MEASUREMENTS, STREAMS, Stream
from ravenwh.staging.reference import reference
from tests.conftest import ROOT

ROWS = [
    ("binance_spot", "BINANCE_SPOT", "TRADE", "trades", False),
    ("binance_spot", "BINANCE_SPOT", "ORDERBOOK", "orderbook", False),
    ("binance_futures", "BINANCE_FUTURES", "TRADE", "trades", False),
    ("binance_futures", "BINANCE_FUTURES", "ORDERBOOK", "orderbook", False),
    ("binance_futures_funding", "BINANCE_FUTURES", "FUNDING", "funding_rate", True),
    ("binance_futures_liquidations", "BINANCE_FUTURES", "LIQUIDATION", "liquidation", True),
    ("binance_futures_oi", "BINANCE_FUTURES", "OPEN_INTEREST", "open_interest", True),
    ("binance_options", "BINANCE_OPTIONS", "TICKER", "options_ticker", True),
    ("deribit_option", "DERIBIT", "TICKER", "options_ticker", True),
    ("deribit_trades", "DERIBIT", "TRADE", "trades", True),
    ("deribit_index", "DERIBIT", "PRICE_INDEX", "price_index", True),
]


@pytest.mark.parametrize(("stream", "row"), list(zip(STREAMS, ROWS, strict=True)))
def test_where_a_stream_goes(stream: Stream, row: tuple[str, str, str, str, bool]) -> None:
    found = (stream.name, stream.venue, stream.data_type, stream.measurement.name)
    assert (*found, stream.starts_by_itself) == row
    assert stream.venue in RULES


def test_every_data_type_but_klines_has_one_measurement() -> None:
    types = [measurement.data_type for measurement in MEASUREMENTS.values()]
    assert sorted(types) == sorted(DATA_TYPES.keys() - {"CANDLE"})


@pytest.mark.parametrize(
    ("name", "tags", "fields"),
    [
        ("trades", "exchange side symbol", "price quantity trade_id"),
        (
            "orderbook",
            "exchange symbol",
            "bid_price bid_qty ask_price ask_qty spread mid_price imbalance",
        ),
        ("funding_rate", "exchange symbol", "rate mark_price index_price next_funding_time"),
        ("liquidation", "exchange side symbol", "price quantity"),
        ("open_interest", "exchange symbol", "open_interest open_interest_value"),
        (
            "options_ticker",
            "exchange symbol",
            "open_interest mark_iv best_bid_price best_ask_price mark_price underlying_price "
            "last_price bid_iv ask_iv",
        ),
        ("price_index", "exchange index_name", "price"),
    ],
)
def test_tags_and_fields(name: str, tags: str, fields: str) -> None:
    measurement = MEASUREMENTS[name]
    assert measurement.tags == tuple(tags.split())
    assert [field.name for field in measurement.fields] == fields.split()


def test_the_page_is_what_the_tables_say() -> None:
    page = ROOT / "docs" / "reference" / "measurements.md"
    assert page.read_text(encoding="utf-8") == reference(), "run make reference"
