"""Endpoints: what is refused before it is tried, and what ZeroMQ's errors become."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
import zmq

from ravenwh.domain.errors import RavenwhError, Refused, SettingsError, Unavailable
from ravenwh.feed.endpoint import Endpoint, translated
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.subscriber import Upstream, ZmqSource

opens_sockets = pytest.mark.usefixtures("no_socket_left")


@pytest.mark.parametrize(
    ("address", "mode"),
    [
        ("tcp://127.0.0.1:5555", "connect"),
        ("tcp://feed-host:65535", "connect"),
        ("tcp://[::1]:1", "connect"),
        ("tcp://*:5555", "bind"),
        ("tcp://127.0.0.1:0", "bind"),
        ("ipc:///tmp/feed.sock", "bind"),
    ],
)
def test_an_endpoint_that_may_work_is_taken(address: str, mode: str) -> None:
    endpoint = Endpoint(address=address, mode=mode)  # type: ignore[arg-type]  # from a table
    assert endpoint.address == address


@pytest.mark.parametrize(
    ("address", "mode", "reason"),
    [
        ("", "connect", "allowed are tcp://HOST:PORT"),
        ("127.0.0.1:5555", "connect", "allowed are tcp://HOST:PORT"),
        ("tcp://127.0.0.1", "connect", "allowed are tcp://HOST:PORT"),
        ("tcp://127.0.0.1:65536", "connect", "a port from 1 to 65535"),
        ("tcp://127.0.0.1:0", "connect", "a port from 1 to 65535"),
        ("tcp://127.0.0.1:-1", "bind", "a port from 0 to 65535"),
        ("tcp://127.0.0.1:5555/x", "connect", "allowed are tcp://HOST:PORT"),
        ("tcp://::1:5555", "connect", "allowed are tcp://HOST:PORT"),
        ("udp://127.0.0.1:5555", "connect", "allowed are tcp://HOST:PORT"),
        ("inproc://feed", "connect", "allowed are tcp://HOST:PORT"),
        ("ipc://", "bind", "allowed are tcp://HOST:PORT"),
        ("tcp://*:5555", "connect", "one named host"),
        ("tcp://127.0.0.1:5555", "listen", "allowed are connect and bind"),
    ],
)
def test_an_endpoint_that_cannot_work_is_refused(address: str, mode: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as caught:
        Endpoint(address=address, mode=mode, key="feeds.spot.endpoint")  # type: ignore[arg-type]
    assert str(caught.value).startswith("feeds.spot.endpoint: found ")


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("tcp://127.0.0.1:5555", True),
        ("tcp://127.9.9.9:5555", True),
        ("tcp://[::1]:5555", True),
        ("tcp://localhost:5555", True),
        ("ipc:///tmp/feed.sock", True),
        ("tcp://0.0.0.0:5555", False),
        ("tcp://[::]:5555", False),
        ("tcp://*:5555", False),
        ("tcp://192.0.2.7:5555", False),
        ("tcp://localhost.example:5555", False),
    ],
)
def test_only_what_is_surely_this_machine_is_local(address: str, local: bool) -> None:
    assert Endpoint(address=address, mode="bind").is_local is local


@opens_sockets
async def test_an_endpoint_that_may_be_reached_from_elsewhere_is_told(events: list[str]) -> None:
    async with Publisher(endpoint=Endpoint(address="tcp://127.0.0.1:0", mode="bind")):
        assert events == []
    elsewhere = Endpoint(address="tcp://localhost.:1")  # ourselves, but not surely; nobody listens
    async with Publisher(endpoint=elsewhere):
        assert events == ["FEED_NOT_ENCRYPTED"]


EXPECTED: dict[str, type[RavenwhError]] = {
    "EINVAL": SettingsError,
    "EADDRNOTAVAIL": SettingsError,
    "EPROTONOSUPPORT": SettingsError,
    "ENOCOMPATPROTO": SettingsError,
    "ETERM": Refused,
    "ENOTSOCK": Refused,
}


def test_the_table_of_errors_names_errors_of_zeromq() -> None:
    assert EXPECTED.keys() <= {number.name for number in zmq.Errno}


@pytest.mark.parametrize("number", sorted(zmq.Errno), ids=lambda number: number.name)
def test_every_error_of_zeromq_has_one_of_ours(number: zmq.Errno) -> None:
    endpoint = Endpoint(address="tcp://127.0.0.1:5555", key="feeds.spot.endpoint")
    error = translated(zmq.ZMQError(number), endpoint)
    assert type(error) is EXPECTED.get(number.name, Unavailable)
    assert str(error).startswith("feeds.spot.endpoint: connect tcp://127.0.0.1:5555")


def test_an_unknown_error_of_the_system_waits_for_a_person() -> None:
    error = translated(zmq.ZMQError(errno.EIO), Endpoint(address="tcp://127.0.0.1:5555"))
    assert isinstance(error, Unavailable)
    assert error.needs_person
    assert os.strerror(errno.EIO) in str(error)


@opens_sockets
async def test_a_taken_endpoint_is_unavailable_until_somebody_frees_it() -> None:
    async with Publisher(endpoint=Endpoint(address="tcp://127.0.0.1:0", mode="bind")) as first:
        taken = Endpoint(address=first.address, mode="bind")
        with pytest.raises(Unavailable, match="taken by another process") as caught:
            Publisher(endpoint=taken)
        assert caught.value.needs_person
        watched = len(asyncio.get_running_loop()._selector.get_map())  # type: ignore[attr-defined]
        with pytest.raises(Unavailable, match="taken by another process"):
            ZmqSource(upstreams=[Upstream(feed="spot", endpoint=taken, topics=())])
        assert len(asyncio.get_running_loop()._selector.get_map()) == watched  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("tcp://no-such-interface:5555", SettingsError),
        ("tcp://192.0.2.7:0", SettingsError),
        ("ipc:///no/such/folder/feed.sock", Unavailable),
        ("ipc:///" + "x" * 200, SettingsError),
    ],
    ids=["no interface", "no address of ours", "no folder", "too long"],
)
@opens_sockets
def test_an_endpoint_that_cannot_be_bound(address: str, error: type[RavenwhError]) -> None:
    with pytest.raises(error):
        Publisher(endpoint=Endpoint(address=address, mode="bind"))


@opens_sockets
async def test_a_path_is_an_endpoint_too(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/s"
    async with Publisher(endpoint=Endpoint(address=address, mode="bind")) as publisher:
        assert publisher.address == address
        feed = Upstream(feed="spot", endpoint=Endpoint(address=address), topics=(b"X",))
        with ZmqSource(upstreams=[feed]):
            await publisher.wait_for_subscribers([b"X"], timeout_s=60)
