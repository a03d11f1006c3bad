"""One InfluxDB over HTTP: requests, and what is answered.

Straight through urllib3, which the client of InfluxData uses as well: that client takes eight times
as long to import and 31 MB more, does not tell 200 from 204, and fails on an error that is no
UTF-8; ``docs/benchmarks.md`` has the figures.
"""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode

import attrs
import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from ravenwh.domain.errors import Unavailable
from ravenwh.domain.settings import Influx
from ravenwh.staging.answers import Answer

__all__ = ["Server", "answer_of", "failed"]

LONGEST_WAIT_S = 600.0
"""The most that a server's wish to be left alone is followed."""

UNREADABLE_WAIT_S = 10.0
"""How long it is left alone where nobody can read how long it wants to be."""

LARGEST_ANSWER = 4 << 20
"""Bytes of an answer that are read: an error that names every line of a request is shorter."""


@attrs.frozen(kw_only=True)
class Server:
    """The InfluxDB of the settings. Blocks; of two calls at a time each has its own connection.

    The token is asked for at each request, so that one that was changed in its file is seen; what
    that raises passes through (Unavailable). ``timeout_s`` is for a connection and for each wait
    for an answer.
    """

    settings: Influx
    timeout_s: float = 10.0
    _pool: urllib3.PoolManager = attrs.field(init=False, repr=False)

    @_pool.default
    def _make_pool(self) -> urllib3.PoolManager:
        return urllib3.PoolManager(maxsize=2, retries=False, timeout=self.timeout_s)

    def write(self, body: bytes) -> Answer:
        """Lines of line protocol into the bucket; their times are nanoseconds."""
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self.settings.compression == "gzip":
            squeezer = zlib.compressobj(level=1, wbits=zlib.MAX_WBITS | 16)
            body = squeezer.compress(body) + squeezer.flush()
            headers["Content-Encoding"] = "gzip"
        query = {"org": self.settings.org, "bucket": self.settings.bucket, "precision": "ns"}
        return self.ask("POST", "/api/v2/write", query, body=body, headers=headers)

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Any other request; the message of the answer is its body, or what an error says."""
        try:
            with self.asked(method, path, query, body=body, headers=headers) as response:
                return answer_of(response)
        except (HTTPError, OSError) as error:
            return failed(error)

    @contextmanager
    def asked(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """The response to a request, unread. Raises urllib3's HTTPError, and OSError."""
        response = self._pool.request(
            method,
            f"{self.settings.url.rstrip('/')}{path}?{urlencode(query)}",
            body=body,
            headers=self._credentials() | dict(headers or {}),
            preload_content=False,
            redirect=False,
        )
        try:
            yield response
        finally:
            response.close()  # where all of it was read, the connection is kept

    def _credentials(self) -> dict[str, str]:
        secret = self.settings.token
        if secret is None:
            return {}
        token = secret.reveal()
        if re.fullmatch("[!-~]+", token) is None:
            raise Unavailable(
                f"the token in {secret.file}: found ***; allowed: visible ASCII characters "
                "without blanks",
                needs_person=True,
            )
        return {"Authorization": f"Token {token}"}

    def close(self) -> None:
        """Give the connections back. Safe to call twice."""
        self._pool.clear()

    def __str__(self) -> str:
        return f"InfluxDB at {self.settings.url}"


def answer_of(response: urllib3.BaseHTTPResponse) -> Answer:
    """The answer that a response is."""
    said = response.read(LARGEST_ANSWER, decode_content=True)
    return Answer(
        status=response.status,
        message=_message(said.decode("utf-8", "replace"), response.status),
        retry_after_s=_wait_s(response.headers.get("Retry-After")),
    )


def failed(error: Exception) -> Answer:
    """What it means that no answer came."""
    told = f"{type(error).__name__}: {error}"
    return Answer(
        status=0, message=told, is_insecure=isinstance(error, SSLError | LocationValueError)
    )


def _message(text: str, status: int) -> str:
    """What an error says in words, of v2 or v1; the whole body of everything else."""
    if status < 400:
        return text
    try:
        said = json.loads(text)
        return str(said.get("message") or said.get("error") or text)
    except (ValueError, AttributeError):
        return text


def _wait_s(asked: str | None) -> float | None:
    """Retry-After in seconds: of a number, or of a date (RFC 9110, 10.2.3)."""
    if asked is None:
        return None
    try:
        wait = float(asked)
    except ValueError:
        try:
            wait = parsedate_to_datetime(asked).timestamp() - time.time()
        except ValueError:
            wait = UNREADABLE_WAIT_S
    return min(wait, LONGEST_WAIT_S) if wait > 0 else 0.0
