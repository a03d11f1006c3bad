"""The control socket of a publisher or runner: one request after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import attrs
import msgspec
import zmq

from ravenwh.domain.errors import RavenwhError, Refused, Rejected, Unavailable, UnknownSymbol
from ravenwh.feed.control import (
    MAX_REQUEST_BYTES,
    REQUESTS,
    ControlError,
    Failure,
    Reply,
    Request,
    Served,
    parse,
    parse_head,
)
from ravenwh.feed.curve import Gate
from ravenwh.feed.descriptor import news
from ravenwh.feed.endpoint import Endpoint, gate_for, translated
from ravenwh.feed.seldom import Seldom

__all__ = ["MAX_FRAME_BYTES", "ControlServer", "Handler", "Handlers"]

MAX_FRAME_BYTES = 4 * MAX_REQUEST_BYTES  # between the two is what we can still answer
_REQUESTS_HELD = 8  # of each client; one that asks for more before it listens has to wait
_REPLIES_HELD = 4  # for each client; what does not fit is dropped, and it may ask again
_PAUSE = 3.0  # times as long as the request took: a flood gets a quarter of the loop
_LONGEST_PAUSE_S = 0.1
_TOLD = 3  # refusals with one code, at a time; a runner asks for each symbol that it wants

Handler = Callable[[Any], Awaitable[Served]]
"""Does a request, already checked, and gives its result.

An error of ours becomes the reply: a ControlError with its code, the others by their class.
"""

Handlers = Mapping[type[Request], Handler]
"""What is served, by the class of the request."""


@attrs.frozen(kw_only=True, eq=False)
class ControlServer:
    """Answers requests on a ROUTER socket, each in its turn, whoever asks.

    The clients take turns too, and however much one asks, it takes a share of the loop and no more:
    what it sends without end waits at its own end. To be made on the running loop. Raises
    SettingsError or Unavailable where the endpoint cannot be bound.

    ``address`` is where it is bound, with the port that a 0 became.
    """

    endpoint: Endpoint
    handlers: Handlers
    _context: zmq.Context[zmq.Socket[bytes]] = attrs.field(
        init=False, repr=False, factory=zmq.Context
    )
    _socket: zmq.Socket[bytes] = attrs.field(init=False, repr=False)
    _gate: Gate | None = attrs.field(init=False, repr=False)
    address: str = attrs.field(init=False)
    _seldom: Seldom = attrs.field(init=False, repr=False, factory=Seldom)
    _refusals: Seldom = attrs.field(init=False, repr=False, factory=lambda: Seldom(_TOLD))

    @_socket.default
    def _open(self) -> zmq.Socket[bytes]:
        try:
            socket = self._context.socket(zmq.ROUTER)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise translated(error, self.endpoint) from error
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RCVHWM, _REQUESTS_HELD)
        socket.set(zmq.SNDHWM, _REPLIES_HELD)
        socket.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        socket.set(zmq.ROUTER_MANDATORY, 1)  # to be told of what a client does not take
        return socket

    @_gate.default
    def _open_gate(self) -> Gate | None:
        return gate_for([self.endpoint], self._context)

    @address.default
    def _attach(self) -> str:
        self.endpoint.warn_if_open()
        try:
            return self.endpoint.attach(self._socket, self._gate)
        except RavenwhError:
            self.close()
            raise

    async def serve(self) -> None:
        """Answer until cancelled. Raises Refused once it is closed."""
        while True:
            try:
                envelope, request = self._receive()
            except zmq.Again:
                await news(self._socket)
                continue
            except zmq.ZMQError as error:
                raise translated(error, self.endpoint) from error
            began = time.monotonic()
            self._send([*envelope, *await self._reply_to(request)])
            took_s = time.monotonic() - began
            await asyncio.sleep(min(_PAUSE * took_s, _LONGEST_PAUSE_S))

    def close(self) -> None:
        """Give the socket back. Safe to call twice."""
        if self._gate is not None:
            self._gate.close()
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def _receive(self) -> tuple[list[bytes], list[bytes]]:
        """Where the answer goes, and the frames of the request; of many only the first are kept."""
        part = self._socket.recv(zmq.NOBLOCK, copy=False)
        envelope, request = [part.bytes], list[bytes]()
        while part.more:
            part = self._socket.recv(copy=False)
            if len(envelope) == 1 and not request and part.more and not len(part):
                envelope.append(b"")  # a REQ socket's delimiter, which it wants back
            elif len(request) < 2:
                request.append(part.bytes)
        return envelope, request

    async def _reply_to(self, frames: list[bytes]) -> list[bytes]:
        """The frames of the reply to any frames at all."""
        name = id_ = None
        try:
            if len(frames) != 1:
                raise ControlError("BAD_REQUEST", "found more or less than one frame of a request")
            name, id_ = parse_head(frames[0])
            request = parse(frames[0], name)
            result, behind = await self._handler(request)(request)
        except RavenwhError as error:
            failure = Failure(_code(error), str(error))
            self._refusals.log(
                "WARNING",
                "CONTROL_REFUSED",
                of=failure.code,
                endpoint=self.address,
                code=failure.code,
                reason=failure.reason,
            )
            return [msgspec.json.encode(Reply(reply=name, id=id_, ok=False, error=failure))]
        raw = msgspec.Raw(msgspec.json.encode(result))
        return [msgspec.json.encode(Reply(reply=name, id=id_, ok=True, result=raw)), *behind]

    def _handler(self, request: Request) -> Handler:
        handler = self.handlers.get(type(request))
        if handler is None:
            served = ", ".join(name for name, cls in REQUESTS.items() if cls in self.handlers)
            raise ControlError(
                "NOT_SERVED",
                f"request: found {type(request).__name__}, allowed here are {served}; "
                "Sequences and Resend are answered by publishers, at their control endpoint",
            )
        return handler

    def _send(self, parts: list[bytes]) -> None:
        """Send, if the client takes it: nobody waits for one that asks and does not listen."""
        self._socket.get(zmq.EVENTS)  # takes in, without delay, what replies were taken meanwhile
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            self._seldom.log("WARNING", "CONTROL_REPLY_DROPPED", endpoint=self.address)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:  # it has gone away meanwhile
                raise translated(error, self.endpoint) from error


def _code(error: RavenwhError) -> str:
    match error:
        case ControlError():
            return error.code
        case UnknownSymbol():
            return "UNKNOWN_SYMBOL"
        case Refused() | Rejected():
            return "REFUSED"
        case Unavailable():
            return "UNAVAILABLE"
    return "FAILED"
