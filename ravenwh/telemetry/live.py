"""What a runner answers over HTTP: is it up, is it ready, what does it count.

``/livez`` says that the process is up, and which service it is: the only page that a supervisor
may restart a process for. ``/readyz`` says whether it can do its work now, and if not, why: a
restart mends none of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence

import attrs

from ravenwh.domain.errors import Unavailable

__all__ = ["Answer", "page_at", "process_at", "serve_live", "service_at"]

LARGEST_REQUEST = 8192
LARGEST_ANSWER = 1_048_576
PATIENCE_S = 5.0
ANSWER_WITHIN_S = 3.0
METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"


@contextlib.asynccontextmanager
async def serve_live(
    host: str,
    port: int,
    service: str,
    *,
    troubles: Callable[[], Sequence[str]] = tuple,
    metrics: Callable[[], bytes] = bytes,
) -> AsyncIterator[None]:
    """Answer while the block runs.

    ``/livez`` gives the service's name and process id; ``/readyz`` the ``troubles``, with status
    503 where there are any; ``/metrics`` what ``metrics`` gives, in the text format of Prometheus.
    """
    body = json.dumps({"service": f"ravenwh.{service}", "pid": os.getpid()}).encode()

    def page(path: bytes) -> bytes:
        if path == b"/livez":
            return _response(200, "OK", body)
        if path == b"/readyz":
            found = list(troubles())
            said = json.dumps({"ready": not found, "troubles": found}).encode()
            return _response(*((503, "Service Unavailable") if found else (200, "OK")), said)
        if path == b"/metrics":
            return _response(200, "OK", metrics(), kind=METRICS_TYPE)
        return _response(404, "Not Found")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, path = (*head.split(b" ", 2), b"", b"")[:2]
                writer.write(page(path) if method == b"GET" else _response(404, "Not Found"))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # who asks badly, or went away, gets no answer
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, host, port, limit=LARGEST_REQUEST)
    except OSError as error:
        raise Unavailable(
            f"{service} cannot listen on {host}:{port}: {error.strerror}; "
            "`ravenwh doctor` tells who holds the port",
            needs_person=True,
        ) from error
    async with server:
        yield


def _response(
    status: int, reason: str, body: bytes = b"", *, kind: str = "application/json"
) -> bytes:
    return (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body


@attrs.frozen
class Answer:
    """What a page of a runner said."""

    status: int
    body: bytes


def page_at(host: str, port: int, path: str) -> Answer | None:
    """What whoever listens there answers to a GET of the path; None where there is no answer."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_WITHIN_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return Answer(response.status, response.read(LARGEST_ANSWER))
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def service_at(host: str, port: int) -> str | None:
    """The name of the service of ours that answers there (``kline``), or None for a stranger."""
    name = str(_identity(host, port).get("service", ""))
    return name.removeprefix("ravenwh.") if name.startswith("ravenwh.") else None


def process_at(host: str, port: int) -> int | None:
    """The process id of the service of ours that answers there, or None for a stranger."""
    pid = _identity(host, port).get("pid")
    return pid if isinstance(pid, int) else None


def _identity(host: str, port: int) -> dict[str, object]:
    answer = page_at(host, port, "/livez")
    try:
        said = json.loads(answer.body) if answer is not None else None
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
