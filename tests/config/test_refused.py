"""Settings that cannot be used, with the exact message of each."""

# ruff: noqa: E501  # a message stands as it is told, in one piece
from __future__ import annotations

from pathlib import Path

import pytest

from ravenwh.config import load
from ravenwh.domain.errors import SettingsError
from ravenwh.domain.messages import DATA_TYPES

WHOLE_PORT = "a whole number from 1 to 64535"
ENDPOINT = "tcp://HOST:PORT with a port from 1 to 65535, or ipc://PATH"
VENUE = "a venue and market in capitals, as in BINANCE_FUTURES"
PAIR = "COIN/QUOTE in capitals, as in PEPE/USDT"
SCHEMA = (
    "1 to 41 small letters, digits and underscores, no digit first, and none of public, "
    "information_schema, pg_*, timescaledb*, _timescaledb*"
)
DATABASE = (
    '"embedded", or postgresql://USER@HOST:PORT/DATABASE with every @ : / ? # % of a user name or '
    "password written as %40 %3A %2F %3F %23 %25"
)
UTC_TIME = "a date and time in UTC without quotes, as in 2024-05-28T00:00:00Z"
UPSTREAM = (
    "VENUE:DATA_TYPE, VENUE or default, where DATA_TYPE is one of TRADE, ORDERBOOK, CANDLE, "
    "FUNDING, LIQUIDATION, OPEN_INTEREST, TICKER, PRICE_INDEX"
)
INTERVALS = (
    'one of "1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", '
    '"1w"'
)
ENTRY = "symbol, multiplier, volume_unit, contract_size, contract_of, listed_at, delisted_at, contract, coin"
INTERVAL = 'an interval longer than nothing, as in "400 days", "12 hours" or "1 month"'
RELATIONS = (
    "fact__kline, fact__tick_imbalance, fact__tick_run, fact__volume_imbalance, fact__vpin, "
    "fact__funding, fact__open_interest, agg__kline_5m, agg__kline_15m, agg__kline_30m, "
    "agg__kline_1h, agg__kline_4h, agg__kline_1d, agg__kline_1w"
)
FEED_NAME = "a name of small letters, digits and underscores"
PEPE = 'routing.symbol_map."PEPE/USDT".X'

REFUSED: list[tuple[str, str]] = [
    # unknown keys, with the nearest known one
    (
        'timescale.shema = "x"',
        "timescale.shema (FILE): found an unknown key (did you mean schema?); allowed: url, "
        "password, password_file, schema, engine, policies, refresh_due_every_s",
    ),
    (
        "[jornal]\nkeep_h = 1",
        "jornal (FILE): found an unknown key (did you mean journal?); allowed: timescale, embedded, "
        "influx, routing, binance_klines, bars, ticks, server, feeds, journal, ingest, log",
    ),
    (
        'log.colour = "red"',
        "log.colour (FILE): found an unknown key; allowed: level, format",
    ),
    (
        'log."a b" = 1',
        'log."a b" (FILE): found an unknown key; allowed: level, format',
    ),
    (
        'feeds.a.endpont = "tcp://h:1"',
        "feeds.a.endpont (FILE): found an unknown key (did you mean endpoint?); allowed: endpoint, "
        "mode, wire, control, server_key, public_key, secret_key, secret_key_file, client_keys, rcvhwm, "
        "max_frame_bytes",
    ),
    # policies: what only the models can tell
    (
        'timescale.policies.fact__klin.retention = "1 year"',
        "timescale.policies.fact__klin (FILE): found an unknown table or rollup (did you mean "
        f"fact__kline?); allowed: {RELATIONS}",
    ),
    (
        'timescale.policies.fact__kline.retension = "1 year"',
        "timescale.policies.fact__kline.retension (FILE): found an unknown key (did you mean "
        "retention?); allowed: retention, columnstore_after, refresh_start, refresh_end, "
        "refresh_schedule",
    ),
    *(
        (
            f'timescale.policies.fact__kline.retention = "{text}"',
            f'timescale.policies.fact__kline.retention (FILE): found "{text}"; allowed: {INTERVAL}; '
            'or "never"',
        )
        for text in (
            "",
            "soon",
            "0 days",
            "0 days 00 hours",
            "-1 day",
            "7",
            "201 years",
            "1 day 1 day",
            "1 day ago",
        )
    ),
    (
        'timescale.policies.agg__kline_1h.refresh_end = "never"',
        'timescale.policies.agg__kline_1h.refresh_end (FILE): found "never"; allowed: ' + INTERVAL,
    ),
    (
        'timescale.policies.fact__vpin.refresh_start = "1 year"',
        'timescale.policies.fact__vpin.refresh_start (FILE): found "1 year"; allowed: what keeps this '
        "rule: refresh_start of 'fact__vpin': a hypertable is not refreshed",
    ),
    (
        'timescale.policies.agg__kline_1w.refresh_start = "20 days"',
        'timescale.policies.agg__kline_1w.refresh_start (FILE): found "20 days"; allowed: what keeps '
        "this rule: ContinuousAggregate 'agg__kline_1w': the refresh window, start (20 days) minus end "
        "(7 days), must span two buckets of 7 days",
    ),
    (  # all of them, also beside what is wrong by itself
        "[timescale]\nschema = 'public'\n"
        "policies.fact__kline = { retention = '2 days', columnstore_after = 'never' }\n"
        "policies.agg__kline_1h.refresh_start = 'once'",
        f'timescale.schema (FILE): found "public"; allowed: {SCHEMA}\n'
        f'timescale.policies.agg__kline_1h.refresh_start (FILE): found "once"; allowed: {INTERVAL}\n'
        + "\n".join(
            'timescale.policies.fact__kline.retention (FILE): found "2 days"; allowed: what keeps this '
            f"rule: ContinuousAggregate 'agg__kline_{code}': the retention of 'fact__kline' (2 days) must "
            "be longer than its refresh start (2 days): a refresh would erase what was dropped there"
            for code in ("5m", "15m", "30m", "1h")
        ),
    ),
    # wrong types
    ('log = "debug"', "log (FILE): found a string; allowed: a table with the keys level, format"),
    ("log = 5", "log (FILE): found a number; allowed: a table with the keys level, format"),
    ("log = true", "log (FILE): found a boolean; allowed: a table with the keys level, format"),
    ("log = []", "log (FILE): found an array; allowed: a table with the keys level, format"),
    ("[[log]]", "log (FILE): found an array; allowed: a table with the keys level, format"),
    (
        "log = 2024-01-01",
        "log (FILE): found no table; allowed: a table with the keys level, format",
    ),
    (
        'server.kline_port = "5571"',
        f'server.kline_port (FILE): found "5571"; allowed: {WHOLE_PORT}',
    ),
    ("server.kline_port = true", f"server.kline_port (FILE): found true; allowed: {WHOLE_PORT}"),
    ("server.kline_port = 1.0", f"server.kline_port (FILE): found 1.0; allowed: {WHOLE_PORT}"),
    ("server.kline_port = [1]", f"server.kline_port (FILE): found an array; allowed: {WHOLE_PORT}"),
    (
        "server.kline_port.a = 1",
        f"server.kline_port (FILE): found a table; allowed: {WHOLE_PORT}",
    ),
    (
        "ingest.flush_after_s = true",
        "ingest.flush_after_s (FILE): found true; allowed: a number from 0.001 to 60",
    ),
    (
        'ingest.flush_after_s = "1"',
        'ingest.flush_after_s (FILE): found "1"; allowed: a number from 0.001 to 60',
    ),
    ("influx.org = 5", "influx.org (FILE): found 5; allowed: a name, not empty"),
    (
        "influx.token = 5",
        "influx.token (FILE): found no string; allowed: a string of visible ASCII characters "
        "without blanks, not empty",
    ),
    (
        "journal.dir = 5",
        "journal.dir (FILE): found 5; allowed: a folder; it is made if need be",
    ),
    (
        'journal.dir = ""',
        'journal.dir (FILE): found ""; allowed: a folder; it is made if need be',
    ),
    # bounds
    ("server.kline_port = 0", f"server.kline_port (FILE): found 0; allowed: {WHOLE_PORT}"),
    ("server.kline_port = 64536", f"server.kline_port (FILE): found 64536; allowed: {WHOLE_PORT}"),
    (
        f"server.kline_port = 0x{'f' * 9000}",
        "server.kline_port (FILE): found a whole number of more than 40 digits; "
        f"allowed: {WHOLE_PORT}",
    ),
    (
        "ingest.batch_rows = 0",
        "ingest.batch_rows (FILE): found 0; allowed: a whole number from 1 to 100000",
    ),
    (
        "ingest.flush_after_s = nan",
        "ingest.flush_after_s (FILE): found nan; allowed: a number from 0.001 to 60",
    ),
    (
        "ingest.retry_max_s = inf",
        "ingest.retry_max_s (FILE): found inf; allowed: a number from 0.01 to 3600",
    ),
    (
        "journal.max_bytes = 1024",
        "journal.max_bytes (FILE): found 1024; allowed: a whole number from 16_777_216 to "
        "1_099_511_627_776",
    ),
    (
        "ingest = { retry_initial_s = 20, retry_max_s = 10 }",
        "ingest.retry_initial_s (FILE): found 20, with retry_max_s 10; allowed: not more than that",
    ),
    # words and patterns
    (
        'timescale.engine = "comunity"',
        'timescale.engine (FILE): found "comunity"; allowed: one of "auto", "community", "none", '
        '"citus"',
    ),
    ('log.format = "TEXT"', 'log.format (FILE): found "TEXT"; allowed: one of "text", "json"'),
    *(
        (
            f'timescale.schema = "{name}"',
            f'timescale.schema (FILE): found "{name}"; allowed: {SCHEMA}',
        )
        for name in (
            "",
            "public",
            "information_schema",
            "pg_mart",
            "pg_",
            "_timescaledb_internal",
            "timescaledb_information",
            "1mart",
            "Mart",
            "ma-rt",
            "m" * 42,
            "m\\n",
        )
    ),
    *(
        (
            f'server.host = "{host}"',
            f'server.host (FILE): found "{host}"; allowed: an IPv4 address of '
            "this machine; 0.0.0.0 for all of them",
        )
        for host in ("", "localhost", "::1", "*", "256.1.1.1", "127.0.0.1:80")
    ),
    *(
        (
            f'influx.url = "{url}"',
            f'influx.url (FILE): found "{shown}"; allowed: http://HOST:PORT or '
            "https://HOST:PORT, without a user; the token is its own key",
        )
        for url, shown in (
            ("127.0.0.1:8086", "127.0.0.1:8086"),
            ("ftp://h", "ftp://h"),
            ("http://me:word@h:8086", "http://***@h:8086"),
        )
    ),
    # the database
    ('timescale.url = "embeded"', f"timescale.url (FILE): found ***; allowed: {DATABASE}"),
    ('timescale.url = ""', f"timescale.url (FILE): found ***; allowed: {DATABASE}"),
    (
        "timescale.url = 5",
        'timescale.url (FILE): found 5; allowed: "embedded", or '
        "postgresql://USER@HOST:PORT/DATABASE",
    ),
    *(
        (
            f'timescale.url = "{url}"',
            f"timescale.url (FILE): found {scheme}://***; allowed: {DATABASE}",
        )
        for url, scheme in (
            ("mysql://u:word@h/d", "mysql"),
            ("postgres://u:word@h/d", "postgres"),
            ("postgresql+psycopg://u:word@h/d", "postgresql+psycopg"),
            ("postgresql://u:word@h", "postgresql"),
            ("postgresql://u:word@h/", "postgresql"),
            ("postgresql://u:wo/rd@h/d", "postgresql"),
            ("postgresql://u:wo@rd@h/d", "postgresql"),
            ("postgresql://u:wo#rd@h/d", "postgresql"),
            ("postgresql://u:word@h:0/d", "postgresql"),
            ("postgresql://u:word@h:99999/d", "postgresql"),
            ("postgresql://u:word@h:1,i:2/d", "postgresql"),
            ("postgresql://u:word@h/d\\n", "postgresql"),
            ("postgresql://u:word@[::1/d", "postgresql"),
        )
    ),
    (
        'timescale.url = "postgresql://u@h/d?password=word"',
        "timescale.url (FILE): found postgresql://***; allowed: host and sslmode after its question "
        "mark, nothing else",
    ),
    (
        'timescale.url = "postgresql://u@h/d?sslmode=word"',
        "timescale.url (FILE): found postgresql://***; allowed: for its sslmode: disable, allow, "
        "prefer, require, verify-ca, verify-full",
    ),
    (
        'timescale.password = "word"',
        'timescale.password (FILE): found one, with timescale.url "embedded"; allowed: none, that '
        "server has its own",
    ),
    (
        'timescale = { url = "postgresql://u:word@h/d", password = "word" }',
        "timescale.password (FILE): found one, and another in timescale.url; allowed: one of them",
    ),
    # feeds
    *(
        (
            f'feeds.a.endpoint = "{text}"',
            f'feeds.a.endpoint (FILE): found "{text}"; allowed: {ENDPOINT}',
        )
        for text in (
            "",
            "127.0.0.1:5555",
            "tcp://h",
            "tcp://h:0",
            "tcp://h:65536",
            "tcp://h:1/x",
            "udp://h:1",
            "ipc://",
            "tcp://h:1\\n",
        )
    ),
    (
        'feeds.a.endpoint = "tcp://*:5555"',
        'feeds.a.endpoint (FILE): found "tcp://*:5555"; allowed with mode "connect": a host to '
        "connect to",
    ),
    (
        'feeds.a = { endpoint = "tcp://localhost:5555", mode = "bind" }',
        'feeds.a.endpoint (FILE): found "tcp://localhost:5555"; allowed with mode "bind": an IP '
        "address of this machine (127.0.0.1), a network interface, or *",
    ),
    (
        'feeds.a.control = "tcp://*:1"',
        'feeds.a.control (FILE): found "tcp://*:1"; allowed: a host to connect to',
    ),
    (
        "feeds.a.rcvhwm = 0",
        "feeds.a.rcvhwm (FILE): found 0; allowed: a whole number from 1 to 10_000_000",
    ),
    (
        'feeds.a.public_key = "short"',
        'feeds.a.public_key (FILE): found "short"; allowed: a CURVE key, 40 characters of Z85',
    ),
    (
        'feeds.a.secret_key = "short"',
        "feeds.a.secret_key (FILE): found ***; allowed: a CURVE key, 40 characters of Z85",
    ),
    (
        f'feeds.a = {{ server_key = "{"s" * 40}", public_key = "{"p" * 40}" }}',
        "feeds.a.secret_key (FILE): found nothing; allowed: all of server_key, public_key, "
        "secret_key, or none of them",
    ),
    (
        f'feeds.a = {{ mode = "bind", endpoint = "tcp://*:1", client_keys = ["{"c" * 40}"] }}',
        "feeds.a.public_key (FILE): found nothing; allowed: all of public_key, secret_key, or none "
        "of them\n"
        "feeds.a.secret_key (FILE): found nothing; allowed: all of public_key, secret_key, or none "
        "of them",
    ),
    (
        f'feeds.a.client_keys = ["{"c" * 40}"]',
        'feeds.a.client_keys (FILE): found keys; allowed only with mode "bind", as who connects '
        "lets nobody in",
    ),
    (
        f"""
        [feeds.a]
        mode = "bind"
        endpoint = "tcp://*:1"
        control = "tcp://127.0.0.1:2"
        public_key = "{"p" * 40}"
        secret_key = "{"s" * 40}"
        client_keys = ["{"c" * 40}", "{"d" * 40}"]
        """,
        "feeds.a.control (FILE): found one, with several client_keys; allowed: with one at most, "
        "which is then the key of who answers there",
    ),
    (
        f'server.client_keys = ["{"c" * 40}"]',
        "server.secret_key (FILE): found nothing, with client_keys; allowed: a key with them",
    ),
    (
        'server.secret_key = "short"',
        "server.secret_key (FILE): found ***; allowed: a CURVE key, 40 characters of Z85",
    ),
    (
        f'feeds.a = {{ mode = "bind", endpoint = "tcp://*:1", server_key = "{"s" * 40}" }}',
        'feeds.a.server_key (FILE): found a key; allowed only with mode "connect", as who binds is '
        "the server",
    ),
    ("feeds.Live = {}", f'feeds.Live (FILE): found "Live"; allowed: {FEED_NAME}'),
    # routing
    (
        'routing.venue_include = "BINANCE_SPOT"',
        f'routing.venue_include (FILE): found "BINANCE_SPOT"; allowed: an array, none twice, each '
        f"{VENUE}",
    ),
    (
        'routing.venue_include = ["binance", "OKX", "OKX", 5]',
        f'routing.venue_include (FILE): found "binance"; allowed: {VENUE}\n'
        f"routing.venue_include (FILE): found 5; allowed: {VENUE}\n"
        'routing.venue_include (FILE): found "OKX" twice; allowed: each once',
    ),
    (
        'routing = { venue_include = ["OKX"], venue_exclude = ["OKX"] }',
        "routing.venue_exclude (FILE): found OKX, which venue_include has too; allowed: in one of "
        "them",
    ),
    (
        'routing.upstreams."BINANCE_SPOT:KLINE" = "default"',
        f'routing.upstreams."BINANCE_SPOT:KLINE" (FILE): found "BINANCE_SPOT:KLINE"; allowed: '
        f"{UPSTREAM}",
    ),
    (
        'routing.upstreams."default:CANDLE" = "default"',
        f'routing.upstreams."default:CANDLE" (FILE): found "default:CANDLE"; allowed: {UPSTREAM}',
    ),
    (
        'routing.upstreams."BINANCE_SPOT:CANDLE" = "other"\nfeeds.a = {}\nfeeds.b = {}',
        'routing.upstreams."BINANCE_SPOT:CANDLE" (FILE): found "other"; allowed: a feed of the '
        "settings: a, b",
    ),
    (
        "routing.upstreams.default = 5",
        f"routing.upstreams.default (FILE): found 5; allowed: {FEED_NAME}",
    ),
    (
        'routing.symbol_map.PEPEUSDT = { X = "A" }',
        f'routing.symbol_map.PEPEUSDT (FILE): found "PEPEUSDT"; allowed: {PAIR}',
    ),
    (
        'routing.symbol_map."pepe/USDT" = { X = "A" }',
        f'routing.symbol_map."pepe/USDT" (FILE): found "pepe/USDT"; allowed: {PAIR}',
    ),
    (
        'routing.symbol_map."PEPE/USDT" = { x = "A" }',
        f'routing.symbol_map."PEPE/USDT".x (FILE): found "x"; allowed: {VENUE}',
    ),
    (
        'routing.symbol_map."PEPE/USDT" = { X = 5 }',
        f"{PEPE} (FILE): found a number; allowed: a string (symbol), or a table with the keys {ENTRY}",
    ),
    (
        'routing.symbol_map."PEPE/USDT" = { X = { multiplier = 1000 } }',
        f"{PEPE}.symbol (FILE): found nothing; allowed: the venue's own symbol, as in 1000PEPEUSDT",
    ),
    (
        'routing.symbol_map."PEPE/USDT" = { X = { symbol = "A", multiplier = 0 } }',
        f"{PEPE}.multiplier (FILE): found 0; allowed: a number from 1e-12 to 1e+12",
    ),
    (
        'routing.symbol_map."PEPE/USDT" = { X = { symbol = "A", multiplyer = 1 } }',
        f"{PEPE}.multiplyer (FILE): found an unknown key (did you mean multiplier?); allowed: {ENTRY}",
    ),
    *(
        (
            f'routing.symbol_map."PEPE/USDT" = {{ X = {{ symbol = "A", listed_at = {time} }} }}',
            f"{PEPE}.listed_at (FILE): found {time}; allowed: {UTC_TIME}",
        )
        for time in (
            "2024-05-28T00:00:00",
            "2024-05-28T00:00:00+02:00",
            "2024-05-28",
            "12:00:00",
            '"2024-05-28T00:00:00Z"',
        )
    ),
    (
        'routing.symbol_map."PEPE/USDT" = { X = { symbol = "A", '
        "listed_at = 2024-01-02T00:00:00Z, delisted_at = 2024-01-02T00:00:00Z } }",
        f"{PEPE}.delisted_at (FILE): found a time that is not after listed_at; allowed: a later one",
    ),
    (
        'routing.symbol_map."PEPE/USDT" = { X = { symbol = "A", contract_size = 10 } }',
        f"{PEPE}.contract_of (FILE): found nothing; allowed: contract_size and contract_of, both or none of them",
    ),
    (
        'routing.symbol_map."PEPE/USDT" = { X = { symbol = "A", volume_unit = "coin", contract_of = "quote" } }',
        f"{PEPE}.contract_size (FILE): found nothing; allowed: contract_size and contract_of, both or none of them\n"
        f'{PEPE}.volume_unit (FILE): found "coin", with the size of a contract; allowed with that: "contract"',
    ),
    (
        'routing.symbol_map."PEPE/USDT" = { X = "A" }\nrouting.symbol_map."PEPE/USDC" = { X = "A" }',
        'routing.symbol_map."PEPE/USDC".X (FILE): found A, which "PEPE/USDT".X has too; allowed: one '
        "meaning of a symbol at a time (listed_at and delisted_at tell them apart)",
    ),
    # klines
    (
        'binance_klines.interval = "1M"',
        f'binance_klines.interval (FILE): found "1M"; allowed: {INTERVALS}',
    ),
    (
        "binance_klines.interval = []",
        "binance_klines.interval (FILE): found an array; allowed: a string or an array, at least "
        f"one, none twice, each {INTERVALS}",
    ),
    (
        "bars.profiles.tib_small.expected_ticks = true",
        "bars.profiles.tib_small.expected_ticks (FILE): found true; allowed: a finite number",
    ),
    (
        "bars.profiles.tib_small.span = nan",
        "bars.profiles.tib_small.span (FILE): found nan; allowed: a finite number",
    ),
    (
        "bars.profiles.Small.span = 1",
        'bars.profiles.Small (FILE): found "Small"; allowed: the kind of bar, an underscore and a '
        "name of your own, as in tib_small",
    ),
    (
        'bars.feed = "bars"',
        'bars.feed (FILE): found "bars"; allowed: a feed of the settings: default',
    ),
    (
        "bars.venues = []",
        "bars.venues (FILE): found an array; allowed: an array, at least one, "
        "none twice, each a venue and market in capitals, as in BINANCE_FUTURES",
    ),
    (
        'binance_klines.symbols = ["btc/usdt"]',
        'binance_klines.symbols (FILE): found "btc/usdt"; allowed: COIN/QUOTE ("BTC/USDT"), a '
        'venue\'s symbol ("BTCUSDT"), or "*" for all',
    ),
]


def refused(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    file = tmp_path / "a.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load(file, environ or {})
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert "word@" not in str(caught.value)
    return [problem.replace(str(file), "FILE") for problem in caught.value.problems]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_a_wrong_file_is_refused_with_key_found_and_allowed(
    tmp_path: Path, text: str, message: str
) -> None:
    assert refused(tmp_path, text) == message.split("\n")


VARIABLES: list[tuple[str, str, str]] = [
    (
        "RAVENWH_TIMESCALE_SHEMA",
        "x",
        "RAVENWH_TIMESCALE_SHEMA: found an unknown variable (did you mean RAVENWH_TIMESCALE_SCHEMA?)",
    ),
    (
        "RAVENWH_TIMESCALE_POLICIES_FACT_KLINE_RETENTION",
        "1 year",
        "RAVENWH_TIMESCALE_POLICIES_FACT_KLINE_RETENTION: found an unknown variable "
        "(did you mean RAVENWH_TIMESCALE_POLICIES_FACT__KLINE_RETENTION?)",
    ),
    (
        "RAVENWH_TIMESCALE_POLICIES_AGG__KLINE_1W_REFRESH_START",
        "20 days",
        "timescale.policies.agg__kline_1w.refresh_start "
        '(RAVENWH_TIMESCALE_POLICIES_AGG__KLINE_1W_REFRESH_START): found "20 days"; allowed: what '
        "keeps this rule: ContinuousAggregate 'agg__kline_1w': the refresh window, start (20 days) "
        "minus end (7 days), must span two buckets of 7 days",
    ),
    ("RAVENWH_", "x", "RAVENWH_: found an unknown variable"),
    ("RAVENWH_HOME\n", "x", '"RAVENWH_HOME\\n": found an unknown variable'),
    (
        "RAVENWH_FEEDS_LIFE_ENDPOINT",
        "tcp://h:1",
        "RAVENWH_FEEDS_LIFE_ENDPOINT: found an unknown variable "
        "(did you mean RAVENWH_FEEDS_LIVE_ENDPOINT?)",
    ),
    (
        "RAVENWH_FEEDS_DEFAULT_ENDPOINT",
        "tcp://h:1",
        "RAVENWH_FEEDS_DEFAULT_ENDPOINT: found an unknown variable "
        "(did you mean RAVENWH_FEEDS_LIVE_ENDPOINT?)",
    ),
    (
        "RAVENWH_ROUTING_VENUE_INCLUDE",
        "OKX",
        "RAVENWH_ROUTING_VENUE_INCLUDE: found a variable for an array or a table; allowed: "
        "routing.venue_include in the file",
    ),
    (
        "RAVENWH_LOG_FORMAT",
        "",
        'RAVENWH_LOG_FORMAT: found nothing in it; allowed: one of "text", "json", or no such variable',
    ),
    (
        "RAVENWH_INFLUX_TOKEN_FILE",
        "",
        "RAVENWH_INFLUX_TOKEN_FILE: found nothing in it; allowed: the path of a file that holds the "
        "secret, or no such variable",
    ),
    (
        "RAVENWH_SERVER_KLINE_PORT",
        "http",
        f'server.kline_port (RAVENWH_SERVER_KLINE_PORT): found "http"; allowed: {WHOLE_PORT}',
    ),
    (
        "RAVENWH_SERVER_KLINE_PORT",
        "70000",
        f"server.kline_port (RAVENWH_SERVER_KLINE_PORT): found 70000; allowed: {WHOLE_PORT}",
    ),
    (
        "RAVENWH_SERVER_KLINE_PORT",
        "9" * 5000,
        f'server.kline_port (RAVENWH_SERVER_KLINE_PORT): found "{"9" * 99}...; '
        f"allowed: {WHOLE_PORT}",
    ),
    (
        "RAVENWH_INGEST_FLUSH_AFTER_S",
        "nan",
        'ingest.flush_after_s (RAVENWH_INGEST_FLUSH_AFTER_S): found "nan"; allowed: a number from '
        "0.001 to 60",
    ),
    (
        "RAVENWH_BINANCE_KLINES_INTERVAL",
        "1m,1h",
        f'binance_klines.interval (RAVENWH_BINANCE_KLINES_INTERVAL): found "1m,1h"; allowed: '
        f"{INTERVALS}",
    ),
    (
        "RAVENWH_INFLUX_TOKEN",
        "has blanks",
        "influx.token (RAVENWH_INFLUX_TOKEN): found ***; allowed: a string of visible ASCII "
        "characters without blanks, not empty",
    ),
    (
        "RAVENWH_TIMESCALE_URL",
        "mysql://u:word@h/d",
        f"timescale.url (RAVENWH_TIMESCALE_URL): found mysql://***; allowed: {DATABASE}",
    ),
]
UNKNOWN = "; allowed: RAVENWH_<SECTION>_<KEY> for the keys of ravenwh settings --example"


@pytest.mark.parametrize(("name", "text", "message"), VARIABLES)
def test_a_wrong_variable_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    expected = message if "; allowed: " in message else message + UNKNOWN
    assert refused(tmp_path, "[feeds.live]", {name: text}) == [expected]


SYNTAX: list[tuple[bytes, str]] = [
    (
        b"[log]\nlevel = \n",
        "FILE: line 2, column 9: found no valid TOML (Invalid value); allowed: TOML",
    ),
    (
        b'[log]\nlevel = "INFO',
        "FILE: line 2, column 14: found no valid TOML (Unterminated string); allowed: TOML",
    ),
    (
        b"[log]\n\nlevel = 1\nlevel = 2\n",
        "FILE: line 4, column 10: found no valid TOML (Cannot overwrite a value); allowed: TOML",
    ),
    (
        b"[log]\n# \xff\n",
        "FILE: line 2: found bytes that are no UTF-8; allowed: TOML in UTF-8",
    ),
    (
        b"a = " + b"9" * 5000,
        "FILE: found a value too long or too deep to be read; allowed: TOML",
    ),
    (
        b"a = " + b"[" * 100_000,
        "FILE: found a value too long or too deep to be read; allowed: TOML",
    ),
]


@pytest.mark.parametrize(("content", "message"), SYNTAX)
def test_a_syntax_error_is_told_with_its_place(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load(file, {"RAVENWH_LOG_FORMAT": "x"})
    told, of_the_variable = caught.value.problems  # the variables are looked at all the same
    assert told.replace(str(file), "FILE") == message
    assert of_the_variable.startswith("log.format (RAVENWH_LOG_FORMAT): ")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, {})
    assert caught.value.problems == (
        f"{tmp_path}: found a file that cannot be read (Is a directory); allowed: a TOML file",
    )


def test_a_home_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert refused(tmp_path, 'journal.dir = "~no_such_user_/j"') == [
        'journal.dir (FILE): found "~no_such_user_/j", whose user has no home folder; '
        "allowed: a path"
    ]
    with pytest.raises(SettingsError, match="no_such_user_"):
        load(Path("~no_such_user_/a.toml"), {})


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = """
        [timescale]
        url = "postgresql://u:word@h/d"
        password_file = "not_there"
        shema = "mart"
        [influx]
        token = "one"
        token_file = "two"
        batch_size = 0
        [server]
        kline_port = 70000
        [routing]
        upstreams = { "OKX:CANDLE" = "other", "OKX:CANDEL" = "live" }
        symbol_map."PEPE/USDT" = { X = { symbol = "", multiplier = 0 }, y = "A" }
        [feeds.live]
        mode = "conect"
        secret_key = "short"
        rcvhwm = 0
        [feeds.Dead]
        [ingest]
        retry_initial_s = 20
        retry_max_s = 10
        batch_rows = 0
        [log]
        level = 5
        """
    problems = refused(
        tmp_path,
        text,
        {
            "RAVENWH_INGEST_BATCH_BYTES": "1",
            "RAVENWH_LOG_FORMAT": "xml",
            "RAVENWH_LOG_COLOR": "1",
            "RAVENWH_TIMESCALE_SCHEMA": "public",
        },
    )
    assert {problem.split(":")[0].split(" (")[0] for problem in problems} == {
        "RAVENWH_LOG_COLOR",
        "feeds.Dead",
        "feeds.live.mode",
        "feeds.live.rcvhwm",
        "feeds.live.secret_key",
        "influx.batch_size",
        "influx.token_file",
        "ingest.batch_bytes",
        "ingest.batch_rows",
        "ingest.retry_initial_s",
        "log.format",
        "log.level",
        'routing.symbol_map."PEPE/USDT".X.multiplier',
        'routing.symbol_map."PEPE/USDT".X.symbol',
        'routing.symbol_map."PEPE/USDT".y',
        'routing.upstreams."OKX',
        "server.kline_port",
        "timescale.password_file",
        "timescale.schema",
        "timescale.shema",
    }
    assert len(problems) == 21  # both upstreams begin alike
    assert all("found" in problem and "allowed" in problem for problem in problems)
    assert not any("\n" in problem for problem in problems)


def test_a_variable_for_a_table_that_is_none_is_still_looked_at(tmp_path: Path) -> None:
    assert refused(tmp_path, "log = 5", {"RAVENWH_LOG_LEVEL": "LOUD"}) == [
        "log (FILE): found a number; allowed: a table with the keys level, format",
        'log.level (RAVENWH_LOG_LEVEL): found "LOUD"; allowed: one of "TRACE", "DEBUG", "INFO", '
        '"SUCCESS", "WARNING", "ERROR", "CRITICAL"',
    ]
    assert refused(tmp_path, "feeds = 5", {"RAVENWH_FEEDS_DEFAULT_RCVHWM": "0"})[1:] == [
        "feeds.default.rcvhwm (RAVENWH_FEEDS_DEFAULT_RCVHWM): found 0; allowed: a whole number "
        "from 1 to 10_000_000"
    ]


def test_every_data_type_can_be_an_upstream(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    keys = [f'"OKX:{name}" = "default"' for name in DATA_TYPES]
    file.write_text("[routing.upstreams]\n" + "\n".join(keys))
    assert len(load(file, {}).routing.upstreams) == len(DATA_TYPES) == 8
