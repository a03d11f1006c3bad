"""Fixtures: InfluxDB as the tests have it; a plug-in of pytest.

Debian's version 1 behind :mod:`tests.engines.influx_shim`, which speaks version 2; or a real
version 2, which ``RAVENWH_TEST_INFLUX_URL`` names, with ``RAVENWH_TEST_INFLUX_ORG`` and a token
that may make buckets in ``RAVENWH_TEST_INFLUX_TOKEN``. Then the same tests go to it through the
shim, which only makes faults; those that stop the server, or look into it, keep to version 1.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import uuid4

import attrs
import pytest

from ravenwh.domain.settings import Influx
from ravenwh.staging.server import Server
from tests.conftest import skip_or_fail
from tests.engines.influx_shim import ALL, Mode, Shim
from tests.engines.influxd import Influxd, find_influxd
from tests.engines.node import Missing
from tests.programs import free_ports
from tests.servers import open_folder

URL = "RAVENWH_TEST_INFLUX_URL"
ORG = "RAVENWH_TEST_INFLUX_ORG"
TOKEN = "RAVENWH_TEST_INFLUX_TOKEN"


@attrs.frozen(kw_only=True)
class InfluxBucket:
    """An empty bucket of a test's own, and the shim in front of it."""

    shim: Shim
    settings: Influx
    influxd: Influxd | None

    @property
    def keys(self) -> dict[str, str]:
        """The keys of the section ``influx`` that lead to it, as a file of settings has them."""
        own, token = self.settings, self.settings.token
        assert token is not None
        return {"url": own.url, "org": own.org, "bucket": own.bucket, "token": token.reveal()}

    def server(self, **settings: Any) -> Server:
        """The room's own way to it, with further settings."""
        return Server(settings=attrs.evolve(self.settings, **settings))

    def points(self, measurement: str) -> list[dict[str, Any]]:
        """All points of a measurement, every column by its name, times in nanoseconds."""
        body = json.loads(self.query(f'SELECT * FROM "{measurement}"'))  # noqa: S608
        series = body["results"][0].get("series", [])
        return [dict(zip(s["columns"], row, strict=True)) for s in series for row in s["values"]]

    def count(self, measurement: str = "trades", field: str = "price") -> int:
        """How many points have the field."""
        text = f'SELECT count("{field}") FROM "{measurement}"'  # noqa: S608
        body = json.loads(self.query(text))
        series = body["results"][0].get("series")
        return int(series[0]["values"][0][1]) if series else 0

    def query(self, text: str) -> str:
        """The answer to a question of InfluxQL, as JSON."""
        with closing(Server(settings=self.settings)) as server:
            asked = {"db": self.settings.bucket, "q": text, "epoch": "ns"}
            answer = server.ask("GET", "/query", asked)
        assert answer.status == 200, str(answer)
        return answer.message


@pytest.fixture(scope="session")
def influxd() -> Iterator[Influxd]:
    """InfluxDB 1 for the whole test run; RAVENWH_TEST_REQUIRE calls it influx."""
    with an_influxd() as server:
        yield server


@pytest.fixture
def influxd_of_its_own() -> Iterator[Influxd]:
    """InfluxDB 1 for a test that stops it."""
    with an_influxd() as server:
        yield server


@contextmanager
def an_influxd() -> Iterator[Influxd]:
    """A server without data, to the end of the block, where this machine has the program."""
    try:
        find_influxd()
    except Missing as reason:
        skip_or_fail("influx", str(reason))
    with open_folder() as folder, closing(free_ports()) as ports:
        server = Influxd(folder=folder, http=next(ports), rpc=next(ports))
        ports.close()  # they are the server's now
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture
def influx(request: pytest.FixtureRequest) -> Iterator[InfluxBucket]:
    """A bucket on the real version 2 that is named, or else on version 1 behind the strict shim."""
    if URL in os.environ:
        yield from _on_a_real_one()
    else:
        with bucket_on(request.getfixturevalue("influxd"), "strict") as found:
            yield found


@pytest.fixture
def influx_partial(influxd: Influxd) -> Iterator[InfluxBucket]:
    """A bucket where a line that cannot be parsed keeps out itself alone, as in version 1."""
    with bucket_on(influxd, "partial") as found:
        yield found


@contextmanager
def bucket_on(influxd: Influxd, mode: Mode) -> Iterator[InfluxBucket]:
    """A new bucket behind a shim of its own; both are gone afterwards."""
    shim = Shim(influxd.url, mode=mode)
    shim.start()
    name = f"test_{uuid4().hex[:12]}"
    try:
        influxd.query(f"CREATE DATABASE {name}")
        settings = Influx(url=shim.url, org="test", bucket=name, token="token")
        yield InfluxBucket(shim=shim, settings=settings, influxd=influxd)
    finally:
        shim.stop()
        if influxd.answers():
            influxd.query(f"DROP DATABASE {name}")


def _on_a_real_one() -> Iterator[InfluxBucket]:
    shim = Shim(os.environ[URL], mode="forward")
    shim.tokens = {os.environ[TOKEN]: ALL}
    shim.start()
    settings = Influx(
        url=shim.url,
        org=os.environ.get(ORG, "ravenwh"),
        bucket=f"test_{uuid4().hex[:12]}",
        token=os.environ[TOKEN],
        retention_days=0,
    )
    with closing(Server(settings=settings)) as server:
        orgs = json.loads(server.ask("GET", "/api/v2/orgs", {"org": settings.org}).message)
        wanted = {"orgID": orgs["orgs"][0]["id"], "name": settings.bucket, "retentionRules": []}
        headers = {"Content-Type": "application/json"}
        body = json.dumps(wanted).encode()
        made = server.ask("POST", "/api/v2/buckets", {}, body=body, headers=headers)
        assert made.status == 201, str(made)
        try:
            yield InfluxBucket(shim=shim, settings=settings, influxd=None)
        finally:
            server.ask("DELETE", f"/api/v2/buckets/{json.loads(made.message)['id']}", {})
            shim.stop()
