"""Asking the control socket of a publisher or runner."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar

import attrs
import msgspec
import zmq

from ravenwh.domain.errors import Unavailable
from ravenwh.feed.control import (
    Answer,
    Changed,
    Collected,
    Collection,
    ControlError,
    Failure,
    ListCollections,
    Reply,
    Request,
    StartCollection,
    StopAllCollections,
    StopCollection,
)
from ravenwh.feed.descriptor import news
from ravenwh.feed.endpoint import Endpoint, translated

__all__ = ["ControlClient"]

_LEAST_FRAME_BYTES = 4 * 2**20  # the lists of a reply, in one frame

AnswerT = TypeVar("AnswerT", bound=Answer)


@attrs.frozen(kw_only=True, eq=False)
class ControlClient:
    """Asks one control endpoint, from one loop; requests of several tasks take turns.

    Every request waits at most ``timeout_s`` for its reply, its turn included, and raises
    Unavailable then. One that was given up, or cancelled, may have been done all the same; its
    reply is never taken for another's. A request that was not sent is not sent later. What the
    other end refuses is a ControlError, with its code.

    Nothing is connected before the first request. ``max_frame_bytes`` bounds what is received.
    """

    endpoint: Endpoint
    timeout_s: float = 5.0
    max_frame_bytes: int = _LEAST_FRAME_BYTES
    _context: zmq.Context[zmq.Socket[bytes]] = attrs.field(
        init=False, repr=False, factory=zmq.Context
    )
    _sockets: list[zmq.Socket[bytes]] = attrs.field(init=False, repr=False, factory=list)
    _turn: asyncio.Lock = attrs.field(init=False, repr=False, factory=asyncio.Lock)
    _numbers: itertools.count[int] = attrs.field(init=False, repr=False, factory=itertools.count)

    def __attrs_post_init__(self) -> None:
        """Say it once, not at each connection."""
        self.endpoint.warn_if_open()

    async def start_collection(self, wanted: Collection) -> Changed:
        """Have this collected from now on."""
        request = StartCollection(
            venue=wanted.venue, data_type=wanted.data_type, symbol=wanted.symbol
        )
        return (await self.ask(request, Changed))[0]

    async def stop_collection(self, unwanted: Collection) -> Changed:
        """Have this collected no longer."""
        request = StopCollection(
            venue=unwanted.venue, data_type=unwanted.data_type, symbol=unwanted.symbol
        )
        return (await self.ask(request, Changed))[0]

    async def list_collections(self) -> Collected:
        """What is collected."""
        return (await self.ask(ListCollections(), Collected))[0]

    async def stop_all_collections(self) -> Collected:
        """Have nothing collected any more; what was stopped."""
        return (await self.ask(StopAllCollections(), Collected))[0]

    async def ask(self, request: Request, to: type[AnswerT]) -> tuple[AnswerT, Sequence[bytes]]:
        """The result of a request, and the frames behind its reply."""
        id_ = str(next(self._numbers))
        sent = msgspec.json.encode(msgspec.structs.replace(request, id=id_))
        try:
            async with asyncio.timeout(self.timeout_s), self._turn:
                try:
                    reply, frames = await self._exchanged(sent, id_)
                except BaseException:
                    self._hang_up()  # so that a late reply comes to nobody
                    raise
        except TimeoutError:
            raise Unavailable(
                f"{self.endpoint.key}: nobody answered at {self.endpoint.address} within "
                f"{self.timeout_s:g} s; start what should, or check the endpoint and the keys"
            ) from None
        except zmq.ZMQError as error:
            raise translated(error, self.endpoint) from error
        if reply.error is not None:
            raise self._refused(reply.error)
        try:
            return msgspec.json.decode(reply.result, type=to), frames
        except msgspec.DecodeError as error:
            raise self.nonsense(str(error)) from None

    def nonsense(self, what: str) -> Unavailable:
        """The error for an answer that no control socket of this version gives."""
        return Unavailable(
            f"{self.endpoint.key}: {self.endpoint.address} answers what is no reply ({what}); "
            "check that it is a control endpoint",
            needs_person=True,
        )

    def close(self) -> None:
        """Give the socket back. Safe to call twice."""
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

    async def _exchanged(self, request: bytes, id_: str) -> tuple[Reply, list[bytes]]:
        socket = self._socket()
        while True:
            try:
                socket.send(request, zmq.NOBLOCK)
            except zmq.Again:
                await news(socket)
            else:
                break
        while True:
            try:
                head, *frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                await news(socket)
                continue
            try:
                reply = msgspec.json.decode(head, type=Reply)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise self.nonsense(str(error)) from None
            if reply.id == id_:
                return reply, frames

    def _socket(self) -> zmq.Socket[bytes]:
        """The connected socket. ZeroMQ connects again by itself, but not after a refusal."""
        if not self._sockets:
            socket = self._context.socket(zmq.DEALER)
            self._sockets.append(socket)
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.IMMEDIATE, 1)  # a request that cannot go now never goes
            socket.set(zmq.MAXMSGSIZE, max(self.max_frame_bytes, _LEAST_FRAME_BYTES))
            self.endpoint.attach(socket)
        return self._sockets[0]

    def _hang_up(self) -> None:
        while self._sockets:
            self._sockets.pop().close()

    def _refused(self, failure: Failure) -> ControlError | Unavailable:
        reason = (
            f"{self.endpoint.key}: {self.endpoint.address} says {failure.code}: {failure.reason}"
        )
        if failure.code == "UNAVAILABLE":
            return Unavailable(reason)
        return ControlError(failure.code, reason)
