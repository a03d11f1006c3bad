"""Every example of README.md and docs/ does what it says; ``examples.py`` has the rules."""

from __future__ import annotations

import asyncio
import doctest
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
from psycopg import sql

import ravenwh
from ravenwh.app.instruments import register_of
from ravenwh.config import load
from ravenwh.domain.errors import Unavailable
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.domain.series import TimeRange
from ravenwh.domain.settings import Influx, Server
from ravenwh.embedded import EmbeddedPostgres
from ravenwh.features import Chain, TickImbalance, to_candle
from ravenwh.schema import BARS, KLINES
from ravenwh.sources.simulator import SimulatedMarket
from ravenwh.warehouse.bar_sink import BarSink
from ravenwh.warehouse.rows import kline_values
from ravenwh.warehouse.upsert import Upsert
from ravenwh.warehouse.write import FactSink
from tests.conftest import ROOT, engine_on
from tests.engines.fixtures import FIXTURES, EngineDatabase
from tests.engines.influx import InfluxBucket
from tests.examples import (
    FROM_NOTHING,
    WITH_INFLUXDB,
    WITH_TIMESCALEDB,
    Block,
    Shell,
    blocks_of,
    commands_of,
    difference,
)
from tests.programs import PATIENCE_S, free_ports
from tests.servers import PgServer, open_folder

PAGES = sorted(
    page.relative_to(ROOT)
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if "_build" not in page.parts
)
ENGINES = [
    (page, engine)
    for page in PAGES
    for engine in (
        ("wasm", "native")
        if WITH_TIMESCALEDB in (ROOT / page).read_text(encoding="utf-8")
        else ("embedded",)
    )
]
"""The pages, and the engines that each is run on."""
HELD = (
    ("BINANCE_SPOT", "BTCUSDT", "1m"),
    ("BINANCE_SPOT", "ETHUSDT", "1m"),
    ("BINANCE_FUTURES", "BTCUSDT", "1m"),
    ("BINANCE_FUTURES", "1000PEPEUSDT", "1m"),
    ("BINANCE_SPOT", "BTCUSDT", "1h"),
)
"""The series of the mart that the examples read: 2024-01-01, from the simulator."""


FACTS = {"klines": [KLINES], "bars": [*BARS.values()]}
"""Where the rows are of what a page waits for."""


@pytest.fixture(scope="module")
def filled_template(pg_server: PgServer, mart_template: str) -> Iterator[str]:
    """The name of a database with a day of klines in it, to be copied."""
    with pg_server.fresh_database(template=mart_template) as name:
        asyncio.run(fill(pg_server.url(name)))
        yield name


async def fill(url: str) -> None:
    day = TimeRange(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 2, tzinfo=UTC))
    async with engine_on(url) as engine:
        sink = FactSink(
            engine=engine, register=Register(), upsert=Upsert.into(KLINES), to_values=kline_values
        )
        for venue, symbol, interval in HELD:
            market = SimulatedMarket(symbol=symbol, venue=venue)
            result = await sink.write(list(market.klines(interval, day)))
            assert result.rejected == ()
        result = await BarSink.into_all(engine, Register()).write(list(bars_of(day)))
        assert result.rejected == ()


def bars_of(span: TimeRange) -> Iterator[Candle]:
    """The bars of the mart that the examples read."""
    venue, symbol = "BINANCE_FUTURES", "BTCUSDT"
    chain = Chain(profile := TickImbalance(expected_ticks=400))
    for trade in SimulatedMarket(symbol=symbol, venue=venue).trades(span):
        bar = chain.push(trade)
        if bar is not None:
            yield to_candle(
                bar, profile=profile, name="tib_small", venue=venue, symbol=symbol, producer=""
            )


@attrs.frozen(kw_only=True)
class Desk:
    """Where the examples of a page are run: a folder, and settings in the environment."""

    folder: Path
    variables: dict[str, str]
    url: str | None = None
    influx: InfluxBucket | None = None

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """What a query gives, on the mart of the settings."""
        url = self.url or EmbeddedPostgres(root=self.folder / "server").libpq_url
        with psycopg.connect(url) as connection:
            cursor = connection.execute(sql.SQL(text))
            return cursor.fetchall()

    def count(self, what: str) -> int:
        """How many there are of it; none while no program of the page has a server up."""
        if what == "points":
            assert self.influx is not None
            return self.influx.count()
        try:
            counts = [self.query(f"SELECT count(*) FROM mart.{fact.name}") for fact in FACTS[what]]  # noqa: S608
        except Unavailable:
            return 0
        return sum(rows[0][0] for rows in counts)

    def wait_for(self, rows: str) -> None:
        """Until there are so many klines, bars, or points of trades."""
        count, what = rows.split()
        until = time.monotonic() + PATIENCE_S
        while self.count(what) != int(count):
            assert time.monotonic() < until, f"there do not come to be {rows}"
            time.sleep(0.05)


@pytest.fixture
def desk(
    page: Path, engine: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    """The desk for the page that the test is about."""
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        variables = {
            "RAVENWH_EMBEDDED_DATA_DIR": str(folder / "server"),
            "RAVENWH_FEEDS_DEFAULT_ENDPOINT": f"ipc://{folder}/feed",
            "RAVENWH_JOURNAL_DIR": str(folder / "journal"),
            **ports_of_runners(),
        }
        if engine != "embedded":
            with_timescaledb: EngineDatabase = request.getfixturevalue(FIXTURES[engine])
            url = with_timescaledb.libpq_url
            variables["RAVENWH_TIMESCALE_URL"] = url
            variables["DATABASE_URL"] = url.replace("postgresql:", "postgresql+psycopg:", 1)
        elif FROM_NOTHING in (ROOT / page).read_text(encoding="utf-8"):
            url = None
            server = EmbeddedPostgres(root=folder / "server")
            stack.callback(server.destroy)
            stack.callback(server.shutdown, force=True)
        else:
            pg_server: PgServer = request.getfixturevalue("pg_server")
            template: str = request.getfixturevalue("filled_template")
            name = stack.enter_context(pg_server.fresh_database(template=template))
            variables["RAVENWH_TIMESCALE_URL"] = pg_server.url(name, driver="")
            url = variables["RAVENWH_TIMESCALE_URL"]
        influx = None
        if WITH_INFLUXDB in (ROOT / page).read_text(encoding="utf-8"):
            influx = request.getfixturevalue("influx")
            variables |= variables_of(influx.settings)
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.chdir(folder)
        yield Desk(folder=folder, variables=variables, url=url, influx=influx)


def variables_of(settings: Influx) -> dict[str, str]:
    """The bucket as the environment names it."""
    assert settings.token is not None
    said = {"URL": settings.url, "ORG": settings.org, "BUCKET": settings.bucket}
    said |= {"TOKEN": settings.token.reveal(), "RETENTION_DAYS": "0", "BATCH_INTERVAL_MS": "50"}
    return {f"RAVENWH_INFLUX_{key}": value for key, value in said.items()}


def ports_of_runners() -> dict[str, str]:
    """A free port for each runner, by its variable."""
    keys = sorted({port.key for port in Server().ports()})
    with closing(free_ports()) as free:
        return {f"RAVENWH_{key.replace('.', '_').upper()}": str(next(free)) for key in keys}


@pytest.fixture
def shell(desk: Desk) -> Iterator[Shell]:
    """The page's shell; ``python`` and ``ravenwh`` are those that run the tests."""
    programs = Path(sys.executable).parent
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    with Shell(dict(os.environ) | {"PATH": path}, desk.folder) as opened:
        yield opened


@pytest.mark.parametrize(("page", "engine"), ENGINES, ids=str)
def test_page(page: Path, desk: Desk, shell: Shell) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with ExitStack() as stack:
        stack.callback(close_warehouses, namespace)
        for block in blocks_of(ROOT / page):
            run(block, namespace, desk, shell)


def close_warehouses(namespace: dict[str, Any]) -> None:
    """Close what a notebook would leave open until it ends."""
    for value in namespace.values():
        if isinstance(value, ravenwh.Warehouse):
            value.close()


def run(block: Block, namespace: dict[str, Any], desk: Desk, shell: Shell) -> None:
    if block.file is not None:
        with (desk.folder / block.file).open(block.mode, encoding="utf-8") as file:
            file.write(block.body)
        return
    match block.language:
        case "python":
            text = "\n" * block.line + block.body  # so that a traceback names the page's line
            exec(compile(text, str(block.page), "exec"), namespace)  # noqa: S102  it is our page
        case "pycon":
            run_pycon(block, namespace)
        case "console":
            for command, shown in commands_of(block):
                code, written = shell.run(command)
                told = f"{block}: {command}\n{written}\n{shell.errors()}"
                assert code == 0, f"exit code {code} of {told}"
                if shown:
                    assert not difference(shown, written), f"{difference(shown, written)}{told}"
        case "toml":
            file = desk.folder / "example.toml"
            file.write_text(block.body)
            register_of(load(file, {}))
        case "sql":
            desk.query(block.body)
        case "json":
            json.loads(block.body)
        case "wait":
            desk.wait_for(block.body)
        case language:
            is_directive = language.startswith("{")
            assert is_directive or language == "text", f"{block}: no rule for {language!r}"


def run_pycon(block: Block, namespace: dict[str, Any]) -> None:
    examples = doctest.DocTestParser().get_doctest(
        block.body, {}, str(block), str(block.page), block.line
    )
    examples.globs = namespace
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(examples, out=said.append, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
    assert runner.tries > 0, f"{block}: no line begins with '>>> '"


def test_pages_were_found() -> None:
    assert {Path("README.md"), Path("docs/index.md"), Path("docs/quickstart.md")} <= set(PAGES)


def test_make_commands_of_the_readme_are_those_of_ci() -> None:
    """The pages' own ``make`` lines cannot run inside ``make test``: CI runs them."""
    shown = {
        line.strip().removeprefix("$ ").partition(" #")[0].strip()
        for block in blocks_of(ROOT / "README.md")
        for line in block.body.splitlines()
        if re.match(r"(\$ )?make ", line)
    }
    run_by_ci = set(
        re.findall(
            r"^step (make [^|\n]*?)(?: 2>&1.*)?$", (ROOT / ".ci/run").read_text(), re.MULTILINE
        )
    )
    assert {"make demo", "make test"} <= shown
    assert shown <= run_by_ci


def test_a_wrong_example_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ echo one \\\n  two\none ...\n$ echo three\nfour\n```\n"
        "   ```pycon\n   >>> 1 + 1\n   3\n   ```\n"
    )
    console, pycon = blocks_of(page)
    with Shell(os.environ, tmp_path) as shell:
        outcomes = [
            (shell.run(command), difference(shown, shell.run(command)[1]) == "")
            for command, shown in commands_of(console)
        ]
        assert outcomes == [((0, "one two\n"), True), ((0, "three\n"), False)]
        assert shell.run("(exit 3)")[0] == 3
        assert shell.run("sleep 600 & echo $!")[0] == 0
        assert shell.run("cat")[1] == ""  # nobody types
    with pytest.raises(AssertionError, match="Expected:"):
        run_pycon(pycon, {})
