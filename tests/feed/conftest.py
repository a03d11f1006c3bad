"""Sockets that tests may use, and the proof that none is left open."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import zmq
from loguru import logger


@pytest.fixture
def no_socket_left() -> Iterator[None]:
    """Every ZeroMQ context that the test opened is closed at its end."""
    yield
    gc.collect()
    left = [
        thing for thing in gc.get_objects() if isinstance(thing, zmq.Context) and not thing.closed
    ]
    for context in left:
        context.destroy(linger=0)
    assert not left


@pytest.fixture
def raw() -> Iterator[zmq.Socket[bytes]]:
    """A publishing socket, to be attached, that keeps to no rule of ours."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.XPUB_VERBOSE, 1)  # a subscription is told at every new connection
        yield socket


@pytest.fixture
def events() -> Iterator[list[str]]:
    """The names of the log events, as they come."""
    names: list[str] = []
    sink = logger.add(lambda message: names.append(message.record["message"]), level="DEBUG")
    yield names
    logger.remove(sink)
