"""CURVE on real sockets: who has the keys is served, and nobody else gets anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
import zmq
from loguru import logger

from ravenwh.domain.errors import Refused, SettingsError, Unavailable
from ravenwh.domain.messages import PriceIndex
from ravenwh.domain.settings import Secret
from ravenwh.feed import wire
from ravenwh.feed.collecting import Fixed, collection_handlers
from ravenwh.feed.control import Collection
from ravenwh.feed.control_client import ControlClient
from ravenwh.feed.control_server import ControlServer
from ravenwh.feed.curve import ClientKeys, Gate, ServerKeys, new_pair, public_of
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.subscriber import Upstream, ZmqSource

pytestmark = pytest.mark.usefixtures("no_socket_left")

SOON_S = 60.0
QUIET_S = 0.3  # in which a stranger would have had the frames that a friend has got
SERVER, FRIEND, STRANGER = new_pair(), new_pair(), new_pair()
TOPIC = wire.topic("DERIBIT", "PRICE_INDEX", "btc_usd")
OTHER = wire.topic("DERIBIT", "PRICE_INDEX", "eth_usd")
OWN = wire.topic("DERIBIT", "PRICE_INDEX", "own")
COLLECTION = Collection("DERIBIT", "PRICE_INDEX", "btc_usd")

Pair = tuple[str, str]


def server_keys(*clients: Pair) -> ServerKeys:
    return ServerKeys(secret=Secret(SERVER[1]), clients=frozenset(public for public, _ in clients))


def client_keys(pair: Pair, server: str = SERVER[0]) -> ClientKeys:
    return ClientKeys(server=server, public=pair[0], secret=Secret(pair[1]))


def bound(*clients: Pair, address: str = "tcp://127.0.0.1:0") -> Endpoint:
    return Endpoint(address=address, mode="bind", keys=server_keys(*clients))


def listening(address: str, keys: ClientKeys | None, topic: bytes = TOPIC) -> ZmqSource:
    endpoint = Endpoint(address=address, keys=keys)
    return ZmqSource(upstreams=[Upstream(feed="spot", endpoint=endpoint, topics=(topic,))])


def index(number: int, symbol: str = "btc_usd") -> PriceIndex:
    return PriceIndex(venue="DERIBIT", symbol=symbol, event_time=number, price=1.0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait, bounded, for what ZeroMQ's own thread brings about."""
    async with asyncio.timeout(SOON_S):
        while not condition():  # noqa: ASYNC110  # nothing there could set an event of ours
            await asyncio.sleep(0.01)


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Every line of the log, with its fields."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), format="{message} {extra}", level=0)
    yield lines
    logger.remove(sink)


STRANGERS = [
    pytest.param(lambda: None, id="no key"),
    pytest.param(lambda: client_keys(STRANGER), id="a key that is not known"),
    pytest.param(lambda: client_keys(FRIEND, server=STRANGER[0]), id="another server's key"),
]


def test_a_pair_belongs_together() -> None:
    public, secret = new_pair()
    assert public_of(Secret(secret)) == public
    assert len(public) == len(secret) == 40
    assert new_pair() != (public, secret)


@pytest.mark.parametrize(
    "make",
    [
        lambda: public_of(Secret("short")),
        lambda: public_of(Secret("#" * 40)),  # these characters stand for more than four bytes
        lambda: ServerKeys(secret=Secret("x" * 39 + '"')),
        lambda: ServerKeys(secret=Secret(SERVER[1]), clients=frozenset({SERVER[1] + "x"})),
        lambda: client_keys(FRIEND, server=""),
        lambda: client_keys((FRIEND[0], STRANGER[1])),
        lambda: client_keys((FRIEND[1], FRIEND[1])),
    ],
)
def test_what_is_no_key_is_refused_and_not_shown(make: Callable[[], object]) -> None:
    with pytest.raises(
        SettingsError, match=r"allowed (are 40 characters of Z85|is the other half)"
    ) as caught:
        make()
    for key in (*SERVER, *FRIEND, *STRANGER):
        assert key not in str(caught.value)


def test_who_binds_is_the_server() -> None:
    with pytest.raises(
        SettingsError, match="found ClientKeys with mode bind, allowed with it are ServerKeys"
    ):
        Endpoint(address="tcp://127.0.0.1:0", mode="bind", keys=client_keys(FRIEND))
    with pytest.raises(SettingsError, match="found ServerKeys with mode connect, allowed"):
        Endpoint(address="tcp://127.0.0.1:1", keys=server_keys())


async def test_keys_make_an_endpoint_fit_for_other_machines(events: list[str]) -> None:
    elsewhere = Endpoint(address="tcp://localhost.:1", keys=client_keys(FRIEND))
    async with Publisher(endpoint=elsewhere):
        assert events == []


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_a_publisher_serves_friends_only(
    stranger: Callable[[], ClientKeys | None], events: list[str]
) -> None:
    async with Publisher(endpoint=bound(FRIEND)) as publisher:
        with (
            listening(publisher.address, client_keys(FRIEND)) as friend,
            listening(publisher.address, client_keys(SERVER), OWN) as itself,
        ):
            await publisher.wait_for_subscribers([TOPIC, OWN], timeout_s=SOON_S)
            with listening(publisher.address, stranger(), OTHER) as source:
                await until(lambda: "FEED_HANDSHAKE_FAILED" in events)
                for served, symbol in ((friend, "btc_usd"), (itself, "own")):
                    await publisher.publish(index(1, symbol))
                    (frame,) = await asyncio.wait_for(served.receive(1), SOON_S)
                    assert wire.decode(frame) == index(1, symbol)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(source.receive(1), QUIET_S)
            assert publisher.subscriptions == {TOPIC, OWN}


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_a_source_that_binds_listens_to_friends_only(
    stranger: Callable[[], ClientKeys | None], events: list[str]
) -> None:
    feed = Upstream(feed="spot", endpoint=bound(FRIEND), topics=(TOPIC,))
    with ZmqSource(upstreams=[feed]) as source:
        address = source.addresses["spot"]
        async with (
            Publisher(endpoint=Endpoint(address=address, keys=stranger())) as one,
            Publisher(endpoint=Endpoint(address=address, keys=client_keys(FRIEND))) as other,
        ):
            await other.wait_for_subscribers([TOPIC], timeout_s=SOON_S)
            await until(lambda: "FEED_HANDSHAKE_FAILED" in events)
            await one.publish(index(1))
            await other.publish(index(2))
            (frame,) = await asyncio.wait_for(source.receive(1), SOON_S)
            assert wire.decode(frame) == index(2)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(source.receive(1), QUIET_S)
            assert one.subscriptions == frozenset()


async def test_several_feeds_each_let_in_their_own() -> None:
    feeds = [
        Upstream(feed="a", endpoint=bound(FRIEND), topics=(TOPIC,)),
        Upstream(feed="b", endpoint=bound(STRANGER), topics=(TOPIC,)),
        Upstream(feed="c", endpoint=Endpoint(address="tcp://127.0.0.1:0", mode="bind"), topics=()),
    ]
    with ZmqSource(upstreams=feeds) as source:
        for name, pair in (("a", FRIEND), ("b", STRANGER)):
            address = Endpoint(address=source.addresses[name], keys=client_keys(pair))
            async with Publisher(endpoint=address) as publisher:
                await publisher.wait_for_subscribers([TOPIC], timeout_s=SOON_S)
                await publisher.publish(index(1))
                (frame,) = await asyncio.wait_for(source.receive(1), SOON_S)
                assert frame.feed == name


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_control_answers_friends_only(stranger: Callable[[], ClientKeys | None]) -> None:
    handlers = collection_handlers(Fixed([COLLECTION]))
    with ControlServer(endpoint=bound(FRIEND), handlers=handlers) as server:
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve())
            there = Endpoint(address=server.address, keys=client_keys(FRIEND))
            here = Endpoint(address=server.address, keys=stranger())
            with (
                ControlClient(endpoint=there) as friend,
                ControlClient(endpoint=here, timeout_s=QUIET_S) as client,
            ):
                assert (await friend.list_collections()).collections == (COLLECTION,)
                with pytest.raises(Unavailable, match=r"nobody answered .* and the keys"):
                    await client.list_collections()
            serving.cancel()


async def test_nobody_comes_in_where_nobody_answers_for_the_door() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    gate = Gate(context)
    with context, context.socket(zmq.XPUB) as socket:
        socket.set(zmq.LINGER, 0)
        with pytest.raises(Refused, match="without a gate"):
            bound(FRIEND).attach(socket)
        address = bound(FRIEND).attach(socket, gate)
        gate.close()
        with listening(address, client_keys(FRIEND)):
            await asyncio.sleep(QUIET_S)
            assert socket.poll(0) == 0


async def test_who_is_refused_is_let_in_once_it_is_known(events: list[str], log: list[str]) -> None:
    async with Publisher(endpoint=bound()) as publisher:
        source = listening(publisher.address, client_keys(FRIEND))
        await until(lambda: "FEED_HANDSHAKE_FAILED" in events)
        await until(lambda: "CLIENT_REFUSED" in events)
    assert any(FRIEND[0] in line for line in log)  # what its owner has to be given
    with source:
        receiving = asyncio.create_task(source.receive(1))
        async with Publisher(endpoint=bound(FRIEND, address=publisher.address)) as again:
            await again.wait_for_subscribers([TOPIC], timeout_s=SOON_S)
            await again.publish(index(1))
            (frame,) = await asyncio.wait_for(receiving, SOON_S)
            assert wire.decode(frame) == index(1)
    assert "FEED_ATTACHED_AGAIN" in events
    for _, secret in (SERVER, FRIEND, STRANGER):
        assert not any(secret in line for line in log)


async def test_a_secret_key_that_is_rotated_is_read_at_the_next_attachment() -> None:
    keys = [FRIEND[1]]
    secret = Secret(lambda: keys[0])
    ours = ServerKeys(secret=secret)
    keys[0] = SERVER[1]
    async with Publisher(
        endpoint=Endpoint(address="tcp://127.0.0.1:0", mode="bind", keys=ours)
    ) as publisher:
        with listening(publisher.address, client_keys(SERVER)):
            await publisher.wait_for_subscribers([TOPIC], timeout_s=SOON_S)
