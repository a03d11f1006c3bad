"""Debian's InfluxDB 1.6: a real engine, as whoever runs the tests, on free ports, in a folder."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import attrs

from tests.engines.node import Missing

PATIENCE_S = 60.0
PACKAGE = "influxdb"
"""Debian's package, which brings 1.6 and no later one."""

CONFIGURATION = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
  max-series-per-database = 0
  max-values-per-tag = 0
[monitor]
  store-enabled = false
[subscriber]
  enabled = false
[continuous_queries]
  enabled = false
[retention]
  enabled = false
[http]
  bind-address = "127.0.0.1:{http}"
  log-enabled = false
[logging]
  level = "error"
"""


def find_influxd() -> str:
    """The program. Raises Missing where it is not installed."""
    found = shutil.which("influxd")
    if found is None:
        raise Missing(f"there is no influxd on PATH (Debian, Ubuntu: apt install {PACKAGE})")
    said = subprocess.run([found, "version"], capture_output=True, text=True, check=False).stdout
    if "v1." not in said:
        raise Missing(f"{found} is not version 1: it says {said.strip()!r}")
    return found


@attrs.define(kw_only=True)
class Influxd:
    """A server of its own; it can be stopped, killed and started again on the same data."""

    folder: Path
    http: int
    rpc: int
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.http}"

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = find_influxd()
        file = self.folder / "influxdb.conf"
        file.write_text(CONFIGURATION.format(folder=self.folder, http=self.http, rpc=self.rpc))
        with (self.folder / "influxd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-config", str(file)], stdout=log, stderr=subprocess.STDOUT
            )
        until = time.monotonic() + PATIENCE_S
        while not self.answers():
            assert self._process.poll() is None, (self.folder / "influxd.log").read_text()[-2000:]
            assert time.monotonic() < until, f"influxd does not answer at {self.url}"
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=5) as response:  # noqa: S310
                return bool(response.status == 204)
        except OSError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; SIGKILL leaves it no time to tidy up. Safe to call twice."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE_S)
            self._process = None

    def query(self, text: str, database: str = "") -> list[dict[str, Any]]:
        """The series of a statement's result, times in nanoseconds."""
        asked = urllib.parse.urlencode({"q": text, "db": database, "epoch": "ns"}).encode()
        with urllib.request.urlopen(f"{self.url}/query", asked, timeout=60) as response:  # noqa: S310
            result = json.load(response)["results"][0]
        assert "error" not in result, result["error"]
        series: list[dict[str, Any]] = result.get("series", [])
        return series
