"""CURVE: keys of the two ends of a connection, and who is let in.

Who binds is the server, who connects the client, whichever of them publishes. The client knows the
server's public key, the server those of the clients that it lets in.
"""

from __future__ import annotations

import asyncio
import re
import struct
from typing import Any

import attrs
import zmq
from zmq.utils import z85

from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings import Secret
from ravenwh.feed.seldom import Seldom

__all__ = ["ClientKeys", "Gate", "ServerKeys", "new_pair", "public_of"]

_ZAP = "inproc://zeromq.zap.01"  # where ZeroMQ asks, fixed by its RFC 27
_KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_HANDSHAKE_MS = 10_000  # a stranger that connects and says nothing holds a connection no longer


def new_pair() -> tuple[str, str]:
    """A new public key, and the secret key that belongs to it, 40 characters of Z85 each."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def public_of(secret: Secret) -> str:
    """The public key that belongs to a secret one. Raises SettingsError, and Unavailable."""
    return zmq.curve_public(_checked("secret key", secret.reveal()).encode()).decode()


def _checked(what: str, key: str) -> str:
    """The key, which an error does not show: it may be a secret one in the wrong place."""
    if _KEY.fullmatch(key):
        try:
            z85.decode(key.encode())
        except struct.error:  # five characters can stand for more than four bytes
            pass
        else:
            return key
    raise SettingsError([f"{what}: found no CURVE key; allowed are 40 characters of Z85"])


@attrs.frozen(kw_only=True)
class ClientKeys:
    """The keys of who connects: the server's public one, and its own two.

    Raises SettingsError where one is no key, or where the two do not belong together.
    """

    server: str
    public: str
    secret: Secret

    def __attrs_post_init__(self) -> None:
        """Refuse what could only end in a connection that never comes about."""
        _checked("server key", self.server)
        _checked("public key", self.public)
        if public_of(self.secret) != self.public:
            raise SettingsError(
                [
                    "public key: found one that does not belong to the secret key; "
                    "allowed is the other half of the same `ravenwh keys new`"
                ]
            )

    def put_on(self, socket: zmq.Socket[Any]) -> None:
        """Encrypt what the socket connects to from now on."""
        socket.set(zmq.CURVE_SERVERKEY, self.server.encode())
        socket.set(zmq.CURVE_PUBLICKEY, self.public.encode())
        socket.set(zmq.CURVE_SECRETKEY, self.secret.reveal().encode())


@attrs.frozen(kw_only=True)
class ServerKeys:
    """The keys of who binds: its own secret one, and the public ones of the clients it lets in.

    It lets itself in too: programs of one machine may share a pair. Raises SettingsError where one
    is no key.
    """

    secret: Secret
    clients: frozenset[str] = frozenset()

    def __attrs_post_init__(self) -> None:
        """Refuse what is no key."""
        public_of(self.secret)
        for client in self.clients:
            _checked("client key", client)


class Gate:
    """Tells ZeroMQ whether a client may come in, on the running loop: no thread is needed.

    There is one for a context, made before its sockets are attached. Without an answer ZeroMQ lets
    nobody in, so a loop that stands still only delays a handshake. Who is refused is told in a log
    line, with the public key that it showed, in case it ought to be let in.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._doors: dict[bytes, tuple[str, frozenset[str]]] = {}
        self._seldom = Seldom()
        self._asked = context.socket(zmq.REP)
        self._asked.set(zmq.LINGER, 0)
        self._asked.bind(_ZAP)
        self._loop.add_reader(self._asked.fileno(), self._answer)

    def guard(self, socket: zmq.Socket[Any], keys: ServerKeys, name: str) -> None:
        """Let only known clients in to what the socket binds from now on; ``name`` is for the log.

        The door stays shut to all where nobody answers for it.
        """
        domain = str(len(self._doors)).encode()
        self._doors[domain] = (name, keys.clients | {public_of(keys.secret)})
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, keys.secret.reveal().encode())
        socket.set(zmq.ZAP_DOMAIN, domain)
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.set(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)

    def close(self) -> None:
        """Let nobody in any more; before the context ends. Safe to call twice."""
        if not self._asked.closed:
            self._loop.remove_reader(self._asked.fileno())
            self._asked.close()

    def _answer(self) -> None:
        while True:
            try:
                question = self._asked.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            version, number, domain, address, _, _, *shown = question
            key = z85.encode(shown[0]).decode()
            name, clients = self._doors[domain]
            if key in clients:
                status, reason = b"200", b""
            else:
                status, reason = b"400", b"unknown key"
                self._seldom.log(
                    "WARNING",
                    "CLIENT_REFUSED",
                    endpoint=name,
                    client=address.decode(),
                    public_key=key,
                )
            self._asked.send_multipart([version, number, status, reason, b"", b""])
