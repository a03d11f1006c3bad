"""The sockets of the settings: what each is bound or connected to, and with which keys."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from ravenwh.app.feeds import (
    control_client,
    control_endpoint,
    feed_control,
    feed_endpoint,
    publishing_endpoint,
    resending,
)
from ravenwh.domain.errors import SettingsError
from ravenwh.domain.messages import PriceIndex
from ravenwh.domain.settings import Settings
from ravenwh.feed import wire
from ravenwh.feed.collecting import Fixed, collection_handlers
from ravenwh.feed.control_server import ControlServer
from ravenwh.feed.curve import ClientKeys, ServerKeys, new_pair
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.resending import resend_handlers
from ravenwh.feed.subscriber import Upstream, ZmqSource
from ravenwh.telemetry.live import serve_live
from ravenwh.telemetry.ports import port_findings
from tests.programs import free_ports

OURS, THEIRS, THIRD = new_pair(), new_pair(), new_pair()
CONNECTING = {
    "endpoint": "tcp://127.0.0.1:5555",
    "control": "tcp://127.0.0.1:5570",
    "server_key": THEIRS[0],
    "public_key": OURS[0],
    "secret_key": OURS[1],
}
BINDING = {
    "endpoint": "tcp://127.0.0.1:5555",
    "mode": "bind",
    "control": "tcp://127.0.0.1:5570",
    "public_key": OURS[0],
    "secret_key": OURS[1],
}


def settings(**sections: object) -> Settings:
    return Settings(**sections)  # type: ignore[arg-type]  # what a file would hold


def test_without_keys() -> None:
    plain = settings()
    assert feed_endpoint(plain, "default").keys is None
    assert feed_control(plain, "default") is None
    assert control_endpoint(plain, "kline").keys is None
    assert control_endpoint(plain, "kline").address == "tcp://127.0.0.1:5571"
    assert publishing_endpoint(plain, "default", "tcp://127.0.0.1:5555").keys is None
    everywhere = settings(server={"host": "0.0.0.0"})  # noqa: S104  nothing is bound
    assert control_endpoint(everywhere, "replay").address == "tcp://0.0.0.0:5570"
    with control_client(everywhere, service="replay") as client:
        assert client.endpoint.address == "tcp://127.0.0.1:5570"


def test_who_connects_is_a_client_of_the_publisher_and_of_its_control() -> None:
    ours = settings(feeds={"live": CONNECTING})
    endpoint = feed_endpoint(ours, "live")
    assert isinstance(endpoint.keys, ClientKeys)
    assert (endpoint.keys.server, endpoint.keys.public) == (THEIRS[0], OURS[0])
    client = feed_control(ours, "live")
    assert client is not None
    with client:
        assert client.endpoint.key == "feeds.live.control"
        assert client.endpoint.keys == endpoint.keys


@pytest.mark.parametrize(
    ("clients", "answering"), [([THEIRS[0]], THEIRS[0]), ([], OURS[0])], ids=["theirs", "ours"]
)
def test_who_binds_is_the_server_but_asks_as_a_client(clients: list[str], answering: str) -> None:
    ours = settings(feeds={"live": BINDING | {"client_keys": clients}})
    endpoint = feed_endpoint(ours, "live")
    assert isinstance(endpoint.keys, ServerKeys)
    assert endpoint.keys.clients == frozenset(clients)
    client = feed_control(ours, "live")
    assert client is not None
    with client:
        assert isinstance(client.endpoint.keys, ClientKeys)
        assert client.endpoint.keys.server == answering


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"secret_key": THEIRS[1]}, "feeds.live: public key: found one that does not belong"),
        ({"server_key": "#" * 40}, "feeds.live: server key: found no CURVE key"),
    ],
)
def test_keys_that_do_not_fit_are_told_with_their_section(wrong: dict[str, str], told: str) -> None:
    ours = settings(feeds={"live": CONNECTING | wrong})
    for make in (feed_endpoint, feed_control):
        with pytest.raises(SettingsError) as caught:
            make(ours, "live")
        assert str(caught.value).startswith(told)
        assert OURS[1] not in str(caught.value)
    with pytest.raises(SettingsError, match="server: secret key: found no CURVE key"):
        control_endpoint(settings(server={"secret_key": "#" * 40}), "kline")


def test_what_is_published_has_the_keys_that_its_subscribers_expect() -> None:
    server = {"secret_key": THEIRS[1], "client_keys": [OURS[0]]}
    both = settings(server=server, feeds={"live": CONNECTING})
    endpoint = publishing_endpoint(both, "live", "tcp://127.0.0.1:5555")
    assert isinstance(endpoint.keys, ServerKeys)
    assert endpoint.keys.clients == {OURS[0]}
    for wrong in (
        settings(feeds={"live": CONNECTING}),
        settings(server={"secret_key": THIRD[1]}, feeds={"live": CONNECTING}),
        settings(server=server, feeds={"live": {}}),
    ):
        with pytest.raises(SettingsError, match=r"^feeds.live.server_key: found .*; allowed: "):
            publishing_endpoint(wrong, "live", "tcp://127.0.0.1:5555")
    elsewhere = publishing_endpoint(settings(server=server), None, "tcp://127.0.0.1:5555")
    assert isinstance(elsewhere.keys, ServerKeys)


async def test_a_runner_asks_the_publishers_of_its_feeds_with_their_keys() -> None:
    with closing(free_ports()) as free:
        frames, control = next(free), next(free)
    theirs = settings(
        server={"secret_key": THEIRS[1], "client_keys": [OURS[0]], "replay_port": control}
    )
    live = CONNECTING | {
        "endpoint": f"tcp://127.0.0.1:{frames}",
        "control": f"tcp://127.0.0.1:{control}",
    }
    ours = settings(feeds={"live": live, "other": {"endpoint": f"tcp://127.0.0.1:{frames}"}})
    message = PriceIndex(venue="A", symbol="x", event_time=1, price=1.0)
    topic = wire.topic("A", "PRICE_INDEX", "x")
    async with Publisher(endpoint=publishing_endpoint(theirs, None, live["endpoint"])) as publisher:
        await publisher.publish(message)
        with ControlServer(
            endpoint=control_endpoint(theirs, "replay"), handlers=resend_handlers(publisher)
        ) as server:
            serving = asyncio.create_task(server.serve())
            upstreams = [
                Upstream(feed=name, endpoint=feed_endpoint(ours, name), topics=(topic,))
                for name in ours.feeds
            ]
            with ZmqSource(upstreams=upstreams) as source, resending(ours, source) as resender:
                assert await resender.positions("live") == {topic: (publisher.epoch, 1, 1)}
                (frame,) = await resender.resend("live", topic, publisher.epoch, 1, 1)
                assert wire.decode(frame) == message
                assert await resender.positions("other") == {}
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def test_the_doctor_knows_the_control_port_of_a_service_of_ours() -> None:
    with closing(free_ports()) as free:
        port = next(free)
    ours = settings(server={"replay_port": port})
    ports = [one for one in ours.ports() if one.service == "replay"]
    with ControlServer(
        endpoint=control_endpoint(ours, "replay"), handlers=collection_handlers(Fixed([]))
    ):
        (_, stranger) = await asyncio.to_thread(port_findings, ports)
        async with serve_live("127.0.0.1", port + 1000, "replay"):
            (_, finding) = await asyncio.to_thread(port_findings, ports)
    assert not stranger.ok
    assert f"{port} taken by another program" in stranger.found
    assert finding.ok
    assert finding.found == f"{port} and {port + 1000} held by our own runner replay"
