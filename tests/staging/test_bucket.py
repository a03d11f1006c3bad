"""The bucket is made, or looked at, or people are told what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import pytest

from ravenwh.domain.finding import Finding
from ravenwh.domain.settings import Influx
from ravenwh.staging.bucket import look_at_bucket, make_bucket
from ravenwh.staging.server import Server
from tests.engines.influx import InfluxBucket
from tests.engines.influx_shim import ALL, Fault


@pytest.fixture
def missing(influx: InfluxBucket) -> Iterator[Server]:
    """A server, with the name of a bucket that it does not have."""
    if influx.influxd is None:
        pytest.skip("the buckets of a real version 2 are not ours to make at will")
    name = f"test_{uuid4().hex[:12]}"
    with closing(influx.server(bucket=name, retention_days=3)) as server:
        yield server
    influx.influxd.query(f"DROP DATABASE {name}")


def token_of(influx: InfluxBucket) -> str:
    assert influx.settings.token is not None
    return influx.settings.token.reveal()


def failed(finding: Finding, *, found: str, remedy: str) -> None:
    assert not finding.ok
    assert found in finding.found
    assert remedy in finding.remedy


def test_a_bucket_is_made_and_then_there(missing: Server) -> None:
    failed(look_at_bucket(missing), found="not found", remedy="python -m runners.init")
    made = make_bucket(missing)
    assert made.ok
    assert "is made, and keeps points for 3 days" in made.found
    for again in (make_bucket(missing), look_at_bucket(missing)):
        assert again.ok
        assert "takes points" in again.found


def test_who_may_not_make_it_is_told_how(influx: InfluxBucket, missing: Server) -> None:
    influx.shim.tokens[token_of(influx)] = ALL - {"manage"}
    name = missing.settings.bucket
    failed(
        make_bucket(missing),
        found="the token may not make it: 401",
        remedy=f"influx bucket create --name {name} --org test --retention 259200s",
    )


def test_who_may_only_write(influx: InfluxBucket) -> None:
    """It cannot see how long the bucket keeps points, and need not."""
    influx.shim.tokens[token_of(influx)] = frozenset({"write"})
    with closing(influx.server()) as server:
        assert look_at_bucket(server).ok
        assert make_bucket(server).ok


def test_who_may_only_read(influx: InfluxBucket) -> None:
    influx.shim.tokens[token_of(influx)] = frozenset({"read"})
    with closing(influx.server()) as server:
        failed(look_at_bucket(server), found="403", remedy="the right to write")


def test_a_token_that_is_none(influx: InfluxBucket) -> None:
    with closing(influx.server(token="another")) as server:
        failed(look_at_bucket(server), found="401", remedy="influx.token")
        failed(make_bucket(server), found="401", remedy="influx.token")


def test_another_retention_is_a_warning(influx: InfluxBucket) -> None:
    with closing(influx.server(retention_days=30)) as server:
        finding = look_at_bucket(server)
    assert not finding.ok
    assert not finding.fatal
    assert "keeps points for ever, and should for 30 days" in finding.found
    assert "--retention 2592000s" in finding.remedy
    with closing(influx.server(retention_days=0)) as server:
        assert look_at_bucket(server).ok


def test_nobody_listens() -> None:
    with closing(Server(settings=Influx(url="http://127.0.0.1:1"))) as server:
        for finding in (look_at_bucket(server), make_bucket(server)):
            failed(finding, found="refused", remedy="RAVENWH_INFLUX_URL")


def test_somebody_else_listens(influx: InfluxBucket) -> None:
    influx.shim.faults.append(Fault(status=200, raw=b"<html>Welcome, \xe9</html>"))
    with closing(influx.server()) as server:
        failed(look_at_bucket(server), found="200 <html>Welcome", remedy="mend influx.url")


def test_a_probe_writes_nothing(influx: InfluxBucket) -> None:
    with closing(influx.server(retention_days=0)) as server:
        assert look_at_bucket(server).ok
    assert influx.query("SHOW MEASUREMENTS").count("values") == 0


def test_a_cloud_that_wants_points_takes_them(influx: InfluxBucket) -> None:
    influx.shim.faults.append(Fault(status=400, message="writing requires points"))
    with closing(influx.server(retention_days=0)) as server:
        assert look_at_bucket(server).ok
