"""The sockets that the settings describe, each with its keys: feeds, publishing, control."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings import Feed, Settings
from ravenwh.feed.control_client import ControlClient
from ravenwh.feed.curve import ClientKeys, ServerKeys, public_of
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.resender import FeedResender
from ravenwh.feed.subscriber import ZmqSource

__all__ = [
    "control_client",
    "control_endpoint",
    "feed_control",
    "feed_endpoint",
    "publishing_endpoint",
    "publishing_feed",
    "resending",
]


def feed_endpoint(settings: Settings, name: str) -> Endpoint:
    """Where we receive a feed. Raises SettingsError, and Unavailable where a key's file is gone."""
    feed = settings.feeds[name]
    keys: ClientKeys | ServerKeys | None
    with _told_as(f"feeds.{name}"):
        if feed.mode == "connect":
            keys = _client_keys(feed, feed.server_key)
        elif feed.secret_key is not None:
            keys = ServerKeys(secret=feed.secret_key, clients=frozenset(feed.client_keys))
        else:
            keys = None
    return Endpoint(address=feed.endpoint, mode=feed.mode, key=f"feeds.{name}.endpoint", keys=keys)


def feed_control(settings: Settings, name: str) -> ControlClient | None:
    """Who asks the publisher of a feed; None where the settings name no control endpoint.

    Where we bind, its key is that of the one client we let in, or ours, as there is no other.
    """
    feed = settings.feeds[name]
    if feed.control is None:
        return None
    with _told_as(f"feeds.{name}"):
        server = feed.server_key if feed.mode == "connect" else feed.public_key
        keys = _client_keys(feed, next(iter(feed.client_keys), server))
    endpoint = Endpoint(address=feed.control, key=f"feeds.{name}.control", keys=keys)
    return ControlClient(endpoint=endpoint, max_frame_bytes=feed.max_frame_bytes)


def _client_keys(feed: Feed, server: str | None) -> ClientKeys | None:
    if server is None or feed.public_key is None or feed.secret_key is None:
        return None
    return ClientKeys(server=server, public=feed.public_key, secret=feed.secret_key)


@contextmanager
def resending(settings: Settings, source: ZmqSource) -> Iterator[FeedResender]:
    """Who asks the publishers of a source's feeds for what did not arrive."""
    with ExitStack() as stack:
        clients = {}
        for name in source.addresses:
            client = feed_control(settings, name)
            if client is not None:
                clients[name] = stack.enter_context(client)
        yield FeedResender(clients=clients, wanted=source.wanted)


def publishing_endpoint(settings: Settings, name: str | None, address: str) -> Endpoint:
    """Where we bind to publish; ``name`` is the feed whose subscribers connect there, if known.

    Raises SettingsError where its subscribers and we would not let each other in.
    """
    keys = _server_keys(settings)
    if name is None:
        return Endpoint(address=address, mode="bind", key="--endpoint", keys=keys)
    expected = settings.feeds[name].server_key
    ours = None if keys is None else public_of(keys.secret)
    if expected != ours:
        raise SettingsError(
            [
                f"feeds.{name}.server_key: found {expected or 'nothing'}; allowed: "
                f"{ours or 'nothing'}, the public half of server.secret_key, as we publish there"
            ]
        )
    return Endpoint(address=address, mode="bind", key=f"feeds.{name}.endpoint", keys=keys)


def publishing_feed(settings: Settings, name: str, who: str, remedy: str) -> Endpoint:
    """Where the subscribers of a feed connect to, for us to bind there and publish.

    Raises SettingsError, with ``who`` needs it and the ``remedy``, for a feed that is not such one.
    """
    feed = settings.feeds[name]
    if (feed.wire, feed.mode) != ("raven", "connect"):
        raise SettingsError(
            [
                f"feeds.{name}: found wire {feed.wire}, mode {feed.mode}; {who} needs a raven "
                f"feed that the runners connect to: {remedy}"
            ]
        )
    return publishing_endpoint(settings, name, feed.endpoint)


def control_endpoint(settings: Settings, service: str) -> Endpoint:
    """Where a service of ours binds its control socket."""
    port = settings.port_of(service, "control")
    address = f"tcp://{port.host}:{port.number}"
    return Endpoint(address=address, mode="bind", key=port.key, keys=_server_keys(settings))


def control_client(
    settings: Settings,
    *,
    service: str = "kline",
    endpoint: str | None = None,
    server_key: str | None = None,
) -> ControlClient:
    """Who asks a service of this machine, or what answers at an endpoint.

    With keys in the section ``server`` we show that pair, and expect it, or ``server_key``, at the
    other end. Raises SettingsError where ``server_key`` is given and there is no pair.
    """
    port = settings.port_of(service, "control")
    host = "127.0.0.1" if port.host == "0.0.0.0" else port.host  # noqa: S104  it is all addresses
    return ControlClient(
        endpoint=Endpoint(
            address=endpoint or f"tcp://{host}:{port.number}",
            key="--endpoint" if endpoint else port.key,
            keys=_keys_of_asker(settings, server_key),
        )
    )


def _keys_of_asker(settings: Settings, server_key: str | None) -> ClientKeys | None:
    secret = settings.server.secret_key
    if secret is None:
        if server_key is not None:
            raise SettingsError(
                ["server.secret_key: found nothing; allowed with --server-key: our own key"]
            )
        return None
    with _told_as("server"):
        ours = public_of(secret)
        return ClientKeys(server=server_key or ours, public=ours, secret=secret)


def _server_keys(settings: Settings) -> ServerKeys | None:
    server = settings.server
    if server.secret_key is None:
        return None
    with _told_as("server"):
        return ServerKeys(secret=server.secret_key, clients=frozenset(server.client_keys))


@contextmanager
def _told_as(section: str) -> Iterator[None]:
    """Say which section a key that is none stands in."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError([f"{section}: {problem}" for problem in error.problems]) from None
