"""``ravenwh bars build``: the bars of a history in place of those that are there."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import attrs
import psycopg
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from psycopg import sql

from ravenwh.cli.bars import command
from ravenwh.domain.errors import RavenwhError
from ravenwh.domain.messages import Candle, Trade
from ravenwh.domain.profile import kind_of
from ravenwh.domain.register import Register
from ravenwh.domain.series import from_ns
from ravenwh.features import Profile, bars_of, parse_profile, to_candle
from ravenwh.ports import WriteResult
from ravenwh.schema import BARS
from ravenwh.staging.sink import TickSink
from ravenwh.warehouse.bar_sink import BarSink
from ravenwh.warehouse.bars import BAR_FACTS
from tests.conftest import engine_on, migrate
from tests.engines.fixtures import EngineDatabase
from tests.engines.influx import InfluxBucket
from tests.features.streams import MS, random_trades
from tests.programs import PATIENCE_S, Programs, ended
from tests.warehouse.compressed import compress

PROFILES = {
    "tib_a": "{ expected_ticks = 15, span = 5 }",
    "trb_a": "{ expected_ticks = 20, span = 5 }",
    "vib_a": "{ expected_ticks = 20, span = 5 }",
    "vpin_a": "{ bucket_volume = 10, slices = 4, buckets = 5 }",
}
NEEDED = 42
"""Bars of trb_a that must be equal for the next ones to be equal too."""
TRADES = random_trades(Random(4), 4_000)
Row = tuple[Any, ...]


@attrs.frozen
class Mart:
    """A migrated mart, and a folder with settings and files of trades."""

    url: str
    folder: Path

    @property
    def uri(self) -> str:
        return self.url.replace("+asyncpg", "")

    def file(self, name: str, trades: Sequence[Trade]) -> Path:
        """The trades as a file of Binance Vision."""
        path = self.folder / f"BTCUSDT-trades-{name}.csv"
        rows = (
            f"{t.trade_id},{t.price!r},{t.quantity!r},1,{t.event_time // MS},{t.side == 'sell'}"
            for t in trades
        )
        path.write_text("\n".join(rows) + "\n")
        return path

    def build(self, trades: Sequence[Trade], profile: str = "trb_a", code: int = 0) -> str:
        """Build the bars of the trades; what is told."""
        path = self.file("2024-08-08", trades)
        result = self.run("--profile", profile, "--from-files", str(path), code=code)
        return result.stdout if code == 0 else refusal(result)

    def run(self, *arguments: str, code: int = 0) -> Result:
        """The command in this process."""
        given = ("build", "--config", str(self.folder / "ravenwh.toml"))
        venue = ("--venue", "BINANCE_FUTURES")
        result = CliRunner().invoke(command, [*given, *venue, *arguments])
        assert result.exit_code == code, result.output
        return result

    def do(self, query: str, *values: Any) -> list[Row]:
        """What the database answers."""
        with psycopg.connect(self.uri, autocommit=True) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def rows(self, profile: str = "trb_a", *more: str) -> list[Row]:
        """All bars of a profile, in order: times in ns, then the values, then other columns."""
        fact = BAR_FACTS[kind_of(profile)]
        own = ("theta",) if "theta" in fact.table.c else ("vpin", "buy_volume", "sell_volume")
        query = sql.SQL("""
            SELECT extract(epoch FROM open_time) * 1000000000, bar_seq,
                   extract(epoch FROM close_time) * 1000000000, open, high, low, close, volume,
                   buy_ticks, total_ticks, after_gap, {own}
            FROM mart.{table} JOIN mart.dim__interval USING (interval_id)
            WHERE "interval" = %s ORDER BY open_time, bar_seq
        """).format(
            own=sql.SQL(", ").join(map(sql.Identifier, (*own, *more))),
            table=sql.Identifier(fact.table.name),
        )
        with psycopg.connect(self.uri) as connection:
            return connection.execute(query, (profile,)).fetchall()


def refusal(result: Result) -> str:
    """What the command was refused with, as people see it."""
    assert isinstance(result.exception, RavenwhError), result.output
    return str(result.exception)


def profile_of(name: str) -> Profile:
    text = PROFILES[name].strip("{} ")
    return parse_profile(
        name, {k: json.loads(v) for k, v in (one.split(" = ") for one in text.split(", "))}
    )


def made(trades: Sequence[Trade], profile: str = "trb_a") -> list[Row]:
    """The bars of one chain, as rows."""
    bars = bars_of(profile_of(profile), trades)
    return [
        (
            bar.open_time, bar.bar_seq, bar.close_time, bar.open, bar.high, bar.low, bar.close,
            bar.volume, bar.buy_ticks, bar.total_ticks, bar.after_gap,
            *((bar.vpin, bar.buy_volume, bar.sell_volume) if bar.theta is None else (bar.theta,)),
        )
        for bar in bars
    ]  # fmt: skip


def flagged(rows: Sequence[Row]) -> list[Row]:
    """The same, the first with after_gap."""
    first, *others = rows
    return [(*first[:10], True, *first[11:]), *others]


def equal_at_the_end(one: Sequence[Row], other: Sequence[Row]) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    return count


def mart_on(url: str, folder: Path, **profiles: str) -> Mart:
    migrate(url)
    named = "\n".join(f"{name} = {text}" for name, text in (PROFILES | profiles).items())
    Programs(folder=folder).configure(
        f'timescale.url = {json.dumps(url)}\njournal.dir = "journal"\n[bars.profiles]\n{named}'
    )
    return Mart(url, folder)


@pytest.fixture
def mart(tmp_path: Path, each_engine: EngineDatabase) -> Mart:
    return mart_on(each_engine.url, tmp_path)


@pytest.fixture
def plain_mart(tmp_path: Path, database: str) -> Mart:
    """On the embedded server alone, for what no engine does otherwise."""
    return mart_on(database, tmp_path)


def test_into_an_empty_mart_and_again(mart: Mart) -> None:
    for profile in PROFILES:
        expected = made(TRADES, profile)
        told = mart.build(TRADES, profile)
        assert len(expected) > 50
        assert mart.rows(profile) == expected
        assert f"{len(expected)} bars of 4,000 trades" in told
        assert "bars written; none was there" in told
        assert {row[-1] for row in mart.rows(profile, "source")} == {"built"}
        whole = mart.rows(profile, "ingested_at", "revised_at", "source", "event_time")
        told = mart.build(TRADES, profile)
        assert mart.rows(profile, "ingested_at", "revised_at", "source", "event_time") == whole
        assert f"0 are gone and {len(expected)} stay; 0 are new or have changed" in told


def test_an_earlier_start_replaces_up_to_where_the_chains_agree(mart: Mart) -> None:
    mart.build(TRADES[700:])
    before = mart.rows("trb_a", "ingested_at")
    told = mart.build(TRADES)
    expected = made(TRADES)
    assert mart.rows() == expected
    kept = equal_at_the_end(expected, made(TRADES[700:]))
    assert NEEDED < kept < len(before)
    assert f"are gone and {kept} stay" in told
    assert "they agree from 2024-08-0" in told
    assert mart.rows("trb_a", "ingested_at")[-kept:] == before[-kept:]


def test_what_goes_on_after_the_last_trade_stays_where_the_chains_agree(mart: Mart) -> None:
    mart.build(TRADES[700:])
    expected = made(TRADES)
    before = mart.rows("trb_a", "ingested_at")
    told = mart.build(TRADES[:3_000])
    assert mart.rows() == expected
    after = sum(row[2] > TRADES[2_999].event_time for row in before)
    assert f", and {after} more after the last trade stay" in told
    assert mart.rows("trb_a", "ingested_at")[-after:] == before[-after:]


def test_chains_that_do_not_agree_are_not_mixed(mart: Mart) -> None:
    old = made(TRADES[700:], "vib_a")
    mart.build(TRADES[700:], "vib_a")
    told = mart.build(TRADES[:3_000], "vib_a", code=1)
    assert "go on after the last trade" in told
    assert "the new chain does not agree with it. Nothing is changed" in told
    assert mart.rows("vib_a") == old
    told = mart.build(TRADES, "vib_a")
    assert mart.rows("vib_a") == made(TRADES, "vib_a")
    assert "the old chain and the new one agree nowhere" in told


def test_a_few_equal_bars_are_no_agreement(mart: Mart) -> None:
    """The old chain is the first to end; it is equal in its last bars, and in too few of them."""
    old = made(TRADES[700:])
    kept = equal_at_the_end(made(TRADES), old)
    met = old[-kept]
    trades = [one for one in TRADES if one.event_time <= old[-kept + 20][2]]
    assert met in made(trades)
    mart.build(TRADES[700:])
    told = mart.build(trades, code=1)
    assert f"bars of both are equal, where {NEEDED} must be" in told
    assert mart.rows() == old


def test_a_part_of_the_same_chain_needs_no_more_to_agree(mart: Mart) -> None:
    mart.build(TRADES)
    told = mart.build(TRADES[:300])
    assert "0 are gone" in told
    assert mart.rows() == made(TRADES)


def test_a_later_chain_follows_behind_a_mark(mart: Mart) -> None:
    first, second = TRADES[:1_500], later(TRADES[1_500:])
    mart.build(first)
    for _ in range(2):
        told = mart.build(second)
        assert mart.rows() == made(first) + flagged(made(second))
        assert "bars of another chain are before" in told
    assert "0 are new or have changed" in told
    told = mart.build(first)  # what begins with a mark is no obstacle
    assert "0 are new or have changed" in told
    assert mart.rows() == made(first) + flagged(made(second))
    told = mart.build(first + second)  # and one chain of all takes the place of both
    assert mart.rows() == made(first + second)


def later(trades: Sequence[Trade]) -> list[Trade]:
    """The same, a second later: no bar reaches from those before into them."""
    return [replace(one, event_time=one.event_time + 1_000 * MS) for one in trades]


@pytest.mark.parametrize("at", [100, 1_500, 2_000])
def test_a_chain_that_is_there_is_not_cut(plain_mart: Mart, at: int) -> None:
    plain_mart.build(TRADES)
    told = plain_mart.build(TRADES[at:], code=1)
    assert "is amid a chain that is there: it begins at 2024-08-0" in told
    assert "has after_gap, or build" in told
    assert plain_mart.rows() == made(TRADES)


def test_what_is_told_of_a_cut_names_a_bar_where_it_may_be(mart: Mart) -> None:
    first, second = TRADES[:1_500], later(TRADES[1_500:])
    mart.build(first)
    mart.build(second)
    told = mart.build(first[100:] + second, code=1)
    (named,) = re.findall(r"that has after_gap, as the one at (\S+), or build", told)
    assert datetime.fromisoformat(named) == from_ns(second[0].event_time)
    mart.build(second)


def test_bars_that_are_new_since_do_not_disturb(plain_mart: Mart) -> None:
    """A build of more trades goes on with the chain that is there."""
    plain_mart.build(TRADES[:2_000])
    told = plain_mart.build(TRADES)
    assert plain_mart.rows() == made(TRADES)
    assert "0 are gone" in told


def test_a_profile_of_another_hash_is_refused(mart: Mart, tmp_path: Path) -> None:
    mart.build(TRADES)
    other = mart_on(mart.url, tmp_path, trb_a="{ expected_ticks = 30 }")
    told = other.build(TRADES, code=1)
    assert "in what is to be written, with" in told
    assert "give changed parameters another name" in told
    assert mart.rows() == made(TRADES)


@pytest.mark.parametrize("parts", ["compressed", "partly compressed"])
def test_compressed_bars_are_replaced(
    tmp_path: Path, each_community: EngineDatabase, parts: str
) -> None:
    mart = mart_on(each_community.url, tmp_path)
    for profile in ("trb_a", "vpin_a"):
        mart.build(TRADES[900:], profile)
    asyncio.run(compressed(mart))
    if parts == "partly compressed":
        for profile in ("trb_a", "vpin_a"):
            mart.build(TRADES[400:], profile)
            asyncio.run(compressed(mart))
            mart.build(TRADES[200:], profile)
    for profile in ("trb_a", "vpin_a"):
        for _ in range(2):
            mart.build(TRADES, profile)
            assert mart.rows(profile) == made(TRADES, profile)


async def compressed(mart: Mart, *facts: str) -> None:
    async with engine_on(mart.url) as engine:
        for fact in facts or ("tick_run", "vpin"):
            await compress(engine, BARS[fact])


async def test_a_build_that_is_killed_leaves_the_old_chain(
    tmp_path: Path, each_server: EngineDatabase
) -> None:
    mart = await asyncio.to_thread(mart_on, each_server.url, tmp_path)
    old = made(TRADES[700:])
    await asyncio.to_thread(mart.build, TRADES[700:])
    in_both = {row[:2] for row in old} & {row[:2] for row in made(TRADES)}
    different = [row for row in made(TRADES) if row[:2] in in_both and row not in old]
    assert different
    opened, seq = different[-1][:2]
    path = mart.file("2024-08-08", TRADES)
    arguments = ("--profile", "trb_a", "--venue", "BINANCE_FUTURES", "--from-files", str(path))
    with psycopg.connect(mart.uri) as holder:
        held = holder.execute(
            "SELECT 1 FROM mart.fact__tick_run WHERE bar_seq = %s"
            " AND extract(epoch FROM open_time) * 1000000000 = %s FOR UPDATE",
            (seq, opened),
        ).fetchall()
        assert len(held) == 1
        process = await Programs(folder=tmp_path).start("ravenwh", "bars", "build", *arguments)
        async with ended(process), asyncio.timeout(PATIENCE_S):
            await waiting(mart, 1)  # it has removed some bars by then, and waits for this one
            assert mart.rows() == old  # who reads sees the old chain
            process.send_signal(signal.SIGKILL)
            await process.communicate()
    assert mart.rows() == old
    await asyncio.to_thread(mart.build, TRADES)
    assert mart.rows() == made(TRADES)


def test_what_cannot_be_built_is_refused(plain_mart: Mart, tmp_path: Path) -> None:
    first = plain_mart.file("2024-08-08", TRADES[:1_000])
    second = plain_mart.file("2024-08-09", TRADES[1_000:])
    trb = ("--profile", "trb_a", "--from-files")
    told = refusal(plain_mart.run(*trb, str(second), str(first), code=1))
    assert "name each file once, in the order of time" in told
    klines = tmp_path / "BTCUSDT-1m-2024-08-08.csv"
    klines.write_text("")
    assert "holds klines" in refusal(plain_mart.run(*trb, str(klines), code=1))
    other = tmp_path / "ETHUSDT-trades-2024-08-08.csv"
    other.write_text(first.read_text())
    told = refusal(plain_mart.run(*trb, str(first), str(other), code=1))
    assert "a chain is made of one of them" in told
    told = refusal(plain_mart.run("--profile", "trb_b", "--from-files", str(first), code=1))
    assert "none of bars.profiles in the settings; there are trb_a" in told
    late = ("--from", "2030-01-01")
    told = refusal(plain_mart.run(*trb, str(first), *late, code=1))
    assert "0 trades of BTCUSDT end no bar of trb_a" in told
    influx = ("--profile", "trb_a", "--from-influx", "--symbol", "BTC/USDT")
    assert "influx.token: found nothing" in refusal(plain_mart.run(*influx, code=1))
    plain_mart.run("--profile", "trb_a", code=2)
    plain_mart.run("--profile", "trb_a", "--from-influx", code=2)
    plain_mart.run(*trb, code=2)
    assert plain_mart.rows() == []


def test_several_files_are_one_chain_and_times_leave_out(plain_mart: Mart) -> None:
    split = next(n for n in range(1_000, 4_000) if TRADES[n].event_time > TRADES[n - 1].event_time)
    files = [
        str(plain_mart.file("2024-08-08", TRADES[:split])),
        str(plain_mart.file("2024-08-09", TRADES[split:])),
    ]
    plain_mart.run("--profile", "trb_a", "--from-files", *files)
    assert plain_mart.rows() == made(TRADES)
    at = plain_mart.do("SELECT to_timestamp(%s / 1e9)", TRADES[split].event_time)[0][0]
    tib = ("--profile", "tib_a", "--from-files", *files)
    plain_mart.run(*tib, "--to", at.isoformat())
    assert plain_mart.rows("tib_a") == made(TRADES[:split], "tib_a")
    plain_mart.run(*tib, "--from", "2024-08-01")
    assert plain_mart.rows("tib_a") == made(TRADES, "tib_a")


def test_trades_that_do_not_count_are_told(plain_mart: Mart) -> None:
    path = plain_mart.file("2024-08-08", [*TRADES[:500], TRADES[499]])
    with path.open("a") as file:
        file.write("77,nonsense\n501,0,1,1,1723161299999,true\n502,1,1,1,1723161240001,true\n")
    result = plain_mart.run("--profile", "trb_a", "--from-files", str(path))
    assert "passed over: bad rows 1, invalid 1, duplicate 1" in result.stdout
    assert "late trades 1" in result.stdout
    assert f"{path}:502: " in result.stderr


def test_whatever_is_built_one_chain_follows_another(plain_mart: Mart) -> None:
    """Parts of a history in any order: what is accepted is a chain, what is refused changes none.

    Every trade of an accepted build is in its bars, or in those with which it agrees; and no bar
    reaches into another.
    """
    random = Random(11)
    outcomes = set()
    for profile in ("trb_a", "vib_a"):
        for _ in range(10):
            first, last = sorted(random.sample(range(0, 4_001, 250), 2))
            trades = TRADES[first:last]
            before = plain_mart.rows(profile)
            path = str(plain_mart.file("2024-08-08", trades))
            asked = ("--config", str(plain_mart.folder / "ravenwh.toml"), "--profile", profile)
            venue = ("--venue", "BINANCE_FUTURES", "--from-files", path)
            result = CliRunner().invoke(command, ["build", *asked, *venue])
            rows, expected = plain_mart.rows(profile), made(trades, profile)
            outcomes.add((profile, result.exit_code, bool(before)))
            if result.exit_code:
                assert rows == before, refusal(result)
                continue
            begins = [row[:2] for row in rows].index(expected[0][:2])
            found = rows[begins : begins + len(expected)]
            assert found in (expected, flagged(expected))
            assert (begins > 0) == (found != expected)
            for one, other in pairwise(rows):
                assert one[2] <= other[0]
    assert {code for _, code, _ in outcomes} == {0, 1}


def test_trades_of_influx_give_the_same_bars(
    tmp_path: Path, database: str, influx: InfluxBucket
) -> None:
    async def write() -> None:
        with closing(influx.server()) as server:
            assert (await TickSink(server=server).write(TRADES)).rejected == ()

    asyncio.run(write())
    mart = mart_on(database, tmp_path)
    own, token = influx.settings, influx.settings.token
    assert token is not None
    with (tmp_path / "ravenwh.toml").open("a") as file:
        told = {"url": own.url, "org": own.org, "bucket": own.bucket, "token": token.reveal()}
        file.write("\n[influx]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in told.items()))
    asked = ("--profile", "trb_a", "--from-influx", "--symbol")
    result = mart.run(*asked, "BTC/USDT")
    assert mart.rows() == made(TRADES)
    assert "bars of 4,000 trades" in result.stdout
    told = refusal(mart.run(*asked, "ETHUSDT", code=1))
    assert "symbol 'ETHUSDT' has no points" in told
    end = mart.do("SELECT to_timestamp(%s / 1e9)", TRADES[2_000].event_time)[0][0]
    tib = ("--profile", "tib_a", "--from-influx", "--symbol", "BTCUSDT")
    mart.run(*tib, "--to", end.isoformat())
    before = [one for one in TRADES if one.event_time < TRADES[2_000].event_time]
    assert mart.rows("tib_a") == made(before, "tib_a")


def candles(trades: Sequence[Trade], profile: str = "trb_a") -> list[Candle]:
    """What a maker of bars publishes of these trades."""
    of = profile_of(profile)
    how = {"name": profile, "venue": "BINANCE_FUTURES", "symbol": "BTCUSDT", "producer": "test"}
    return [to_candle(bar, profile=of, **how) for bar in bars_of(of, trades)]


async def written(mart: Mart, bars: Sequence[Candle]) -> WriteResult:
    """Have them written as the runner does."""
    async with engine_on(mart.url) as engine:
        return await BarSink.into_all(engine, Register()).write(bars)


@pytest.mark.parametrize("is_compressed", [False, True])
def test_what_is_published_again_mixes_with_nothing(mart: Mart, *, is_compressed: bool) -> None:
    """The old chain's bars, after a build took their place up to where it agrees with them."""
    live = candles(TRADES[700:3_600])
    assert asyncio.run(written(mart, live)).written == len(live)
    mart.build(TRADES[:3_000])
    expected = made(TRADES[:3_600])
    assert mart.rows() == expected
    if is_compressed and mart.do("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"):
        asyncio.run(compressed(mart))
    # the maker starts again: it publishes all it has made, and goes on
    on = candles(TRADES[700:])
    result = asyncio.run(written(mart, on))
    keys = {row[:2] for row in expected}
    foreign = sum((one.open_time, one.bar_seq) not in keys for one in live)
    assert foreign > 5
    assert {error.code for _, error in result.rejected} == {"OTHER_CHAIN"}  # type: ignore[attr-defined]  # they are Rejected
    assert len(result.rejected) == foreign
    assert result.written == len(on) - len(live)
    assert mart.rows() == made(TRADES)


async def test_a_writer_waits_for_the_build_and_is_judged_by_it(
    tmp_path: Path, each_server: EngineDatabase
) -> None:
    mart = await asyncio.to_thread(mart_on, each_server.url, tmp_path)
    live = candles(TRADES[700:])
    await written(mart, live[:-20])
    path = mart.file("2024-08-08", TRADES)
    arguments = ("--profile", "trb_a", "--venue", "BINANCE_FUTURES", "--from-files", str(path))
    with psycopg.connect(mart.uri) as holder:
        holder.execute("LOCK TABLE mart.fact__tick_run IN ROW EXCLUSIVE MODE")
        process = await Programs(folder=tmp_path).start("ravenwh", "bars", "build", *arguments)
        async with ended(process), asyncio.timeout(PATIENCE_S):
            await waiting(mart, 1)
            writing = asyncio.create_task(written(mart, live))
            await waiting(mart, 2)
            holder.rollback()
            result = await writing
            _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert mart.rows() == made(TRADES)
    assert {error.code for _, error in result.rejected} == {"OTHER_CHAIN"}  # type: ignore[attr-defined]  # they are Rejected


async def waiting(mart: Mart, count: int) -> None:
    """Return when so many of our sessions wait for a lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ravenwh'"
        " AND datname = current_database() AND wait_event_type = 'Lock'"
    )
    while mart.do(query)[0][0] < count:  # noqa: ASYNC110  another process
        await asyncio.sleep(0.05)


def test_the_limit_of_decompressed_rows_is_none_for_a_build(
    tmp_path: Path, native_timescale: EngineDatabase
) -> None:
    mart = mart_on(native_timescale.url, tmp_path)
    (name,) = mart.do("SELECT current_database()")[0]
    limit = "timescaledb.max_tuples_decompressed_per_dml_transaction"
    with psycopg.connect(mart.uri, autocommit=True) as connection:
        connection.execute(
            sql.SQL(f"ALTER DATABASE {{}} SET {limit} = 50").format(sql.Identifier(name))
        )
    mart.build(TRADES[900:], "vib_a")
    asyncio.run(compressed(mart, "volume_imbalance"))
    mart.build(TRADES, "vib_a")
    assert mart.rows("vib_a") == made(TRADES, "vib_a")
