"""Version 2 of InfluxDB's API in front of a version 1, and faults as they are asked for.

What it says is what the source of version 2 says (main-2.x). ``strict``, as version 2 does, a line
that cannot be parsed keeps every line of its request out; ``partial``, as version 1 does, it keeps
out itself alone. ``forward`` passes on to a real version 2 whatever the faults and the tokens here
let through.

    python -m tests.engines.influx_shim URL [strict|partial|forward]
"""

from __future__ import annotations

import gzip
import http.client
import json
import re
import socket
import sys
import threading
import time
import zlib
from collections import deque
from collections.abc import Mapping
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import attrs

Mode = Literal["strict", "partial", "forward"]

ALL = frozenset({"read", "write", "manage"})
SCRATCH = "shim_scratch"
LARGEST = 25_000_000
CODES = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    413: "request too large",
    422: "unprocessable entity",
    429: "too many requests",
    503: "unavailable",
}


@attrs.frozen(kw_only=True)
class Fault:
    """What happens to one write, in place of being done.

    ``status`` 0 closes the connection without an answer; ``raw`` is the body of one that is no
    JSON. ``is_stored`` does the write before. A write waits for ``until``. ``cut_after`` reads so
    many bytes of the body only.
    """

    status: int = 0
    message: str = ""
    raw: bytes | None = None
    headers: Mapping[str, str] = {}
    is_stored: bool = False
    until: threading.Event | None = None
    cut_after: int | None = None


@attrs.frozen(kw_only=True)
class Seen:
    """One write that came: ``body`` as it was before compression, ``at`` seconds of a clock."""

    at: float
    status: int
    body: bytes
    encoding: str
    token: str
    connection: int

    @property
    def lines(self) -> list[bytes]:
        """The lines of the body."""
        return self.body.split(b"\n")


class Behind:
    """A connection to the server behind, made when it is needed, and again when it broke."""

    def __init__(self, netloc: str) -> None:
        self._connection = http.client.HTTPConnection(netloc, timeout=60)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of its answer; 503 where it does not answer."""
        for _ in range(2):
            try:
                if self._connection.sock is None:
                    self._connection.connect()
                    self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connection.request(method, path, body, dict(headers or {}))
                response = self._connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException):
                self._connection.close()
        return 503, b'{"error":"the server behind is away"}'

    def close(self) -> None:
        self._connection.close()


class Shim(ThreadingHTTPServer):
    """Serves in a thread of its own, between ``start`` and ``stop``."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: str, *, mode: Mode = "strict", port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.upstream = urlsplit(upstream)
        self.mode: Mode = mode
        self.tokens: dict[str, frozenset[str]] = {"token": ALL}
        self.faults: deque[Fault] = deque()
        self.seen: list[Seen] = []
        self.keeps_seen = True
        self.errors: list[BaseException] = []
        self.largest = LARGEST
        self._serving: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self) -> None:
        if self.mode == "strict":
            with closing(Behind(self.upstream.netloc)) as behind:
                behind.ask("POST", "/query?" + urlencode({"q": f"CREATE DATABASE {SCRATCH}"}))
        self._serving = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._serving.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        assert self._serving is not None
        self._serving.join()
        if self.errors:
            raise self.errors[0]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may go away, as some tests want it to; of anything else ``stop`` tells."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.errors.append(error)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Shim
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    timeout = 120
    precisions: ClassVar = {"ns": "n", "us": "u", "ms": "ms", "s": "s"}

    def setup(self) -> None:
        super().setup()
        self.behind = Behind(self.server.upstream.netloc)

    def finish(self) -> None:
        self.behind.close()
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing is logged."""

    def answer(
        self,
        status: int,
        body: bytes | dict[str, Any] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        said = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said if status != 204 else b"")
        self.wfile.flush()

    def refuse(self, status: int, message: str) -> int:
        self.answer(status, {"code": CODES.get(status, "internal error"), "message": message})
        return status

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Token ")

    def may(self, right: str) -> bool:
        return right in self.server.tokens.get(self.token, frozenset())

    def do_GET(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.path == "/api/v2/write":
            self.write(query)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.token not in self.server.tokens:
            self.refuse(401, "unauthorized access")
        elif self.server.mode == "forward":
            headers = {k: v for k, v in self.headers.items() if k not in ("Host", "Content-Length")}
            status, said = self.behind.ask(self.command, self.path, body, headers)
            self.answer(status, said)
        elif parts.path == "/query":
            self.query(body)
        elif parts.path == "/api/v2/orgs":
            orgs = [{"id": "0000000000000001", "name": query.get("org")}]
            self.answer(200, {"orgs": orgs if self.may("read") else []})
        elif parts.path == "/api/v2/buckets" and self.command == "GET":
            self.list_bucket(query.get("name", ""))
        elif parts.path == "/api/v2/buckets":
            self.make_bucket(json.loads(body))
        else:
            self.refuse(404, "path not found")

    def write(self, query: Mapping[str, str]) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault is not None and fault.cut_after is not None:
            self.rfile.read(min(length, fault.cut_after))
            self.close_connection = True
            return
        sent = self.rfile.read(length)
        if len(sent) < length:  # the client, or the way to it, broke off
            self.close_connection = True
            return
        encoding = self.headers.get("Content-Encoding", "")
        try:
            body = gzip.decompress(sent) if encoding == "gzip" else sent
        except (OSError, EOFError, zlib.error):
            self.refuse(400, "unable to read data: gzip: invalid header")
            return
        if fault is not None and fault.until is not None:
            fault.until.wait(60)
        if fault is None or fault.is_stored:
            status, message = self.stored(query, sent, body)
        if fault is not None and fault.status == 0:
            self.note(0, body, encoding)
            self.close_connection = True
            return
        headers = fault.headers if fault is not None else {}
        if fault is not None:
            status, message = fault.status, fault.message
        self.note(status, body, encoding)
        if fault is not None and fault.raw is not None:
            self.answer(status, fault.raw, headers)
            return
        said = {"code": CODES.get(status, "internal error"), "message": message}
        self.answer(status, said if status != 204 else b"", headers)

    def note(self, status: int, body: bytes, encoding: str) -> None:
        if self.server.keeps_seen:
            connection = self.client_address[1]
            self.server.seen.append(
                Seen(
                    at=time.monotonic(),
                    status=status,
                    body=body,
                    encoding=encoding,
                    token=self.token,
                    connection=connection,
                )
            )

    def stored(self, query: Mapping[str, str], sent: bytes, body: bytes) -> tuple[int, str]:
        """Status and message of a write that is done, as version 2 says them."""
        headers = {k: v for k, v in self.headers.items() if k.startswith("Content-")}
        headers.pop("Content-Length", None)
        if self.token not in self.server.tokens:
            return 401, "unauthorized access"
        if not self.may("write"):
            return 403, "insufficient permissions for write"
        if len(body) > self.server.largest:
            return 413, "unable to read data: points batch is too large"
        if self.server.mode == "forward":
            headers["Authorization"] = self.headers.get("Authorization", "")
            status, said = self.behind.ask("POST", self.path, sent, headers)
            return status, words_of(said)
        precision = self.precisions.get(query.get("precision", "ns"))
        if precision is None:
            return 400, "invalid precision; valid precision units are ns, us, ms, and s"
        bucket = query.get("bucket", "")
        if self.server.mode == "strict":
            where = f"/write?db={SCRATCH}&precision={precision}"
            status, said = self.behind.ask("POST", where, sent, headers)
            if status == 400 and b"unable to parse" in said:
                return as_v2(status, words_of(said), bucket)
        where = f"/write?db={quote(bucket)}&precision={precision}"
        status, said = self.behind.ask("POST", where, sent, headers)
        return as_v2(status, words_of(said), bucket)

    def query(self, body: bytes) -> None:
        if not self.may("read"):
            self.refuse(403, "insufficient permissions for read")
            return
        headers = {"Content-Type": self.headers.get("Content-Type", "")}
        status, said = self.behind.ask("POST", self.path, body, headers)
        self.answer(status, said)

    def list_bucket(self, name: str) -> None:
        found = []
        if self.may("read"):
            policies = self.ask_v1(f"SHOW RETENTION POLICIES ON {quoted(name)}")
            found = [
                {
                    "id": name,
                    "name": name,
                    "retentionRules": [{"type": "expire", "everySeconds": seconds_of(row[1])}],
                }
                for row in policies
            ]
        if found or not self.may("read"):
            self.answer(200, {"buckets": found})
        else:
            self.refuse(404, f'bucket "{name}" not found')

    def make_bucket(self, wanted: Mapping[str, Any]) -> None:
        if not self.may("manage"):
            self.refuse(401, "write:orgs/0000000000000001/buckets is unauthorized")
            return
        rules = wanted.get("retentionRules") or [{"everySeconds": 0}]
        kept = f"{rules[0]['everySeconds']}s" if rules[0]["everySeconds"] else "INF"
        self.ask_v1(f"CREATE DATABASE {quoted(wanted['name'])} WITH DURATION {kept}")
        self.answer(201, {"id": wanted["name"], "name": wanted["name"]})

    def ask_v1(self, text: str) -> list[list[Any]]:
        """The rows of the first series of a statement's result."""
        path = "/query?" + urlencode({"q": text})
        _, said = self.behind.ask("POST", path)
        series = json.loads(said)["results"][0].get("series", [{}])
        rows: list[list[Any]] = series[0].get("values", [])
        return rows


def quoted(name: str) -> str:
    """A name as InfluxQL has it."""
    return '"' + name.replace('"', '\\"') + '"'


def seconds_of(duration: str) -> int:
    """``720h0m0s`` in seconds."""
    parts = re.findall(r"(\d+)([hms])", duration)
    return sum(int(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in parts)


def words_of(said: bytes) -> str:
    """The message of an error of either version."""
    try:
        found = json.loads(said)
        return str(found.get("message") or found.get("error"))
    except (ValueError, AttributeError):
        return said.decode("utf-8", "replace")


def as_v2(status: int, message: str, bucket: str) -> tuple[int, str]:
    """What version 2 says where version 1 said this."""
    if status == 400 and "unable to parse" in message:
        bare = message.removeprefix("partial write: ")
        return 400, re.sub(r" dropped=\d+$", "", bare)
    if status == 400 and (gone := re.search(r"beyond retention policy dropped=(\d+)", message)):
        what = f"dropped {gone[1]} points outside retention policy of duration 1h0m0s"
        return 422, f"failure writing points to database: partial write: {what}"
    if status == 400 and message.startswith("partial write"):
        return 422, f"failure writing points to database: {message}"
    if status == 404:
        return 404, f'bucket "{bucket}" not found'
    return status, message


if __name__ == "__main__":
    shim = Shim(sys.argv[1], mode=sys.argv[2] if len(sys.argv) > 2 else "strict")  # type: ignore[arg-type]
    shim.keeps_seen = False
    shim.start()
    print(shim.url, flush=True)  # noqa: T201
    threading.Event().wait()
