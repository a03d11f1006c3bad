"""cryptofeed's names become the venues' own, so that live and archived data are one series."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ravenwh.domain.errors import UnknownSymbol
from ravenwh.domain.instrument import Contract
from ravenwh.domain.listing import Listing, instruments
from ravenwh.domain.register import Register
from ravenwh.domain.symbols import RULES
from ravenwh.domain.symbols.cryptofeed import EXCHANGES

LINES = (Path(__file__).parent / "cryptofeed.tsv").read_text(encoding="utf-8").splitlines()
NAMES = [tuple(line.split("\t")) for line in LINES[2:]]


@pytest.mark.parametrize("row", NAMES, ids=lambda row: " ".join(row[:2]))
def test_a_name_becomes_the_venues_own(row: tuple[str, str, str, str]) -> None:
    register = Register()
    assert register.from_cryptofeed(row[0], row[1]) == row[2:]
    register.resolve(row[2], row[3])


def test_every_exchange_is_in_the_table_and_leads_to_one_with_a_rule() -> None:
    assert {row[0] for row in NAMES} == set(EXCHANGES)
    assert {name for names in EXCHANGES.values() for name in names} <= set(RULES)


@pytest.mark.parametrize(
    ("exchange", "symbol", "reason"),
    [
        ("HUOBI", "BTC-USDT", "cryptofeed's exchanges known here are BINANCE"),
        ("BINANCE_SPOT", "BTC-USDT", "cryptofeed's exchanges known here are BINANCE"),
        ("BINANCE", "BTCUSDT", "cryptofeed writes BTC-USDT"),
        ("BINANCE", "BTC", "cryptofeed writes BTC-USDT"),
        ("BINANCE", "", "a part between its dashes is empty"),
        ("BINANCE", "BTC-PERP", "cryptofeed writes BTC-USDT"),
        ("BINANCE", "-USDT", "a part between its dashes is empty"),
        ("BINANCE", "BTC--PERP", "a part between its dashes is empty"),
        ("BINANCE", "btc-usdt", "no names in capitals"),
        ("BINANCE", "BTC-US DT", "no names in capitals"),
        ("BINANCE", "BTC-USDT-PERP", "it is perpetual, and BINANCE has only spot"),
        ("BINANCE_FUTURES", "XAU-USDT", "it is spot, and BINANCE_FUTURES has only perpetual"),
        ("BINANCE_FUTURES", "BTC-USDT-PINDEX", "what ends in PINDEX is no instrument"),
        ("BINANCE_FUTURES", "BTC-USDT-21U31", "there is no day 21U31"),
        ("BINANCE_FUTURES", "BTC-USDT-21A24", "21A24 is no date"),
        ("BINANCE_FUTURES", "BTC-USDT_250328-PERP", "no names in capitals"),
        ("BYBIT", "BTC-USD-24H29", "no dated contracts of Bybit but those in USDC and USDT"),
        ("DERIBIT", "BTC", "cryptofeed writes BTC-USDT"),
        ("DERIBIT", "BTC-21U24", "cryptofeed writes BTC-USDT"),
        ("DERIBIT", "XRP-USDC-0-23M30-call", "cuts the fraction off Deribit's strikes"),
        ("DERIBIT", "BTC-15000-22M24-CALL", "cryptofeed writes BTC-USDT"),
        ("KRAKEN_FUTURES", "BTC-USD-PERP", "PF_XBTUSD of KRAKEN_FUTURES and PI_XBTUSD of KRAKEN_C"),
    ],
)
def test_a_name_that_cannot_be_turned_says_why(exchange: str, symbol: str, reason: str) -> None:
    register = Register()
    for _ in range(2):
        with pytest.raises(UnknownSymbol) as caught:
            register.from_cryptofeed(exchange, symbol)
        assert reason in str(caught.value)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("row", "symbol"), [("KRAKEN_FUTURES", "PF_XBTUSD"), ("KRAKEN_COIN_FUTURES", "PI_XBTUSD")]
)
def test_a_listing_decides_where_cryptofeed_has_one_name_for_two(row: str, symbol: str) -> None:
    listed = Listing(coin="BTC", quote="USD", exchange=row, symbol=symbol)
    register = Register(listings=instruments((listed,)))
    assert register.from_cryptofeed("KRAKEN_FUTURES", "BTC-USD-PERP") == (row, symbol)
    assert register.from_cryptofeed("KRAKEN_FUTURES", "SOL-USD-PERP")[1] == "PF_SOLUSD"


PARTS = ["BTC", "USD", "USDT", "PERP", "21U24", "99Z31", "call", "6e4", "", "é"]


@given(
    exchange=st.one_of(st.sampled_from(sorted(EXCHANGES)), st.text(max_size=5)),
    symbol=st.one_of(st.text(), st.lists(st.sampled_from(PARTS), max_size=6).map("-".join)),
)
@example(exchange="DERIBIT", symbol="BTC-60000-00G29-put")
def test_any_text_is_a_symbol_or_unknown(exchange: str, symbol: str) -> None:
    register = Register()
    try:
        row, written = register.from_cryptofeed(exchange, symbol)
        assert row in EXCHANGES[exchange]
        found = register.resolve(row, written)
    except UnknownSymbol:
        return
    assert found.has_series == (found.contract in (Contract.SPOT, Contract.PERPETUAL))
    assert found.has_series == (symbol.endswith("-PERP") or symbol.count("-") == 1)


def test_every_recorded_name_is_one_of_a_venue(shared_data: Path) -> None:
    names: set[tuple[str, str]] = set()
    for file in (shared_data / "wire").glob("*.gz"):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                topic, _, body = line.partition(" ")
                if "-" in topic:
                    exchange, _, symbol = topic.split("-", 2)
                else:
                    told = json.loads(body)
                    exchange, symbol = told["exchange"], told["symbol"]
                names.add((exchange, symbol))
    assert names
    register = Register()
    for exchange, symbol in names:
        found = register.resolve(*register.from_cryptofeed(exchange, symbol))
        base, *rest = symbol.split("-")
        assert found.coin == base
        match found.contract:
            case Contract.SPOT:
                assert rest == [found.quote]
            case Contract.PERPETUAL:
                assert rest == [found.quote, "PERP"]
            case Contract.DATED:
                assert rest[0] == found.quote
                assert len(rest) == 2
            case _:
                assert found.option is not None
                assert (f"{found.option.strike:g}", found.option.kind) == (
                    f"{float(rest[0]):g}",
                    rest[2],
                )
