"""The register with listings: decisions, times, what they forbid, and what it remembers."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravenwh.domain.errors import Rejected, SeriesTaken, SettingsError, UnknownSymbol
from ravenwh.domain.instrument import Contract, Instrument
from ravenwh.domain.listing import Listing, instruments, listings
from ravenwh.domain.register import Register
from ravenwh.domain.series import to_ns

F = "BINANCE_FUTURES"


def register(*listed: Listing, **settings: str) -> Register:
    """A register of listings, or of ``PEPE_USDT="BINANCE_FUTURES 1000PEPEUSDT"``."""
    plain = [
        Listing(coin=coin, quote=quote, exchange=exchange, symbol=symbol)
        for (coin, quote), (exchange, symbol) in (
            (pair.split("_"), text.split()) for pair, text in settings.items()
        )
    ]
    return Register(listings=instruments((*listed, *plain)))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ns(text: str) -> int:
    return to_ns(utc(text))


def test_a_listing_goes_before_the_rule() -> None:
    assert Register().resolve("BINANCE_SPOT", "LUNAUSDT").coin == "LUNA"
    assert register(LUNC_USDT="BINANCE_SPOT LUNAUSDT").resolve("BINANCE_SPOT", "LUNAUSDT") == (
        Instrument(
            exchange="BINANCE_SPOT",
            symbol="LUNAUSDT",
            coin="LUNC",
            quote="USDT",
            contract=Contract.SPOT,
        )
    )


def test_a_listing_decides_what_no_rule_can() -> None:
    with pytest.raises(UnknownSymbol):
        Register().resolve("BINANCE_US", "BTCBUSD")
    with pytest.raises(UnknownSymbol):
        Register().resolve(F, "BTCPERP")
    decided = register(BTC_BUSD="BINANCE_US BTCBUSD", BTC_USD=f"{F} BTCPERP")
    assert decided.resolve("BINANCE_US", "BTCBUSD").coin == "BTC"
    perpetual = decided.series_instrument(F, "BTCPERP")
    assert (perpetual.coin, perpetual.quote, perpetual.contract) == ("BTC", "USD", "perpetual")
    assert decided.symbol_for(F, "BTC", "USD") == "BTCPERP"
    assert decided.symbol_for(F, "BTC", "USDT") == "BTCUSDT"


UNKNOWN = [
    ("BINANCE_US", "BTCBUSD"),
    ("BITSTAMP_SPOT", "xrprlusd"),
    (F, "1MILUSDT"),
    (F, "100000PEPEUSDT"),
    ("OKX_PERP", "BTC-USD_UM-SWAP"),
    ("BINANCE_SPOT", "btcusdt"),
]


@pytest.mark.parametrize(("exchange", "symbol"), UNKNOWN)
def test_each_line_that_the_reason_names_mends_it(exchange: str, symbol: str) -> None:
    with pytest.raises(UnknownSymbol) as caught:
        Register().resolve(exchange, symbol)
    _, _, text = str(caught.value).partition("add to [routing.symbol_map]: ")
    lines = text.split(" or ")
    assert lines
    for line in lines:
        symbol_map = tomllib.loads(line)
        assert list(symbol_map.values()) == [{exchange: symbol}]
        found = Register(listings=instruments(listings(symbol_map))).resolve(exchange, symbol)
        assert [f"{found.coin}/{found.quote}"] == list(symbol_map)
        if symbol[:2] == "1M" and found.coin == "IL":
            assert found.multiplier == 1e6
        elif symbol[:6] == "100000" and found.coin == "PEPE":
            assert found.multiplier == 1e5
        else:
            assert found.multiplier == 1


@pytest.mark.parametrize(
    ("exchange", "symbol"),
    [
        ("BINANCE_SPOT", "BTCXYZ"),
        ("DERIBIT", 'BTC"X'),
        ("BIT.COM", "BTC-PERPETUAL"),
        ("FTX_SPOT", "BTC/USD"),
    ],
)
def test_a_line_that_needs_a_person_is_toml_and_refused_as_it_stands(
    exchange: str, symbol: str
) -> None:
    with pytest.raises(UnknownSymbol) as caught:
        Register().resolve(exchange, symbol)
    _, _, line = str(caught.value).partition("add to [routing.symbol_map]: ")
    ((pair, venues),) = tomllib.loads(line).items()
    assert exchange in venues
    entry = venues[exchange]
    listed = Listing(
        coin=pair.split("/")[0],
        quote=pair.split("/")[1],
        exchange=exchange,
        **({"symbol": entry} if isinstance(entry, str) else entry),
    )
    assert listed.symbol == symbol
    with pytest.raises(SettingsError, match="in capitals"):
        instruments((listed,))


class TestTimes:
    """LUNA became LUNC, and its symbol went to another coin two weeks later."""

    OLD = Listing(
        coin="LUNC",
        quote="USDT",
        exchange="BINANCE_SPOT",
        symbol="LUNAUSDT",
        delisted_at=utc("2022-05-13T00:40"),
    )
    NEW = Listing(
        coin="LUNA",
        quote="USDT",
        exchange="BINANCE_SPOT",
        symbol="LUNAUSDT",
        listed_at=utc("2022-05-31T06:00"),
    )

    def test_a_reused_symbol_means_what_it_meant_at_the_time(self) -> None:
        both = register(self.OLD, self.NEW)
        for at, coin in [
            ("2021-01-01", "LUNC"),
            ("2022-05-13T00:39:59.999999", "LUNC"),
            ("2022-05-31T06:00", "LUNA"),
            ("2024-01-01", "LUNA"),
        ]:
            for _ in range(2):
                assert both.resolve("BINANCE_SPOT", "LUNAUSDT", ns(at)).coin == coin
                assert both.series_instrument("BINANCE_SPOT", "LUNAUSDT", ns(at)).coin == coin

    @pytest.mark.parametrize("at", ["2022-05-13T00:40", "2022-05-31T05:59:59.999999"])
    def test_between_two_listings_it_means_nothing(self, at: str) -> None:
        with pytest.raises(UnknownSymbol) as caught:
            register(self.OLD, self.NEW).resolve("BINANCE_SPOT", "LUNAUSDT", ns(at))
        for part in ("LUNC/USDT", "until 2022-05-13T00:40:00Z", "LUNA/USDT", "from 2022-05-31T06"):
            assert part in str(caught.value)

    def test_without_a_time_the_live_one_is_meant(self) -> None:
        assert register(self.OLD, self.NEW).resolve("BINANCE_SPOT", "LUNAUSDT").coin == "LUNA"
        with pytest.raises(UnknownSymbol, match="not listed now"):
            register(self.OLD).resolve("BINANCE_SPOT", "LUNAUSDT")

    def test_a_delisted_symbol_does_not_fall_back_to_the_rule(self) -> None:
        one = register(self.OLD)
        assert one.resolve("BINANCE_SPOT", "LUNAUSDT", ns("2022-01-01")).coin == "LUNC"
        with pytest.raises(UnknownSymbol, match="add an entry with times"):
            one.resolve("BINANCE_SPOT", "LUNAUSDT", ns("2022-06-01"))

    def test_a_coin_may_change_its_symbol_and_come_back(self) -> None:
        def listing(symbol: str, start: str | None, end: str | None) -> Listing:
            return Listing(
                coin="POL",
                quote="USDT",
                exchange="BINANCE_SPOT",
                symbol=symbol,
                listed_at=utc(start) if start else None,
                delisted_at=utc(end) if end else None,
            )

        three = register(
            listing("MATICUSDT", None, "2024-09-10"),
            listing("POLUSDT", "2024-09-13", "2024-10-01"),
            listing("MATICUSDT", "2024-10-01", None),
        )
        for at, symbol in [
            ("2024-01-01", "MATICUSDT"),
            ("2024-09-13", "POLUSDT"),
            ("2024-10-01", "MATICUSDT"),
        ]:
            assert three.symbol_for("BINANCE_SPOT", "POL", "USDT", ns(at)) == symbol
        assert three.symbol_for("BINANCE_SPOT", "POL", "USDT") == "MATICUSDT"
        with pytest.raises(UnknownSymbol, match="POLUSDT of BINANCE_SPOT"):
            three.symbol_for("BINANCE_SPOT", "POL", "USDT", ns("2024-09-11"))

    def test_two_meanings_at_a_time_are_refused_and_both_named(self) -> None:
        early = attrs.evolve(self.NEW, listed_at=utc("2022-05-13T00:39"))
        with pytest.raises(SettingsError) as caught:
            register(self.OLD, early)
        assert "LUNC/USDT until 2022-05-13T00:40:00Z" in str(caught.value)
        assert "LUNA/USDT from 2022-05-13T00:39:00Z" in str(caught.value)
        assert "one meaning of a symbol at a time" in str(caught.value)

    def test_touching_times_do_not_overlap(self) -> None:
        register(self.OLD, attrs.evolve(self.NEW, listed_at=self.OLD.delisted_at))


def test_two_live_symbols_of_a_series_are_refused_and_both_named() -> None:
    with pytest.raises(SettingsError) as caught:
        register(
            Listing(coin="PEPE", quote="USDT", exchange=F, symbol="1000PEPEUSDT"),
            Listing(coin="PEPE", quote="USDT", exchange=F, symbol="PEPEUSDT"),
        )
    assert "1000PEPEUSDT" in str(caught.value)
    assert "found PEPEUSDT" in str(caught.value) or "and PEPEUSDT" in str(caught.value)
    assert "one symbol of a series at a time" in str(caught.value)
    register(
        Listing(coin="PEPE", quote="USDT", exchange=F, symbol="1000PEPEUSDT"),
        Listing(coin="PEPE", quote="USDC", exchange=F, symbol="1000PEPEUSDC"),
        Listing(coin="PEPE", quote="USDT", exchange="BINANCE_SPOT", symbol="PEPEUSDT"),
    )


def test_a_symbol_that_reads_as_a_listed_series_is_taken() -> None:
    both = register(BOB_USDT=f"{F} 1000000BOBUSDT")
    assert both.series_instrument(F, "1000000BOBUSDT").multiplier == 1e6
    for _ in range(2):
        with pytest.raises(SeriesTaken) as caught:
            both.series_instrument(F, "BOBUSDT")
        assert caught.value.code == "SERIES_TAKEN"
        assert "1000000BOBUSDT" in str(caught.value)
    assert both.resolve(F, "BOBUSDT").coin == "BOB"  # still an instrument, for ticks
    named = register(BOB_USDT=f"{F} 1000000BOBUSDT", BOBNET_USDT=f"{F} BOBUSDT")
    assert named.series_instrument(F, "BOBUSDT").coin == "BOBNET"


def test_a_series_is_taken_only_while_the_listing_holds() -> None:
    ended = register(
        Listing(
            coin="BOB",
            quote="USDT",
            exchange=F,
            symbol="1000000BOBUSDT",
            delisted_at=utc("2025-11-01"),
        )
    )
    with pytest.raises(SeriesTaken):
        ended.series_instrument(F, "BOBUSDT", ns("2025-10-31"))
    assert ended.series_instrument(F, "BOBUSDT", ns("2025-11-01")).coin == "BOB"


@pytest.mark.parametrize(
    ("exchange", "symbol", "own"),
    [
        (F, "BTCUSDT_250328", "BTC-250328/USDT"),
        ("BINANCE_COIN_FUTURES", "BTCUSD_250328", "BTC-250328/USD"),
        ("DERIBIT", "BTC-28MAR25", "BTC-250328/USD"),
        ("DERIBIT", "XRP_USDC-30JUN23-0d4-C", "XRP-230630-0.4-C/USDC"),
        ("DERIBIT", "BTC-28MAR25-60000-P", "BTC-250328-60000-P/BTC"),
        ("DERIBIT", "btc_usd", "BTC-INDEX/USD"),
        ("KRAKEN_FUTURES", "FF_XBTUSD_261225", "BTC-261225/USD"),
    ],
)
def test_dated_options_and_indices_have_a_series_only_under_a_name_of_their_own(
    exchange: str, symbol: str, own: str
) -> None:
    plain = Register()
    for _ in range(2):
        with pytest.raises(Rejected) as caught:
            plain.series_instrument(exchange, symbol)
        assert caught.value.code == "NOT_IN_MART"
    line = str(caught.value).partition("add to [routing.symbol_map]: ")[2]
    assert tomllib.loads(line) == {own: {exchange: symbol}}
    read = plain.resolve(exchange, symbol)
    named = Register(listings=instruments(listings(tomllib.loads(line))))
    found = named.series_instrument(exchange, symbol)
    assert found == attrs.evolve(read, coin=own.split("/")[0])
    same_coin = Listing(coin=read.coin, quote=read.quote, exchange=exchange, symbol=symbol)
    with pytest.raises(SettingsError, match="a coin name of its own"):
        instruments((same_coin,))


def test_contracts_of_unknown_size_have_no_series_until_the_settings_tell_it() -> None:
    plain = Register()
    assert plain.resolve("OKX_PERP", "SOL-USDT-SWAP").coin == "SOL"
    for _ in range(2):
        with pytest.raises(Rejected) as caught:
            plain.series_instrument("OKX_PERP", "SOL-USDT-SWAP")
        assert caught.value.code == "UNKNOWN_UNIT"
    line = str(caught.value).partition("add to [routing.symbol_map]: ")[2]
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(line)
    told = tomllib.loads(line.replace('"..."', '"coin"').replace("...", "1"))
    entry = told["SOL/USDT"]["OKX_PERP"]
    sized = register(Listing(coin="SOL", quote="USDT", exchange="OKX_PERP", **entry))
    unit = sized.series_instrument("OKX_PERP", "SOL-USDT-SWAP").volume_unit
    assert (unit.kind, unit.size, unit.of) == ("contract", 1, "coin")


@pytest.mark.parametrize(
    ("exchange", "coin", "quote", "reason"),
    [
        ("FTX", "BTC", "USD", "no rule is known"),
        ("BINANCE_SPOT", "BTC", "USD", "its quotes are"),
        ("BINANCE_OPTIONS", "BTC", "USDT", "it has options only"),
        ("BINANCE_US", "BTC", "BUSD", "BTCB in USD or BTC in BUSD"),
        ("BINANCE_SPOT", "btc", "USDT", "the venue writes"),
        (F, "1000PEPE", "USDT", "1000PEPEUSDT stands for PEPE/USDT"),
        ("OKX_FUTURES", "BTC", "USD", "it has dated contracts only"),
    ],
)
def test_a_pair_without_a_symbol_says_why(
    exchange: str, coin: str, quote: str, reason: str
) -> None:
    with pytest.raises(UnknownSymbol) as caught:
        Register().symbol_for(exchange, coin, quote)
    assert reason in str(caught.value)
    assert f"{coin}/{quote}" in str(caught.value)


def test_a_symbol_listed_for_another_coin_is_not_written() -> None:
    with pytest.raises(UnknownSymbol, match="LUNAUSDT stands for LUNC/USDT"):
        register(LUNC_USDT="BINANCE_SPOT LUNAUSDT").symbol_for("BINANCE_SPOT", "LUNA", "USDT")


def test_a_listing_holds_for_every_spelling_of_its_symbol() -> None:
    one = register(XBT_USD="KRAKEN_SPOT XBT/USD")
    assert one.resolve("KRAKEN_SPOT", "XBT/USD").coin == "XBT"
    assert one.resolve("KRAKEN_SPOT", "BTC/USD").coin == "XBT"
    assert one.series_instrument("KRAKEN_SPOT", "XBT/USD").symbol == "BTC/USD"


def memories(of: Register) -> list[dict[object, object]]:
    return [
        getattr(of, field.name)
        for field in attrs.fields(Register)
        if field.name in {"_resolved", "_unknown", "_series", "_seriesless", "_native"}
    ]


def test_a_flood_of_symbols_leaves_every_memory_within_its_bound() -> None:
    one = Register(remembered=100)
    for number in range(1000):
        one.series_instrument("BINANCE_SPOT", f"X{number}USDT")
        with pytest.raises(UnknownSymbol):
            one.resolve("BINANCE_SPOT", f"X{number}")
        with pytest.raises(Rejected):
            one.series_instrument("OKX_PERP", f"X{number}-USDT-SWAP")
        one.from_cryptofeed("BINANCE", f"X{number}-USDT")
        with pytest.raises(UnknownSymbol):
            one.resolve(f"V{number}", "BTCUSDT")
    assert [len(memory) <= 100 for memory in memories(one)] == [True] * 5
    assert all(memories(one))
    assert one.resolve("BINANCE_SPOT", "BTCUSDT").coin == "BTC"


def test_endless_names_are_not_remembered() -> None:
    one = Register()
    for call in (one.resolve, one.series_instrument, one.from_cryptofeed):
        for venue, symbol in [("BINANCE_SPOT", "A" * 10_000), ("A" * 10_000, "BTCUSDT")]:
            with pytest.raises(UnknownSymbol):
                call(venue, symbol)
    assert not any(memories(one))


def test_what_is_known_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one = register(BTC_BUSD="BINANCE_US BTCBUSD")
    calls = [
        lambda: one.resolve("BINANCE_SPOT", "BTCUSDT"),
        lambda: one.series_instrument("BINANCE_SPOT", "BTCUSDT"),
        lambda: one.resolve("BINANCE_US", "BTCBUSD"),
    ]
    first = [call() for call in calls]
    monkeypatch.setattr("ravenwh.domain.register.RULES", {})
    assert [call() is found for call, found in zip(calls, first, strict=True)] == [True] * 3
    with pytest.raises(UnknownSymbol, match="no rule is known"):
        one.resolve("BINANCE_SPOT", "ETHUSDT")
    monkeypatch.undo()
    with pytest.raises(UnknownSymbol, match="no rule is known"):  # refusals are remembered too
        one.resolve("BINANCE_SPOT", "ETHUSDT")


times = st.one_of(
    st.none(),
    st.datetimes(datetime(2020, 1, 1), datetime(2020, 1, 9), timezones=st.just(UTC)),  # noqa: DTZ001
)


@given(bounds=st.lists(st.tuples(times, times), max_size=4), at=times)
def test_listings_are_refused_or_at_most_one_holds(
    bounds: list[tuple[datetime | None, datetime | None]], at: datetime | None
) -> None:
    base = Register().resolve("BINANCE_SPOT", "BTCUSDT")
    listed = [
        attrs.evolve(base, coin=f"C{i}", listed_at=start, delisted_at=end)
        for i, (start, end) in enumerate(bounds)
        if start is None or end is None or start < end
    ]
    moments = [m for pair in bounds for m in pair if m is not None] + ([at] if at else [])

    def holding(moment: datetime) -> list[str]:
        return [
            one.coin
            for one in listed
            if (one.listed_at is None or one.listed_at <= moment)
            and (one.delisted_at is None or moment < one.delisted_at)
        ]

    edges = [*moments, datetime(2019, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)]
    try:
        one = Register(listings=listed)
    except SettingsError as error:
        assert any(len(holding(moment)) > 1 for moment in edges)
        assert re.search("C[0-9].* and .*C[0-9]", str(error))  # noqa: PT017
        return
    for moment in edges:
        names = holding(moment)
        assert len(names) <= 1
        if names:
            assert one.resolve("BINANCE_SPOT", "BTCUSDT", to_ns(moment)).coin == names[0]
        elif listed:
            with pytest.raises(UnknownSymbol):
                one.resolve("BINANCE_SPOT", "BTCUSDT", to_ns(moment))
