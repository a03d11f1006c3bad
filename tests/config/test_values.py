"""Settings made in Python: the same bounds, the upstreams, and the register of ports."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from ravenwh.domain.errors import SettingsError
from ravenwh.domain.instrument import Contract
from ravenwh.domain.listing import listings
from ravenwh.domain.messages import DATA_TYPES
from ravenwh.domain.settings import (
    Bars,
    BinanceKlines,
    DatabaseUrl,
    Embedded,
    Feed,
    Influx,
    Ingest,
    Journal,
    Log,
    Routing,
    Secret,
    Server,
    Settings,
    SymbolEntry,
    Timescale,
)
from ravenwh.domain.settings.option import Named, Section, options_of

SECTIONS = [
    Settings, Timescale, Embedded, Influx, Routing, SymbolEntry, BinanceKlines, Bars, Server, Feed,
    Journal, Ingest, Log,
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Server(kline_port=0), "kline_port: found 0; allowed: a whole number from 1 to "),
        (lambda: Log(level="LOUD"), 'level: found "LOUD"; allowed: one of "TRACE", '),
        (lambda: Influx(token="a b"), "token: found ***; allowed: "),
        (lambda: Influx(token=object()), "token: found no string; allowed: "),
        (lambda: Journal(dir=b"x"), "dir: found a bytes; allowed: a folder"),
        (lambda: Ingest(retry_initial_s=9, retry_max_s=8), "retry_initial_s: found 9, with "),
        (lambda: Timescale(password=Secret("x")), "password: found one, with timescale.url "),
        (lambda: Settings(feeds={}), "feeds: found no feed; allowed: at least one"),
        (lambda: Settings(log=None), "log: found no table; allowed: a table with the keys "),
        (
            lambda: Settings(routing=Routing(upstreams={"OKX": "gone"})),
            'routing.upstreams.OKX: found "gone"; allowed: a feed of the settings: default',
        ),
        (lambda: attrs.evolve(Server(), bar_port=65536), "bar_port: found 65536; allowed: "),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_in_python_too(make: Any, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_values_become_what_a_file_would_give() -> None:
    assert BinanceKlines(interval="1h").interval == ("1h",)
    assert Log(level="debug").level == "DEBUG"
    assert Ingest(flush_after_s=1).flush_after_s == 1.0
    assert Timescale(url="postgresql://h/d").url == DatabaseUrl("postgresql://h/d")
    symbol_map = {"PEPE/USDT": {"BINANCE_FUTURES": "1000PEPEUSDT"}}
    assert Routing(symbol_map=symbol_map).symbol_map == {
        "PEPE/USDT": {"BINANCE_FUTURES": SymbolEntry(symbol="1000PEPEUSDT")}
    }


@pytest.mark.parametrize(
    "entry",
    [
        SymbolEntry(symbol="A", volume_unit="contract"),  # of the size that the rule knows
        SymbolEntry(symbol="A", contract_size=10, contract_of="quote"),  # in contracts, clearly
        SymbolEntry(symbol="A", multiplier=1000, volume_unit="quote", contract="spot"),
        SymbolEntry(symbol="A", coin="BTC-A", contract="dated"),
    ],
)
def test_the_register_takes_the_entries_that_the_settings_take(entry: SymbolEntry) -> None:
    routing = Routing(symbol_map={"BTC/USD": {"SOME_PERP": entry}})
    (listing,) = listings(routing.symbol_map)
    assert (listing.symbol, listing.coin, listing.quote) == ("A", entry.coin or "BTC", "USD")


def test_every_contract_that_is_traded_can_be_stated() -> None:
    for contract in Contract:
        if contract is not Contract.INDEX:
            assert SymbolEntry(symbol="A", contract=str(contract)).contract == contract


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_tells_what_it_is(section: type[Section]) -> None:
    assert section.__doc__
    for name, declared in options_of(section).items():
        assert name.islower()
        assert declared.kind.allowed
        if section is not Settings:
            assert declared.help.endswith(".")
        if declared.default not in (None, attrs.NOTHING):
            assert declared.kind.read(declared.default) == declared.default
            assert declared.kind.read(declared.kind.plain(declared.default)) == declared.default
        assert bool(declared.absent) == (declared.default is None)
        unit = name.rpartition("_")[2]
        units = {
            "s": "seconds",
            "ms": "milliseconds",
            "h": "hours",
            "days": "days",
            "bytes": "bytes",
        }
        assert declared.unit == units.get(unit, declared.unit)
        if isinstance(declared.kind, Named) and section is not Settings:
            declared.kind.read(declared.example)


def upstreams(**feeds: str) -> Settings:
    return Settings(
        feeds={"a": Feed(), "b": Feed(), "c": Feed()},
        routing=Routing(upstreams={key.replace("__", ":"): feed for key, feed in feeds.items()}),
    )


def test_the_only_feed_is_the_upstream_of_everything() -> None:
    for data_type in DATA_TYPES:
        found = Settings().upstream_for("BINANCE_SPOT", data_type)
        assert (found.feed, found.key, found.guessed) == ("default", None, False)


def test_an_upstream_is_chosen_by_venue_and_data_type_then_venue_then_default() -> None:
    settings = upstreams(OKX__TRADE="a", OKX="b", default="c")
    chosen = {
        (venue, data_type): settings.upstream_for(venue, data_type)
        for venue in ("OKX", "OTHER")
        for data_type in ("TRADE", "ORDERBOOK")
    }
    assert {name: (up.feed, up.key, up.guessed) for name, up in chosen.items()} == {
        ("OKX", "TRADE"): ("a", "OKX:TRADE", False),
        ("OKX", "ORDERBOOK"): ("b", "OKX", False),
        ("OTHER", "TRADE"): ("c", "default", True),
        ("OTHER", "ORDERBOOK"): ("c", "default", True),
    }


@pytest.mark.parametrize("data_type", sorted(set(DATA_TYPES) - {"TRADE", "ORDERBOOK"}))
def test_other_data_types_never_fall_back(data_type: str) -> None:
    settings = upstreams(OKX="b", default="c", OTHER__TRADE="a")
    with pytest.raises(SettingsError) as caught:
        settings.upstream_for("OKX", data_type)
    assert caught.value.problems == (
        f'routing.upstreams."OKX:{data_type}": found nothing; allowed: one of a, b, c',
    )
    named = upstreams(**{f"OKX__{data_type}": "a"})
    assert named.upstream_for("OKX", data_type).feed == "a"


def test_several_feeds_need_upstreams() -> None:
    with pytest.raises(SettingsError, match='"OKX:TRADE": found nothing'):
        upstreams().upstream_for("OKX", "TRADE")


def test_the_feed_of_our_own_bars_is_none_of_venues() -> None:
    settings = Settings(feeds={"a": Feed(), "bars": Feed()}, bars=Bars(feed="bars"))
    for data_type in DATA_TYPES:
        found = settings.upstream_for("OKX", data_type)
        assert (found.feed, found.key, found.guessed) == ("a", None, False)
    named = attrs.evolve(settings, routing=Routing(upstreams={"OKX:TRADE": "bars"}))
    assert named.upstream_for("OKX", "TRADE").feed == "bars"
    with pytest.raises(SettingsError, match=r'"OKX:CANDLE": found nothing; .*one of a$'):
        named.upstream_for("OKX", "CANDLE")
    several = attrs.evolve(settings, feeds={"a": Feed(), "b": Feed(), "bars": Feed()})
    with pytest.raises(SettingsError, match=r'"OKX:TRADE": found nothing; .*one of a, b$'):
        several.upstream_for("OKX", "TRADE")
    alone = Settings(bars=Bars(feed="default"))
    assert alone.upstream_for("OKX", "TRADE").feed == "default"


def test_one_feed_with_upstreams_is_not_everythings() -> None:
    settings = Settings(routing=Routing(upstreams={"OKX:TRADE": "default"}))
    with pytest.raises(SettingsError, match='"OKX:CANDLE": found nothing'):
        settings.upstream_for("OKX", "CANDLE")


def test_every_runner_has_its_ports_in_the_register() -> None:
    ports = Settings().ports()
    fields = [name for name in options_of(Server) if name.endswith("_port")]
    assert {port.key for port in ports} == {f"server.{name}" for name in fields}
    assert {(port.service, port.number, port.purpose) for port in ports} == {
        ("kline", 5571, "control"),
        ("kline", 6571, "metrics"),
        ("bar", 5572, "control"),
        ("bar", 6572, "metrics"),
        ("tick", 5573, "control"),
        ("tick", 6573, "metrics"),
        ("make_bars", 5574, "control"),
        ("make_bars", 6574, "metrics"),
        ("replay", 5570, "control"),
        ("replay", 6570, "metrics"),
    }
    assert len({port.number for port in ports}) == len(ports)
    assert {port.host for port in ports} == {"127.0.0.1"}


def test_other_ports_that_we_bind_are_in_the_register_too() -> None:
    settings = Settings(
        feeds={
            "live": Feed(endpoint="tcp://*:9000", mode="bind", wire="cryptofeed"),
            "six": Feed(endpoint="tcp://[::1]:9002", mode="bind"),
            "local": Feed(endpoint="ipc:///tmp/x", mode="bind"),
            "other": Feed(endpoint="tcp://127.0.0.1:9001"),
        },
        embedded=Embedded(port=5433),
    )
    more = [port for port in settings.ports() if not port.key.startswith("server.")]
    assert [(p.service, p.purpose, p.host, p.number, p.key) for p in more] == [
        ("feed live", "frames", "*", 9000, "feeds.live.endpoint"),
        ("feed six", "frames", "::1", 9002, "feeds.six.endpoint"),
        ("embedded", "database", "127.0.0.1", 5433, "embedded.port"),
    ]
    elsewhere = attrs.evolve(settings, timescale=Timescale(url=DatabaseUrl("postgresql://h/d")))
    assert len(elsewhere.ports()) == len(settings.ports()) - 1


def test_highest_ports_have_room_for_metrics() -> None:
    top = Server(kline_port=64535)
    assert max(port.number for port in top.ports()) == 65535
