"""Fixtures: an empty database on each engine that this machine has; a plug-in of pytest.

``each_engine`` runs a test on all of them, ``each_community`` on those with TimescaleDB,
``each_server`` on those whose clients work at the same moment. Each test is marked with what it
needs: ``-m "not timescale"`` leaves out those in WASM, ``-m timescale_server`` picks native ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import attrs
import pytest

from ravenwh.schema import HOME_SCHEMA
from tests.conftest import skip_or_fail
from tests.engines import native
from tests.engines.native import NativeServer, native_server
from tests.engines.node import Missing, find_node
from tests.engines.wasm_server import WasmServer, fetch


@attrs.frozen(kw_only=True)
class EngineDatabase:
    """An empty database of a test's own, and the schema to migrate into.

    ``engine`` is "embedded", "wasm" or "native", ``level`` what it gives: "none" or "community",
    with the extension created.
    """

    engine: str
    url: str
    level: str
    schema: str = HOME_SCHEMA

    @property
    def libpq_url(self) -> str:
        """The same for drivers alone."""
        return self.url.replace("+asyncpg", "", 1)


@pytest.fixture(scope="session")
def wasm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WasmServer]:
    """TimescaleDB in WASM, one for the whole test run; RAVENWH_TEST_REQUIRE calls it timescale."""
    try:
        node = find_node()
        package = fetch(node)
    except Missing as reason:
        skip_or_fail("timescale", f"there is no TimescaleDB in WASM: {reason}")
    log = tmp_path_factory.mktemp("wasm") / "server.log"
    server = WasmServer(node=node.program, package=package, log=log)
    server.start()
    yield server
    server.stop()


@pytest.fixture(name="native_server", scope="session")
def native_server_fixture() -> Iterator[NativeServer]:
    """A native TimescaleDB; RAVENWH_TEST_REQUIRE calls it timescale_server.

    One that RAVENWH_TEST_TIMESCALE_DSN names must be there: a test run that was told to use it
    does not pass without it.
    """
    try:
        with native_server() as server:
            yield server
    except Missing as reason:
        if native.DSN in os.environ:
            pytest.fail(str(reason))
        skip_or_fail("timescale_server", f"there is no native TimescaleDB: {reason}")


@pytest.fixture
def embedded(database: str) -> EngineDatabase:
    """On the embedded PostgreSQL, without TimescaleDB."""
    return EngineDatabase(engine="embedded", url=database, level="none")


@pytest.fixture
def wasm(wasm_server: WasmServer) -> Iterator[EngineDatabase]:
    """On TimescaleDB in WASM, whose one database is emptied after the test."""
    with wasm_server.emptied() as url:
        yield EngineDatabase(engine="wasm", url=url, level="community")


@pytest.fixture
def native_timescale(native_server: NativeServer) -> Iterator[EngineDatabase]:
    """On a native TimescaleDB: clients at the same moment; no job runs by itself."""
    with native_server.fresh_database() as url:
        yield EngineDatabase(engine="native", url=url, level="community")


MARKS = {
    "postgres": {"pg_server", "embedded"},
    "timescale": {"wasm_server", "wasm"},
    "timescale_server": {"native_server", "native"},
}
"""The fixtures, and the values of parametrised ones, by the mark of the tests that need them."""


@pytest.hookimpl(tryfirst=True)  # before -m looks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the engines that it needs."""
    for item in items:
        if isinstance(item, pytest.Function):
            values = item.callspec.params.values() if hasattr(item, "callspec") else ()
            needs = {*item.fixturenames, *(value for value in values if isinstance(value, str))}
            for mark, used in MARKS.items():
                if needs & used:
                    item.add_marker(mark)


FIXTURES = {"embedded": "embedded", "wasm": "wasm", "native": "native_timescale"}


@pytest.fixture(params=FIXTURES)
def each_engine(request: pytest.FixtureRequest) -> EngineDatabase:
    """On each engine in turn."""
    found: EngineDatabase = request.getfixturevalue(FIXTURES[request.param])
    return found


@pytest.fixture(params=["wasm", "native"])
def each_community(request: pytest.FixtureRequest) -> EngineDatabase:
    """On each engine that has TimescaleDB, in turn."""
    found: EngineDatabase = request.getfixturevalue(FIXTURES[request.param])
    return found


@pytest.fixture(params=["embedded", "native"])
def each_server(request: pytest.FixtureRequest) -> EngineDatabase:
    """On each engine that serves clients at the same moment, in turn: all but the one in WASM."""
    found: EngineDatabase = request.getfixturevalue(FIXTURES[request.param])
    return found
