"""What every venue's symbols stand for: a table, near misses, and any text at all."""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ravenwh.domain.errors import UnknownSymbol
from ravenwh.domain.instrument import Contract, Instrument, OptionTerms, VolumeUnit
from ravenwh.domain.register import Register
from ravenwh.domain.symbols import RULES

HERE = Path(__file__).parent


def table(name: str) -> list[tuple[str, ...]]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line and not line.startswith("#")]
    return [tuple(row.split("\t")) for row in rows[1:]]


KNOWN = table("symbols.tsv")
REFUSED = table("refused.tsv")
UNITS = {
    "coin": VolumeUnit(),
    "quote": VolumeUnit(kind="quote"),
    "quote, then coin": VolumeUnit(kind="quote", second="coin"),
    "contracts": VolumeUnit(kind="contract"),
    "0.01 coin": VolumeUnit(kind="contract", size=0.01, of="coin"),
    "0.1 coin": VolumeUnit(kind="contract", size=0.1, of="coin"),
    "10 quote": VolumeUnit(kind="contract", size=10, of="quote"),
    "100 quote": VolumeUnit(kind="contract", size=100, of="quote"),
    "10 quote, then coin": VolumeUnit(kind="contract", size=10, of="quote", second="coin"),
    "100 quote, then coin": VolumeUnit(kind="contract", size=100, of="quote", second="coin"),
}


def expected(row: tuple[str, ...]) -> Instrument:
    exchange, symbol, coin, quote, contract, multiplier, unit, expiry, option = row
    terms = None
    if option != "-":
        strike, strike_in, kind = option.split()
        terms = OptionTerms(strike=float(strike), strike_in=strike_in, kind=kind)  # type: ignore[arg-type]
    return Instrument(
        exchange=exchange,
        symbol=symbol,
        coin=coin,
        quote=quote,
        contract=Contract(contract),
        multiplier=float(multiplier),
        volume_unit=UNITS[unit],
        expiry=None if expiry == "-" else datetime.fromisoformat(f"{expiry}:00+00:00"),
        option=terms,
    )


def test_the_table_has_every_exchange_and_no_symbol_twice() -> None:
    assert len(KNOWN) >= 200
    assert {row[0] for row in KNOWN} == set(RULES)
    assert len({row[:2] for row in KNOWN}) == len(KNOWN)
    assert len({row[:2] for row in REFUSED}) == len(REFUSED)
    assert not {row[:2] for row in KNOWN} & {row[:2] for row in REFUSED}


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: " ".join(row[:2]))
def test_a_symbol_stands_for_its_instrument(row: tuple[str, ...]) -> None:
    assert Register().resolve(row[0], row[1]) == expected(row)


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: " ".join(row[:2]))
def test_spot_and_perpetual_symbols_are_written_as_they_are_read(row: tuple[str, ...]) -> None:
    register = Register()
    found = register.resolve(row[0], row[1])
    if not found.has_series:
        with contextlib.suppress(UnknownSymbol):
            assert register.symbol_for(row[0], found.coin, found.quote) != row[1]
    elif row[1] in ("1000XUSDT", "1000000BOBUSDT"):  # scaled, and not known to be so always
        assert register.symbol_for(row[0], found.coin, found.quote) == found.coin + found.quote
    else:
        assert register.symbol_for(row[0], found.coin, found.quote) == row[1]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: " ".join(row[:2]))
def test_a_wrong_symbol_is_unknown_and_the_reason_says_why(row: tuple[str, ...]) -> None:
    exchange, symbol, reason = row
    with pytest.raises(UnknownSymbol) as caught:
        Register().resolve(exchange, symbol)
    assert reason in str(caught.value)
    assert f"{exchange} symbol {symbol!r}" in str(caught.value)
    assert caught.value.code == "UNKNOWN_SYMBOL"


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        ("", "it is empty"),
        (" BTCUSDT", "white space in it; did you mean 'BTCUSDT'"),
        ("BTCUSDT\n", "white space in it; did you mean 'BTCUSDT'"),
        ("BTC USDT", "white space in it; did you mean 'BTCUSDT'"),
        ("BTC\u00a0USDT", "white space in it; did you mean 'BTCUSDT'"),
        ("BTC\x00USDT", "control characters or invisible ones in it; did you mean 'BTCUSDT'"),
        ("BTC\u200bUSDT", "control characters or invisible ones in it; did you mean 'BTCUSDT'"),
        ("BTC\ud800USDT", "control characters or invisible ones in it; did you mean 'BTCUSDT'"),
        ("\u202eBTCUSDT", "control characters or invisible ones in it; did you mean 'BTCUSDT'"),
        ("A" * 81, "no symbol has more than 80 characters"),
        ("A" * 1_000_000, "no symbol has more than 80 characters"),
    ],
)
def test_what_is_no_symbol_anywhere_is_refused_without_a_line(symbol: str, reason: str) -> None:
    for exchange in ("BINANCE_SPOT", "BINANCE_FUTURES"):
        with pytest.raises(UnknownSymbol) as caught:
            Register().resolve(exchange, symbol)
        assert reason in str(caught.value)
        assert "routing.symbol_map" not in str(caught.value)
        assert len(str(caught.value)) < 300


F = "BINANCE_FUTURES"
PAIRS_THAT_DIFFER = [
    ("BINANCE_SPOT BTCUSDT", "BINANCE_SPOT ETHUSDT", {"coin"}),
    ("BINANCE_SPOT BTCUSDT", "BINANCE_SPOT BTCUSDC", {"quote"}),
    ("BINANCE_SPOT BTCUSDT", "BINANCE_SPOT BTCTUSD", {"quote"}),
    ("BINANCE_SPOT TUSDT", "BINANCE_SPOT TUSDUSDT", {"coin"}),
    ("BINANCE_SPOT BTCUSDT", "BINANCE_US BTCUSDT", {"exchange"}),
    ("BINANCE_SPOT BTCUSDT", "BYBIT_SPOT BTCUSDT", {"exchange"}),
    ("BINANCE_SPOT BTCUSDT", "OKX_SPOT BTC-USDT", {"exchange"}),
    ("BINANCE_SPOT BTCUSDT", f"{F} BTCUSDT", {"exchange", "contract"}),
    ("BYBIT_SPOT BTCUSDT", "BYBIT_PERP BTCUSDT", {"exchange", "contract"}),
    (f"{F} BTCUSDT", "BYBIT_PERP BTCUSDT", {"exchange"}),
    (f"{F} BTCUSDT", f"{F} BTCUSDT_250328", {"contract", "expiry"}),
    (f"{F} BTCUSDT_250328", f"{F} BTCUSDT_250627", {"expiry"}),
    (f"{F} BTCUSDT_250328", f"{F} ETHUSDT_250328", {"coin"}),
    (f"{F} 1000PEPEUSDT", f"{F} 1000PEPEUSDC", {"quote"}),
    (f"{F} 1000PEPEUSDT", f"{F} 1000SHIBUSDT", {"coin"}),
    (f"{F} 1000QUXUSDT", f"{F} 10000QUXUSDT", {"multiplier"}),
    (f"{F} QUXUSDT", f"{F} 1000QUXUSDT", {"multiplier"}),
    ("BYBIT_PERP SHIB1000USDT", f"{F} 1000SHIBUSDT", {"exchange"}),
    ("BYBIT_PERP BTCUSDT", "BYBIT_PERP BTCPERP", {"quote"}),
    ("BYBIT_PERP BTCUSDT", "BYBIT_PERP BTCUSD", {"quote", "volume_unit"}),
    (
        "BINANCE_COIN_FUTURES BTCUSD_PERP",
        "BINANCE_COIN_FUTURES ETHUSD_PERP",
        {"coin", "volume_unit"},
    ),
    ("BINANCE_COIN_FUTURES ETHUSD_PERP", "BINANCE_COIN_FUTURES XRPUSD_PERP", {"coin"}),
    ("BINANCE_OPTIONS BTC-250328-60000-C", "BINANCE_OPTIONS BTC-250328-60000-P", {"option"}),
    ("BINANCE_OPTIONS BTC-250328-60000-C", "BINANCE_OPTIONS BTC-250328-61000-C", {"option"}),
    ("BINANCE_OPTIONS BTC-250328-60000-C", "BINANCE_OPTIONS BTC-250329-60000-C", {"expiry"}),
    ("DERIBIT BTC-PERPETUAL", "DERIBIT ETH-PERPETUAL", {"coin"}),
    ("DERIBIT BTC-PERPETUAL", "DERIBIT BTC_USDC-PERPETUAL", {"quote", "volume_unit"}),
    ("DERIBIT BTC_USDC-PERPETUAL", "DERIBIT BTC_USDT-PERPETUAL", {"quote"}),
    ("DERIBIT BTC_USDC-PERPETUAL", "DERIBIT_SPOT BTC_USDC", {"exchange", "contract"}),
    ("DERIBIT BTC_USDC-PERPETUAL", "DERIBIT btc_usdc", {"contract"}),
    ("DERIBIT BTC-PERPETUAL", "DERIBIT btc_usd", {"contract", "volume_unit"}),
    ("DERIBIT btc_usd", "DERIBIT btc_usdc", {"quote"}),
    ("DERIBIT BTC-28MAR25", "DERIBIT BTC-28MAR26", {"expiry"}),
    ("DERIBIT XRP_USDC-30JUN23-0d4-C", "DERIBIT XRP_USDC-30JUN23-4-C", {"option"}),
    ("OKX_PERP BTC-USDT-SWAP", "OKX_PERP BTC-USDC-SWAP", {"quote", "volume_unit"}),
    ("OKX_PERP UNI-USD-SWAP", "OKX_PERP LTC-USD-SWAP", {"coin"}),
    ("OKX_SPOT BTC-USD", "KRAKEN_SPOT BTC/USD", {"exchange"}),
    ("COINBASE_SPOT BTC-USD", "BITSTAMP_SPOT btcusd", {"exchange"}),
    ("KRAKEN_FUTURES PF_XBTUSD", "KRAKEN_COIN_FUTURES PI_XBTUSD", {"exchange", "volume_unit"}),
]


@pytest.mark.parametrize(("one", "other", "differ"), PAIRS_THAT_DIFFER)
def test_near_symbols_differ_in_what_sets_them_apart_and_nothing_else(
    one: str, other: str, differ: set[str]
) -> None:
    register = Register()
    left, right = (register.resolve(*text.split()) for text in (one, other))
    names = {field.name for field in attrs.fields(Instrument)} - {"symbol"}
    assert {name for name in names if getattr(left, name) != getattr(right, name)} == differ


def test_live_series_of_the_table_are_each_one_symbols() -> None:
    """No spot or perpetual symbol of the table takes another one's (coin, quote, exchange).

    BOB is two coins at the venue, and 1000000BOB needs a name of its own in the settings.
    """
    holders: dict[tuple[str, str, str], list[str]] = {}
    for row in KNOWN:
        found = expected(row)
        if found.has_series:
            holders.setdefault((found.exchange, found.coin, found.quote), []).append(row[1])
    shared = {key: symbols for key, symbols in holders.items() if len(symbols) > 1}
    assert shared == {(F, "BOB", "USDT"): ["BOBUSDT", "1000000BOBUSDT"]}


def test_krakens_old_names_are_read_as_the_same_instrument() -> None:
    register = Register()
    old, new = (register.resolve("KRAKEN_SPOT", symbol) for symbol in ("XBT/USD", "BTC/USD"))
    assert old is new
    assert new.symbol == "BTC/USD"
    assert register.resolve("KRAKEN_SPOT", "XDG/XBT").symbol == "DOGE/BTC"


real = st.sampled_from([row[1] for row in KNOWN] + [row[1] for row in REFUSED])


@st.composite
def broken(draw: st.DrawFn) -> str:
    """A real symbol with one character taken out, put in or replaced."""
    text = draw(real)
    at = draw(st.integers(0, len(text)))
    put = draw(st.sampled_from(["", "A", "1", "0", "_", "-", "/", "d", ".", "T", "\u0000", "ß"]))
    return text[:at] + put + text[at + draw(st.integers(0, 1)) :]


PIECES = (
    *(
        "BTC",
        "USD",
        "USDT",
        "USDC",
        "BUSD",
        "TUSD",
        "EUR",
        "PERP",
        "SWAP",
        "PERPETUAL",
        "btc",
        "usd",
    ),
    *("1000", "1M", "10", "X", "T", "I", "_", "-", "/", "PF_", "PI_"),
    *("250328", "28MAR25", "C", "P", "0d4", "60000"),
)
pieces = st.lists(st.sampled_from(PIECES), max_size=7).map("".join)
symbols = st.one_of(st.text(), real, broken(), pieces)
exchanges = st.one_of(st.sampled_from(sorted(RULES)), st.text(max_size=12))


def outcome(register: Register, exchange: str, symbol: str) -> Instrument | UnknownSymbol:
    try:
        return register.resolve(exchange, symbol)
    except UnknownSymbol as error:
        return error


@given(exchange=exchanges, symbol=symbols)
@example(exchange="BINANCE_SPOT", symbol="1000USDT")
@example(exchange="BINANCE_SPOT", symbol="10000")
@example(exchange="OKX_FUTURES", symbol="BTC-USD-²50328")
@example(exchange="BYBIT_FUTURES", symbol="BTCUSDH00")
@example(exchange="x\x00", symbol="BTCUSDT")
def test_any_text_is_an_instrument_or_an_unknown_symbol(exchange: str, symbol: str) -> None:
    register = Register()
    found = outcome(register, exchange, symbol)
    if isinstance(found, UnknownSymbol):
        assert len(str(found)) < 1500
        assert str(found).isprintable()
        assert str(outcome(register, exchange, symbol)) == str(found)
        return
    assert found.exchange == exchange
    assert found.symbol in (symbol, symbol.replace("XBT", "BTC").replace("XDG", "DOGE"))
    assert found.coin
    assert found.quote
    assert found.coin == found.coin.upper()
    assert found.quote == found.quote.upper()
    assert found.multiplier in (1, 1e3, 1e4, 1e6)
    assert (found.expiry is not None) == (found.contract in (Contract.DATED, Contract.OPTION))
    assert (found.option is not None) == (found.contract is Contract.OPTION)
    if found.option:
        assert found.option.strike > 0
    assert register.resolve(exchange, symbol) is found


@st.composite
def renamed(draw: st.DrawFn) -> tuple[str, str]:
    """An exchange, and one of its spot and perpetual symbols with another coin in it."""
    row = draw(st.sampled_from([row for row in KNOWN if row[4] in ("spot", "perpetual")]))
    exchange, symbol, coin = row[:3]
    coin = coin if coin in symbol else coin.lower()
    put = draw(st.text(alphabet="ABCDT0189", min_size=1, max_size=6))
    return exchange, symbol.replace(coin, put if coin.isupper() else put.lower(), 1)


@given(renamed())
@example(("KRAKEN_FUTURES", "PF_XBTUSD"))
@example(("BINANCE_SPOT", "EURAEUR"))
@example(("BYBIT_PERP", "PERPPERP"))
def test_what_is_read_is_written_the_same(named: tuple[str, str]) -> None:
    register = Register()
    found = outcome(register, *named)
    assume(isinstance(found, Instrument))
    assert isinstance(found, Instrument)
    written = register.symbol_for(found.exchange, found.coin, found.quote)
    if found.multiplier == 1 or written == found.symbol:
        assert written == found.symbol == named[1]
    else:  # scaled by the convention alone: what is written is the same coin, one by one
        assert register.resolve(found.exchange, written).coin == found.coin
        assert register.resolve(found.exchange, written).multiplier == 1


@given(
    exchange=st.sampled_from(sorted(RULES)),
    coin=st.text(alphabet="ABCT1X0", min_size=1, max_size=6),
    quote=st.sampled_from(["USD", "USDT", "USDC", "BTC", "EUR", "BUSD", "RLUSD", "NONE"]),
)
def test_what_is_written_is_read_the_same(exchange: str, coin: str, quote: str) -> None:
    register = Register()
    try:
        symbol = register.symbol_for(exchange, coin, quote)
    except UnknownSymbol:
        assume(False)
    found = register.resolve(exchange, symbol)
    assert (found.coin, found.quote, found.has_series) == (coin, quote, True)
