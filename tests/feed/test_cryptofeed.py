"""The cryptofeed wire on values: one hand-written frame for each quirk, and any bytes at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ravenwh.domain.book import Books
from ravenwh.domain.errors import DecodeError, SettingsError, UnknownSymbol
from ravenwh.domain.listing import Listing, instruments
from ravenwh.domain.messages import (
    Candle,
    Funding,
    Liquidation,
    Message,
    OpenInterest,
    OrderBook,
    PriceIndex,
    Ticker,
    Trade,
)
from ravenwh.domain.register import Register
from ravenwh.domain.symbols import RULES
from ravenwh.domain.symbols.cryptofeed import EXCHANGES, names
from ravenwh.feed import wire
from ravenwh.feed.cryptofeed import topics
from ravenwh.feed.cryptofeed.decoder import CryptofeedDecoder
from ravenwh.feed.cryptofeed.messages import ns
from ravenwh.feed.cryptofeed.orders import OrderLevels
from ravenwh.ports import Frame
from tests.recorded import frame_of, messages_of

AT = 1_723_161_255.342
AT_NS = 1_723_161_255_342_000_000
LISTED = instruments(
    [Listing(coin="BTC", quote="USD", exchange="KRAKEN_FUTURES", symbol="PF_XBTUSD")]
)


def decode(message: str | bytes, register: Register | None = None) -> Message | None:
    raw = message.encode() if isinstance(message, str) else message
    return CryptofeedDecoder(register=register or Register())(frame_of(raw))


def said(exchange: str, key: str, symbol: str, *, static: bool = False, **fields: Any) -> str:
    """A frame as cryptofeed writes it."""
    body = {"exchange": exchange, "symbol": symbol, "timestamp": AT, "receipt_timestamp": AT - 1.27}
    topic = key if static else f"{exchange}-{key}-{symbol}"
    return f"{topic} {json.dumps(body | fields, separators=(',', ':'))}"


def ours(venue: str, symbol: str) -> dict[str, Any]:
    return {"venue": venue, "symbol": symbol, "event_time": AT_NS, "producer": "cryptofeed"}


TRADE = {"side": "sell", "amount": 0.02, "price": 61837.63, "id": "37", "type": None}
CANDLE = {
    "start": 1_723_161_240,
    "stop": 1_723_161_299.999,
    "interval": "1m",
    "trades": 41,
    "open": 1992.7,
    "close": 1992.17,
    "high": 1993.71,
    "low": 1992.17,
    "volume": 1893,
    "closed": False,
}
OUR_CANDLE = {
    "interval": "1m",
    "open_time": 1_723_161_240_000_000_000,
    "close_time": 1_723_161_299_999_000_000,
    "open": 1992.7,
    "close": 1992.17,
    "high": 1993.71,
    "low": 1992.17,
    "volume": 1893.0,
    "trade_count": 41,
    "closed": False,
}
FUNDING = {
    "mark_price": 8291.34697815,
    "rate": 0.0001,
    "next_funding_time": 1_723_190_400,
    "predicted_rate": 11784.256,
}
OUR_FUNDING = {
    "mark_price": 8291.34697815,
    "rate": 0.0001,
    "next_funding_time": 1_723_190_400_000_000_000,
}
LIQUIDATION = {"side": "buy", "quantity": 0.014, "price": 4793.91, "id": None, "status": "filled"}
SNAPSHOT = {"book": {"bid": {"0.3521": 672, "6.8e-7": 5}, "ask": {"0.3529": 3, "0.353": 1e-7}}}
DELTA = {"delta": {"bid": [[0.3517, 4265], [0.352, 0]], "ask": [[0.3531, 1], [0.3529, 10968]]}}


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            said("BINANCE", "trades", "BTC-USDT", **TRADE),
            Trade(**ours("BINANCE_SPOT", "BTCUSDT"), price=61837.63, quantity=0.02, side="sell",
                  trade_id="37"),
        ),
        (
            said("KRAKEN", "trades", "XMR-USD", **TRADE | {"id": None, "type": "limit"}),
            Trade(**ours("KRAKEN_SPOT", "XMR/USD"), price=61837.63, quantity=0.02, side="sell"),
        ),
        (
            said("OKX", "trades", "BTC-USD-22K27", static=True, **TRADE),
            Trade(**ours("OKX_FUTURES", "BTC-USD-220527"), price=61837.63, quantity=0.02,
                  side="sell", trade_id="37"),
        ),
        (
            said("BINANCE", "book", "NKN-USDT", **SNAPSHOT),
            OrderBook(**ours("BINANCE_SPOT", "NKNUSDT"), snapshot=True,
                      bids=((0.3521, 672.0), (6.8e-7, 5.0)), asks=((0.3529, 3.0), (0.353, 1e-7))),
        ),
        (
            said("BINANCE", "book", "NKN-USDT", **DELTA),
            OrderBook(**ours("BINANCE_SPOT", "NKNUSDT"), snapshot=False,
                      bids=((0.352, 0.0), (0.3517, 4265.0)),
                      asks=((0.3529, 10968.0), (0.3531, 1.0))),
        ),
        (
            said("DERIBIT", "book", "ETH-4000-21Q27-put", book={"bid": {}, "ask": {}}),
            OrderBook(**ours("DERIBIT", "ETH-27AUG21-4000-P"), snapshot=True, bids=(), asks=()),
        ),
        (
            said("BITSTAMP", "book", "XLM-GBP", delta={"bid": [], "ask": []}),
            OrderBook(**ours("BITSTAMP_SPOT", "xlmgbp"), snapshot=False, bids=(), asks=()),
        ),
        (
            said("BITSTAMP", "book", "XLM-GBP", delta=None),
            OrderBook(**ours("BITSTAMP_SPOT", "xlmgbp"), snapshot=False, bids=(), asks=()),
        ),
        (
            said("BINANCE_DELIVERY", "candles", "ETH-USD-21U24", **CANDLE),
            Candle(**ours("BINANCE_COIN_FUTURES", "ETHUSD_210924"), **OUR_CANDLE),
        ),
        (
            said("BINANCE_FUTURES", "funding", "BTC-USDT-PERP", **FUNDING),
            Funding(**ours("BINANCE_FUTURES", "BTCUSDT"), **OUR_FUNDING),
        ),
        (
            said("DERIBIT", "funding", "BTC-USD-PERP",
                 **FUNDING | {"next_funding_time": None, "mark_price": None, "rate": 0}),
            Funding(**ours("DERIBIT", "BTC-PERPETUAL"), rate=0.0),
        ),
        (
            said("DERIBIT", "open_interest", "ETH-2800-21N30-call", open_interest=12685),
            OpenInterest(**ours("DERIBIT", "ETH-30JUL21-2800-C"), open_interest=12685.0),
        ),
        (
            said("BINANCE_FUTURES", "liquidations", "BTC-USDT-PERP", **LIQUIDATION),
            Liquidation(**ours("BINANCE_FUTURES", "BTCUSDT"), side="buy", quantity=0.014,
                        price=4793.91),
        ),
        (
            said("DERIBIT", "ticker", "ETH-2800-21N30-call", bid=0.0015, ask=0),
            Ticker(**ours("DERIBIT", "ETH-30JUL21-2800-C"), best_bid_price=0.0015),
        ),
        (
            said("BYBIT", "index", "BTC-USD-PERP", price=28566.94),
            PriceIndex(**ours("BYBIT_PERP", "BTCUSD"), price=28566.94),
        ),
        (said("BINANCE", "ticker", "BTC-USDT", bid=1, ask=2), None),
        (said("BINANCE", "ticker", "BTC-USDT", static=True, bid=1, ask=2), None),
        (said("DERIBIT", "ticker", "BTC-USD-PERP", bid=1, ask=2), None),
        (said("NOBODY", "ticker", "BTC-USDT", bid=1, ask=2), None),
        (said("BINANCE_DELIVERY", "funding", "BTC-USD-25H28", **FUNDING | {"rate": None}), None),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_a_frame_becomes_our_message(frame: str, message: Message | None) -> None:
    assert decode(frame) == message


TEXTS = [
    ("trades", "BTC-USDT", TRADE),
    ("candles", "BTC-USDT", CANDLE),
    ("book", "BTC-USDT", SNAPSHOT),
    ("book", "BTC-USDT", DELTA),
    ("funding", "BTC-USDT-PERP", FUNDING),
    ("liquidations", "BTC-USDT-PERP", LIQUIDATION),
    ("open_interest", "BTC-USDT-PERP", {"open_interest": 10659.509}),
    ("index", "BTC-USDT-PERP", {"price": 28566.94}),
]


def as_texts(value: Any, name: str = "") -> Any:
    """What ``numeric_type=str`` makes of a payload; times stay numbers."""
    match value:
        case dict():
            return {key: as_texts(inner, key) for key, inner in value.items()}
        case list():
            return [as_texts(inner) for inner in value]
        case int() | float() if name not in {"start", "stop", "trades", "closed"}:
            return str(value)
    return value


@pytest.mark.parametrize(("key", "symbol", "fields"), TEXTS, ids=[key for key, _, _ in TEXTS])
def test_numbers_may_be_texts(key: str, symbol: str, fields: dict[str, Any]) -> None:
    exchange = "BINANCE_FUTURES" if symbol.endswith("PERP") else "BINANCE"
    plain = decode(said(exchange, key, symbol, **fields))
    assert plain is not None
    assert decode(said(exchange, key, symbol, **as_texts(fields))) == plain


@pytest.mark.parametrize("nothing", [None, "None", "", "null", "NaN"])
def test_null_may_be_a_text(nothing: str | None) -> None:
    trade = decode(said("BINANCE", "trades", "BTC-USDT", **TRADE | {"id": nothing}))
    assert isinstance(trade, Trade)
    assert trade.trade_id is None
    none = {"mark_price": nothing, "next_funding_time": nothing}
    funding = decode(said("OKX", "funding", "BTC-USDT-PERP", **FUNDING | none))
    assert isinstance(funding, Funding)
    assert (funding.mark_price, funding.next_funding_time) == (None, None)
    candle = decode(said("OKX", "candles", "BTC-USDT", **CANDLE | {"trades": nothing}))
    assert isinstance(candle, Candle)
    assert candle.trade_count is None


def test_bybit_of_2_5_counts_milliseconds() -> None:
    at = {"timestamp": 1_680_673_822_577, "next_funding_time": 1_680_681_600_000}
    funding = decode(said("BYBIT", "funding", "BTC-USD-PERP", **FUNDING | at))
    assert isinstance(funding, Funding)
    assert funding.event_time == 1_680_673_822_577_000_000
    assert funding.next_funding_time == 1_680_681_600_000_000_000
    times = {"start": 1_672_324_800_000, "stop": 1_672_324_859_999, "timestamp": 1_672_324_988_882}
    candle = decode(said("BYBIT", "candles", "BTC-USDT-PERP", **CANDLE | times))
    assert isinstance(candle, Candle)
    assert (candle.open_time, candle.close_time, candle.event_time) == (
        1_672_324_800_000_000_000,
        1_672_324_859_999_000_000,
        1_672_324_988_882_000_000,
    )


AFTER = {"timestamp": CANDLE["stop"]}


@pytest.mark.parametrize(
    ("changes", "closed", "count"),
    [
        ({"closed": True} | AFTER, True, 41),
        ({"closed": False} | AFTER, False, 41),
        ({"closed": True}, False, 41),  # OKX: a volume, told as a flag, while the kline is open
        ({"trades": False}, False, None),  # Bybit of 2.5: the flag, told as a count
        ({"trades": True} | AFTER, True, None),
        ({"trades": True}, False, None),
        ({"trades": "41"}, False, 41),
        ({"trades": 41.0}, False, 41),
    ],
)
def test_which_candle_is_closed(changes: dict[str, Any], closed: bool, count: int | None) -> None:
    candle = decode(said("OKX", "candles", "BTC-USDT", **CANDLE | changes))
    assert isinstance(candle, Candle)
    assert (candle.closed, candle.trade_count) == (closed, count)


def test_the_time_of_a_payment_is_not_the_time_of_the_message() -> None:
    paid_at = {"next_funding_time": None, "timestamp": 1_723_190_400}  # OKX up to 2.5
    funding = decode(said("OKX", "funding", "BTC-USDT-PERP", **FUNDING | paid_at))
    assert isinstance(funding, Funding)
    assert funding.event_time == round((AT - 1.27) * 1e6) * 1000
    assert funding.next_funding_time == 1_723_190_400_000_000_000


@given(st.integers(0, 4_102_444_800_000_000))
@example(1_618_678_142_557_535)
def test_microseconds_are_kept(microseconds: int) -> None:
    assert ns(microseconds / 1e6) == microseconds * 1000


@given(st.integers(10**11, 4_102_444_800_000))
def test_milliseconds_are_told_by_their_size(milliseconds: int) -> None:
    assert ns(float(milliseconds)) == milliseconds * 1_000_000


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf, -1.0, 1e10, 1e13, 1e300])
def test_what_is_no_time_is_refused(at: float) -> None:
    with pytest.raises(DecodeError, match="allowed are seconds or milliseconds"):
        ns(at)


GOOD = said("BINANCE", "trades", "BTC-USDT", **TRADE)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("", "allowed is EXCHANGE-key-SYMBOL"),
        ("trades", "payload: "),
        ("quotes {}", "with a key of book, candles"),
        ("BINANCE-trades {}", "allowed is EXCHANGE-key-SYMBOL"),
        ("BINANCE-quotes-BTC-USDT {}", "with a key of book, candles"),
        ("binance-trades-BTC-USDT {}", "allowed are capitals, digits"),
        ("-trades-BTC-USDT {}", "allowed are capitals, digits"),
        ("BINANCE-trades- {}", "it is empty"),
        ("BINANCE-trades-BTC\t {}", "no symbol has white space"),
        (b"BINANCE-trades-\xff\xfe {}", "allowed is UTF-8"),
        (f"{'x' * 300} {{}}", "found 300 bytes"),
        ("BINANCE-trades-BTC-USDT", "payload: "),
        ("BINANCE-trades-BTC-USDT {", "payload: "),
        (b'BINANCE-trades-BTC-USDT {"exchange":"\xff"}', "payload: "),
        (f"BINANCE-trades-BTC-USDT {'[' * 100_000}", "payload: "),
        (GOOD + "x", "trailing characters"),
        (GOOD.replace("sell", "short"), "Invalid enum value 'short'"),
        (GOOD.replace("0.02", "true"), "Expected `float`"),
        (GOOD.replace("0.02", '"many"'), "Expected `float`"),
        (GOOD.replace('"price"', '"prize"'), "missing required field `price`"),
        (GOOD.replace("BTC-USDT {", "BTC-USD {"), "topic and payload differ"),
        (GOOD.replace("BINANCE-", "BINANCE_US-"), "topic and payload differ"),
        (GOOD.replace(str(AT), "-1", 1), "allowed are seconds or milliseconds"),
        (said("B B", "trades", "BTC-USDT", static=True, **TRADE), "allowed are capitals"),
        (said("NOBODY", "trades", "x" * 100, static=True, **TRADE), "more than 80 characters"),
        (said("OKX", "candles", "BTC-USDT", **CANDLE | {"trades": 1.5}), "whole number"),
        (said("OKX", "candles", "BTC-USDT", **CANDLE | {"trades": -1}), "whole number"),
        (said("OKX", "candles", "BTC-USDT", **CANDLE | {"trades": 2**63}), "whole number"),
        (said("OKX", "candles", "BTC-USDT", **CANDLE | {"closed": None}), "Expected `bool`"),
        (said("OKX", "funding", "BTC-USDT-PERP", **FUNDING | {"rate": "?"}), "rate: found '?'"),
        (said("OKX", "book", "BTC-USDT", book={"bid": {"x": 1}, "ask": {}}), "payload: "),
        (said("OKX", "book", "BTC-USDT", delta={"bid": [[1]], "ask": []}), "payload: "),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_is_no_frame_says_why(frame: str | bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(frame)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_message_of_several_parts_is_no_frame() -> None:
    topic, _, payload = GOOD.encode().partition(b" ")
    with pytest.raises(DecodeError, match="several parts"):
        CryptofeedDecoder(register=Register())(Frame("f", topic, b"x", payload, 0))


def test_a_symbol_that_no_venue_has_is_unknown() -> None:
    frame = said("BINANCE_FUTURES", "trades", "BTC-USDT-PINDEX", **TRADE)
    with pytest.raises(UnknownSymbol, match="PINDEX is no instrument"):
        decode(frame)


def test_an_exchange_that_is_not_known_here_keeps_its_names() -> None:
    trade = decode(said("BIT.COM", "trades", "BTC-USD-PERP", **TRADE))
    assert isinstance(trade, Trade)
    assert (trade.venue, trade.symbol) == ("BIT.COM", "BTC-USD-PERP")


def test_the_settings_decide_where_two_symbols_have_one_name() -> None:
    frame = said("KRAKEN_FUTURES", "trades", "BTC-USD-PERP", **TRADE)
    with pytest.raises(UnknownSymbol, match="list the one it sends"):
        decode(frame)
    trade = decode(frame, Register(listings=LISTED))
    assert isinstance(trade, Trade)
    assert (trade.venue, trade.symbol) == ("KRAKEN_FUTURES", "PF_XBTUSD")


# Books by orders


def orders(**fields: Any) -> str:
    return said("INDEPENDENT_RESERVE", "book", "DOT-NZD", **fields)


L3_SNAPSHOT = {"bid": {"34.3": {"a": 1, "b": 2.5}, "34.2": {"c": 1}}, "ask": {}}


def test_orders_are_summed_to_levels() -> None:
    decoder, books = CryptofeedDecoder(register=Register()), Books()

    def levels(frame: str) -> tuple[Any, ...]:
        message = decoder(frame_of(frame.encode()))
        assert isinstance(message, OrderBook)
        return message.snapshot, message.bids, message.asks, books.apply(message)

    assert levels(orders(book=L3_SNAPSHOT)) == (
        True, ((34.3, 3.5), (34.2, 1.0)), (), (34.3, 3.5, None, None),
    )  # fmt: skip
    changes = {"bid": [["a", 34.3, 0], ["b", 34.3, 2]], "ask": [["d", 34.5, 7], [9, 34.5, 1]]}
    assert levels(orders(delta=changes)) == (
        False, ((34.3, 2.5), (34.3, 2.0)), ((34.5, 7.0), (34.5, 8.0)), (34.3, 2.0, 34.5, 8.0),
    )  # fmt: skip
    gone = {"bid": [["b", 34.3, 0], ["none", 1, 0]], "ask": [["9", 34.5, 0]]}
    assert levels(orders(delta=gone)) == (
        False, ((34.3, 0.0), (1.0, 0.0)), ((34.5, 7.0),), (34.2, 1.0, 34.5, 7.0),
    )  # fmt: skip
    assert levels(orders(delta=None))[3] == (34.2, 1.0, 34.5, 7.0)


def test_a_change_of_orders_that_are_not_known_takes_all_levels_away() -> None:
    decoder, books = CryptofeedDecoder(register=Register()), Books()
    change = orders(delta={"bid": [["a", 34.3, 1]], "ask": []})
    for frame, top in (
        (change, (None, None, None, None)),
        (orders(book={"bid": {}, "ask": {}}), (None, None, None, None)),
        (change, (34.3, 1.0, None, None)),
    ):
        message = decoder(frame_of(frame.encode()))
        assert isinstance(message, OrderBook)
        assert books.apply(message) == top


def test_the_orders_that_are_kept_are_bounded() -> None:
    kept = OrderLevels(max_orders=100)
    side = {float(price): {"a": 1.0, "b": 1.0} for price in range(20)}
    assert kept.load(("X", "1"), side, {}) is not None
    assert kept.load(("X", "2"), side, side) is None
    assert kept.load(("X", "2"), {}, {}) == ([], [])
    rows = [(str(number), 1.0, 1.0) for number in range(100)]
    assert kept.change(("X", "2"), rows, ()) is None
    assert kept.change(("X", "2"), (), ()) is None
    assert kept.change(("X", "1"), [("a", 0.0, 0.0)], ()) == ([(0.0, 1.0)], [])
    kept.drop(("X", "1"))
    assert kept.load(("X", "2"), side, {}) is not None


ROWS = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.integers(1, 3).map(float), st.sampled_from([0.0, 1.0, 2.0])
    )
)


@given(ROWS, ROWS)
def test_changed_levels_are_those_of_a_new_snapshot(
    before: list[tuple[str, float, float]], after: list[tuple[str, float, float]]
) -> None:
    def book_of(rows: list[tuple[str, float, float]]) -> dict[float, dict[str, float]]:
        side: dict[float, dict[str, float]] = {}
        for order, price, size in rows:
            level = side.setdefault(price, {})
            level.pop(order, None)
            level |= {order: size} if size else {}
        return {price: level for price, level in side.items() if level}

    followed, fresh = OrderLevels(), OrderLevels()
    loaded = followed.load(("X", "1"), book_of(before), {})
    changed = followed.change(("X", "1"), after, ())
    told = fresh.load(("X", "1"), book_of(before + after), {})
    assert loaded is not None
    assert changed is not None
    assert told is not None
    levels = dict(loaded[0]) | dict(changed[0])
    assert {price: size for price, size in levels.items() if size} == dict(told[0])


# Subscriptions


@pytest.mark.parametrize(
    ("data_type", "symbols", "expected"),
    [
        ("CANDLE", {"BINANCE_SPOT": ["BTCUSDT"]}, [b"BINANCE-candles-BTC-USDT "]),
        ("CANDLE", {"BINANCE_SPOT": None}, [b"BINANCE-candles-"]),
        ("TRADE", {"BINANCE_FUTURES": ["1000PEPEUSDT"]},
         [b"BINANCE_FUTURES-trades-1000PEPE-USDT-PERP "]),
        ("ORDERBOOK", {"BYBIT_PERP": ["SHIB1000USDT", "BTCPERP"]},
         [b"BYBIT-book-BTC-USDC-PERP ", b"BYBIT-book-SHIB1000-USDT-PERP "]),
        ("FUNDING", {"BYBIT_PERP": None, "OKX_PERP": None}, [b"BYBIT-funding-", b"OKX-funding-"]),
        ("TICKER", {"DERIBIT": ["BTC-7JUN24"]},
         [b"DERIBIT-ticker-BTC-USD-24M07 ", b"DERIBIT-ticker-BTC-USD-24M7 "]),
        ("TRADE", {"KRAKEN_COIN_FUTURES": ["PI_XBTUSD"]},
         [b"KRAKEN_FUTURES-trades-BTC-USD-PERP "]),
        ("TRADE", {"KRAKEN_SPOT": ["XBT/USD"]}, [b"KRAKEN-trades-BTC-USD "]),
        ("TRADE", {"PHEMEX": ["BTC-USD-PERP"], "BIT.COM": None},
         [b"BIT.COM-trades-", b"PHEMEX-trades-BTC-USD-PERP "]),
    ],
)  # fmt: skip
def test_what_to_subscribe_to(
    data_type: str, symbols: dict[str, list[str] | None], expected: list[bytes]
) -> None:
    static = f"{topics.KEYS[data_type]} ".encode()
    assert topics.subscriptions(data_type, symbols) == tuple(sorted([*expected, static]))


def test_a_symbol_without_a_name_is_refused_with_all_others() -> None:
    with pytest.raises(SettingsError) as caught:
        topics.subscriptions("CANDLE", {"BINANCE_FUTURES": ["BTCPERP", "BTCUSDT", "x"]})
    assert len(caught.value.problems) == 2
    assert "symbol of BINANCE_FUTURES: found 'BTCPERP'" in caught.value.problems[0]


PAIRS = (Path(__file__).parent.parent / "domain" / "cryptofeed.tsv").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", PAIRS.splitlines()[2:])
def test_names_lead_to_the_symbol_and_back(line: str) -> None:
    exchange, name, venue, symbol = line.split("\t")
    found = names(RULES[venue].read(symbol))
    assert (exchange, name) in found
    register = Register()
    assert {register.from_cryptofeed(*pair) for pair in found} == {(venue, symbol)}
    assert len(found) <= 2


def test_an_exchange_of_each_venue_is_known() -> None:
    rows = {row for held in EXCHANGES.values() for row in held}
    for row in rows:
        assert len(topics.subscriptions("TRADE", {row: None})) == 2


# Any bytes


def outcome(frame: Frame, register: Register | None = None) -> Message | None:
    """The message, which a raven publisher could have sent; None for what is no message."""
    try:
        message = CryptofeedDecoder(register=register or Register())(frame)
    except (DecodeError, UnknownSymbol):
        return None
    if message is not None and ":" not in message.symbol:
        name, payload = wire.encode(message)
        again = wire.decode(Frame("f", name, wire.header(1, 1), payload, 0))
        assert repr(again) == repr(message)  # NaN is not equal to itself
    return message


@given(st.binary(), st.binary(), st.binary())
def test_any_bytes_give_a_message_or_an_error_of_ours(
    topic: bytes, header: bytes, payload: bytes
) -> None:
    outcome(Frame("f", topic, header, payload, 0))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["bid", "ask", "1.5", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)
FIELDS = sorted({name for _, _, fields in TEXTS for name in fields} | {"bid", "ask", "timestamp"})


@settings(max_examples=300)
@given(
    key=st.sampled_from(sorted(topics.KEYS.values())),
    base=st.sampled_from([fields for _, _, fields in TEXTS]),
    changes=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
    static=st.booleans(),
)
def test_any_json_gives_a_message_or_an_error_of_ours(
    key: str, base: dict[str, Any], changes: dict[str, Any], static: bool
) -> None:
    frame = said("BINANCE_FUTURES", key, "BTC-USDT-PERP", static=static, **base | changes)
    outcome(frame_of(frame.encode()))


@settings(max_examples=500)
@given(st.data())
def test_a_mutated_frame_gives_a_message_or_an_error_of_ours(data: st.DataObject) -> None:
    key, symbol, fields = data.draw(st.sampled_from(TEXTS))
    exchange = "BINANCE_FUTURES" if symbol.endswith("PERP") else "BINANCE"
    raw = bytearray(said(exchange, key, symbol, **fields).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    outcome(frame_of(bytes(raw)))


def test_recorded_frames_that_are_cut_or_damaged(shared_data: Path) -> None:
    register, good = Register(), 0
    for file in sorted((shared_data / "wire").glob("INJ_*.gz")):
        for message in messages_of(file):
            good += outcome(frame_of(message), register) is not None
            for at in range(0, len(message), 3):
                outcome(frame_of(message[:at]), register)
                outcome(frame_of(message[:at] + b"\x00" + message[at + 1 :]), register)
                outcome(frame_of(message[:at] + b"9" + message[at:]), register)
    assert good > 50
