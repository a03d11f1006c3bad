"""Which file is taken, what comes before what, and what values become."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravenwh.config import load, load_explained
from ravenwh.config.keys import keys_of, tables
from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings import Feed, Secret, Settings, SymbolEntry
from ravenwh.domain.settings.policies import INTERVAL
from ravenwh.timescale.interval import Interval

UNITS = ("second", "minute", "hour", "day", "week", "month", "year")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, without a settings file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_given_gives_the_defaults() -> None:
    settings = load(environ={})
    assert settings == Settings()
    assert settings.timescale.url.embedded
    assert settings.timescale.schema == "mart"
    assert dict(settings.feeds) == {"default": Feed()}
    assert settings.feeds["default"].endpoint == "tcp://127.0.0.1:5555"


def test_the_file_is_the_given_one_then_the_variables_then_the_one_here(tmp_path: Path) -> None:
    given = written(tmp_path / "given.toml", "ingest.batch_rows = 1")
    named = written(tmp_path / "named.toml", "ingest.batch_rows = 2")
    here = written(tmp_path / "ravenwh.toml", "ingest.batch_rows = 3")
    environ = {"RAVENWH_CONFIG": str(named)}

    assert load(given, environ).ingest.batch_rows == 1
    assert load(None, environ).ingest.batch_rows == 2
    assert load(None, {}).ingest.batch_rows == 3
    assert load(None, {"RAVENWH_CONFIG": ""}).ingest.batch_rows == 3
    here.unlink()
    assert load(None, {}).ingest.batch_rows == 5000


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAVENWH_INGEST_BATCH_ROWS", "7")
    assert load().ingest.batch_rows == 7
    assert load(environ={}).ingest.batch_rows == 5000


def test_a_variable_comes_before_the_file(tmp_path: Path) -> None:
    file = written(
        tmp_path / "a.toml",
        """
        [timescale]
        url = "postgresql://a@127.0.0.1/one"
        schema = "file"
        [ingest]
        batch_rows = 10
        flush_after_s = 2
        [feeds.live]
        rcvhwm = 10
        """,
    )
    settings = load(
        file,
        {
            "RAVENWH_TIMESCALE_URL": "postgresql://a@127.0.0.1/two",
            "RAVENWH_INGEST_BATCH_ROWS": "20_000",
            "RAVENWH_INGEST_CLOSE_GRACE_S": "1.5e1",
            "RAVENWH_FEEDS_LIVE_RCVHWM": "20",
            "RAVENWH_BINANCE_KLINES_INTERVAL": "1h",
            "RAVENWH_LOG_LEVEL": "debug",
            "RAVENWH_TEST_WHATEVER": "is not read",
            "ravenwh_no_variable_of_ours": "is not read",
        },
    )
    assert str(settings.timescale.url) == "postgresql://a@127.0.0.1/two"
    assert settings.timescale.schema == "file"
    assert settings.ingest.batch_rows == 20_000
    assert settings.ingest.flush_after_s == 2.0
    assert settings.ingest.close_grace_s == 15.0
    assert settings.feeds["live"].rcvhwm == 20
    assert list(settings.feeds) == ["live"]
    assert settings.binance_klines.interval == ("1h",)
    assert settings.log.level == "DEBUG"


def test_a_variable_reaches_the_default_feed_where_the_file_has_none(tmp_path: Path) -> None:
    file = written(tmp_path / "a.toml", "[feeds]\n")
    settings = load(file, {"RAVENWH_FEEDS_DEFAULT_ENDPOINT": "ipc:///tmp/feed"})
    assert dict(settings.feeds) == {"default": Feed(endpoint="ipc:///tmp/feed")}


def test_every_single_value_can_come_from_the_environment() -> None:
    """Each variable alone, with a value of its kind, changes its own key and nothing else."""
    values = {
        "RAVENWH_TIMESCALE_URL": "postgresql://a@h/d",
        "RAVENWH_TIMESCALE_SCHEMA": "other",
        "RAVENWH_TIMESCALE_ENGINE": "none",
        "RAVENWH_INFLUX_URL": "https://h",
        "RAVENWH_INFLUX_COMPRESSION": "gzip",
        "RAVENWH_SERVER_HOST": "127.0.0.2",
        "RAVENWH_FEEDS_DEFAULT_ENDPOINT": "ipc://x",
        "RAVENWH_FEEDS_DEFAULT_MODE": "bind",
        "RAVENWH_FEEDS_DEFAULT_WIRE": "cryptofeed",
        "RAVENWH_LOG_LEVEL": "ERROR",
        "RAVENWH_LOG_FORMAT": "json",
        "RAVENWH_BINANCE_KLINES_INTERVAL": "5m",
        "RAVENWH_BARS_FEED": "default",
    }
    tried = 0
    for table, section in tables(["default"]).items():
        for key in keys_of(table, section):
            # the three CURVE keys, and a password, need others beside them: test_secrets.py
            if key.variable is None or key.in_file or key.name.endswith(("_key", "password")):
                continue
            default = key.option.default
            number = str(default + 1) if isinstance(default, int | float) else None
            text = values.get(key.variable, number or str(key.option.example or "other"))
            if isinstance(key.option.example, list):
                text = values.get(key.variable, "ETH/USDT")
            explained = load_explained(None, {key.variable: text})
            given = {r.path for r in explained.rows() if str(r.source) == key.variable}
            assert given == {key.path}, key.variable
            assert explained.settings != Settings(), key.variable
            tried += 1
    assert tried > 35


def test_policies_come_from_the_file_and_the_environment(tmp_path: Path) -> None:
    file = written(
        tmp_path / "a.toml",
        """
        [timescale.policies.fact__kline]
        retention = "400 days"
        columnstore_after = "30 days"
        [timescale.policies.agg__kline_1h]
        refresh_start = "3 days 12 hours"
        """,
    )
    environ = {
        "RAVENWH_TIMESCALE_POLICIES_FACT__KLINE_COLUMNSTORE_AFTER": "never",
        "RAVENWH_TIMESCALE_POLICIES_FACT__VPIN_RETENTION": "2 years",
    }
    explained = load_explained(file, environ)
    assert explained.settings.timescale.policy_times == {
        "fact__kline": {"retention": "400 days", "columnstore_after": None},
        "agg__kline_1h": {"refresh_start": "3 days 12 hours"},
        "fact__vpin": {"retention": "2 years"},
    }
    rows = {row.key: (row.value, str(row.source)) for row in explained.rows()}
    key = "timescale.policies.fact__kline"
    assert rows[f"{key}.retention"] == ("400 days", f"{file}:{key}.retention")
    assert rows[f"{key}.columnstore_after"] == (
        "never",
        "RAVENWH_TIMESCALE_POLICIES_FACT__KLINE_COLUMNSTORE_AFTER",
    )
    assert rows["timescale.policies.fact__vpin.refresh_end"] == (None, "default")
    assert "timescale.policies" not in rows
    again = written(tmp_path / "again.toml", explained.text())
    assert load(again, {}) == explained.settings


@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.sampled_from(UNITS)),
        min_size=1,
        unique_by=lambda part: part[1],
    )
)
def test_what_the_settings_call_an_interval_is_one(parts: list[tuple[int, str]]) -> None:
    text = " ".join(f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in parts)
    span = Interval.parse(text).span
    if span:
        assert INTERVAL.read(text) == text
    else:
        with pytest.raises(SettingsError):
            INTERVAL.read(text)


def test_paths_start_at_the_file_or_at_home_or_for_variables_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/of/someone")
    file = written(
        tmp_path / "etc" / "a.toml",
        """
        journal.dir = "journal"
        embedded.data_dir = "~/pg"
        embedded.bin_dir = "/usr/bin"
        """,
    )
    settings = load(Path("etc/a.toml"), {})
    assert settings.journal.dir == tmp_path / "etc" / "journal"
    assert settings.embedded.data_dir == Path("/home/of/someone/pg")
    assert settings.embedded.bin_dir == Path("/usr/bin")
    assert load(file, {"RAVENWH_JOURNAL_DIR": "j"}).journal.dir == tmp_path / "j"


def test_symbols_are_mapped_by_a_string_or_a_table(tmp_path: Path) -> None:
    file = written(
        tmp_path / "a.toml",
        """
        [routing.symbol_map]
        "PEPE/USDT" = { BINANCE_FUTURES = "1000PEPEUSDT" }
        "LUNA/USDT" = { BINANCE_SPOT = { symbol = "LUNAUSDT", listed_at = 2022-05-31T06:00:00Z } }
        "LUNC/USDT" = { BINANCE_SPOT = { symbol = "LUNAUSDT", delisted_at = 2022-05-31T06:00:00Z } }
        [routing.symbol_map."BTC/USD"]
        OKX_PERP = { symbol = "BTC-USD-SWAP", multiplier = 1, volume_unit = "contract", \
contract_size = 100, contract_of = "quote", contract = "perpetual", coin = "BTC" }
        """,
    )
    symbol_map = load(file, {}).routing.symbol_map
    assert symbol_map["PEPE/USDT"]["BINANCE_FUTURES"] == SymbolEntry(symbol="1000PEPEUSDT")
    since = datetime(2022, 5, 31, 6, tzinfo=UTC)
    assert symbol_map["LUNA/USDT"]["BINANCE_SPOT"].listed_at == since
    assert symbol_map["BTC/USD"]["OKX_PERP"] == SymbolEntry(
        symbol="BTC-USD-SWAP",
        multiplier=1.0,
        volume_unit="contract",
        contract_size=100.0,
        contract_of="quote",
        contract="perpetual",
        coin="BTC",
    )


def test_one_string_stands_for_an_array(tmp_path: Path) -> None:
    file = written(tmp_path / "a.toml", 'binance_klines = { interval = "1h", symbols = "BTCUSDT" }')
    assert load(file, {}).binance_klines.interval == ("1h",)
    assert load(file, {}).binance_klines.symbols == ("BTCUSDT",)


def test_a_file_with_a_byte_order_mark_and_dos_line_ends_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbf[ingest]\r\nbatch_rows = 3\r\n")
    assert load(tmp_path / "a.toml", {}).ingest.batch_rows == 3


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    file = written(tmp_path / "a.toml", 'routing.upstreams.default = "default"')
    settings = load(file, {})
    for change in (
        lambda: setattr(settings, "log", settings.log),
        lambda: setattr(settings.log, "level", "INFO"),
    ):
        with pytest.raises(AttributeError):
            change()
    with pytest.raises(TypeError):
        settings.feeds["more"] = Feed()  # type: ignore[index]
    with pytest.raises(TypeError):
        settings.routing.upstreams["X"] = "default"  # type: ignore[index]


def test_names_of_variables_are_unambiguous() -> None:
    names = [
        key.variable
        for table, section in tables(["default", "secret", "a_server", "a"]).items()
        for key in keys_of(table, section)
        if key.variable
    ]
    assert len(names) == len(set(names))
    assert "RAVENWH_TIMESCALE_URL" in names
    assert "RAVENWH_INGEST_BATCH_ROWS" in names


def test_values_loaded_twice_are_equal(tmp_path: Path) -> None:
    file = written(tmp_path / "a.toml", 'influx.token = "one"')
    assert load(file, {}) == load(file, {})
    assert load(file, {}) != load(file, {"RAVENWH_INFLUX_TOKEN": "two"})
    assert load(file, {}).influx.token == Secret("one")


def test_a_missing_file_here_is_no_error_but_a_named_one_is(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path / "no.toml", {})
    assert caught.value.problems == (
        f"{tmp_path}/no.toml: found no such file; allowed: a file that exists (named by --config)",
    )
    with pytest.raises(SettingsError) as caught:
        load(None, {"RAVENWH_CONFIG": "no.toml"})
    assert caught.value.problems == (
        f"{tmp_path}/no.toml: found no such file; allowed: a file that exists "
        "(named by RAVENWH_CONFIG)",
    )
