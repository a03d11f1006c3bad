"""Our lines before a parser that was written by others: VictoriaMetrics.

It is no server for ticks: it drops a line that it cannot read, and says 204. So it counts.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest

from ravenwh.domain.settings import Influx
from ravenwh.staging.encoder import Encoder
from ravenwh.staging.server import Server
from tests.conftest import skip_or_fail
from tests.programs import free_ports
from tests.servers import open_folder
from tests.staging.test_round_trip import BASES, hostile

PROGRAM = "victoria-metrics"
"""As Debian calls the program and the package."""
PATIENCE_S = 60.0


@pytest.fixture
def victoria() -> Iterator[str]:
    """The URL of a server of its own; RAVENWH_TEST_REQUIRE calls it victoria."""
    program = shutil.which(PROGRAM)
    if program is None:
        skip_or_fail("victoria", f"there is no {PROGRAM} on PATH (Debian: apt install {PROGRAM})")
    with open_folder() as folder, closing(free_ports()) as ports:
        address = f"127.0.0.1:{next(ports)}"
        ports.close()  # it is the server's now
        command = [str(program), "-storageDataPath", str(folder), "-httpListenAddr", address]
        command += ["-retentionPeriod", "100y", "-memory.allowedBytes", "64MiB"]
        with subprocess.Popen([*command, "-loggerLevel", "FATAL"]) as process:
            try:
                yield f"http://{address}"
            finally:
                process.terminate()


def unreadable(url: str) -> int:
    """How many lines it could not read so far; none before it is up."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as response:  # noqa: S310
            page = response.read().decode()
    except OSError:
        return 0
    found = re.search(r'^vm_rows_invalid_total\{type="influx"\} (\d+)$', page, re.MULTILINE)
    return int(found[1]) if found else 0


def test_it_can_read_every_line(victoria: str) -> None:
    """All but the last, which is no point: where that is counted, all before it are, too."""
    until = time.monotonic() + PATIENCE_S
    with closing(Server(settings=Influx(url=victoria))) as server:
        while server.ask("GET", "/health", {}).status != 200:
            assert time.monotonic() < until
            time.sleep(0.02)
        for batch in (BASES, hostile(1), hostile(2)):
            lines = Encoder().encode(batch).lines
            assert len(lines) >= len(BASES)
            assert server.write("\n".join(lines).encode()).status == 204
        assert server.write(b"trades,exchange=V price 1").status == 204
        while unreadable(victoria) == 0:
            assert time.monotonic() < until
            time.sleep(0.1)
    assert unreadable(victoria) == 1
