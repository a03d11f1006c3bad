"""``ravenwh demo``: the whole way of a kline, with real processes, in a folder of its own.

An embedded database, the migrations, ``runners.init``, ``runners.kline`` and ``runners.replay`` as
they run in earnest; then what is stored is read back and compared with what was sent.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import attrs

from ravenwh.app.database import database_of
from ravenwh.app.instruments import register_of
from ravenwh.config import load, without_ours
from ravenwh.domain.errors import Refused
from ravenwh.domain.messages import Candle
from ravenwh.domain.register import Register
from ravenwh.domain.series import Series, TimeRange, to_ns
from ravenwh.domain.settings import Settings
from ravenwh.domain.settings.server import METRICS_OFFSET
from ravenwh.sources.catalog import find_files
from ravenwh.sources.simulator import SimulatedMarket
from ravenwh.warehouse.frames import Frames
from ravenwh.warehouse.read import Warehouse

__all__ = ["Outcome", "run_demo"]

SIMULATED = ("BTCUSDT", "ETHUSDT")
SPAN = TimeRange(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 8, tzinfo=UTC))
CAVEAT = "its numbers are stored as the file has them (BTCPERP: volume in US dollars)"

STEP_S = 3600.0
"""The longest that one step may take; months of files take minutes."""

Sent = dict[Series, dict[int, Candle]]
"""What is sent, a series: klines by open_time."""


@attrs.frozen(kw_only=True)
class Outcome:
    """What a demo ends with: a frame to look at, and how what is stored compares with it."""

    shown: Frames
    sent: int
    stored: int
    different: int

    @property
    def agrees(self) -> bool:
        """Whether every kline that was sent is stored, with its values, and no other."""
        return self.sent == self.stored and self.different == 0


@contextlib.contextmanager
def run_demo(data: Path | None, tell: Callable[[str], object]) -> Iterator[Outcome]:
    """Run it; the database lives as long as the block. Raises Refused where a step failed."""
    with _folder() as folder:
        config = _settings_file(folder)
        settings = load(config, {})
        register = register_of(settings)
        replays, sent = _recorded(data, register) if data else _simulated(register)
        tell(f"1. a PostgreSQL of its own, in {folder}")
        with database_of(settings) as database:
            programs = _Programs(config=config)
            tell("2. alembic upgrade head")
            programs.run("ravenwh", "alembic", "upgrade", "head")
            tell("3. runners.init")
            programs.run("runners.init")
            tell("4. runners.kline, and runners.replay as its feed")
            for listed in register.listings if data else ():
                tell(f"   {listed.symbol} stands for {listed.coin}/{listed.quote} here; {CAVEAT}")
            with programs.running("runners.kline"):
                for arguments in replays:
                    for line in programs.run("runners.replay", *arguments).splitlines():
                        tell(f"   {line}")
            tell("5. what is stored against what was sent")
            with Warehouse(database.libpq_url, schema=settings.timescale.schema) as warehouse:
                yield _compared(warehouse, sent)


def _settings_file(folder: Path) -> Path:
    """The committed settings, with this run's folders, ports and endpoint."""
    tables: dict[str, dict[str, str | int]] = {
        "embedded": {"data_dir": str(folder / "pg")},
        "journal": {"dir": str(folder / "journal")},
        "feeds.default": {"endpoint": f"ipc://{folder}/feed"},
        "server": {
            port.key.partition(".")[2]: number
            for port, number in zip(
                (p for p in Settings().server.ports() if p.purpose == "control"),
                _free_ports(),
                strict=False,
            )
        },
        "log": {"level": "ERROR"},
    }
    text = (files("ravenwh.app") / "demo.toml").read_text()
    for name, values in tables.items():
        lines = (f"{key} = {json.dumps(value)}" for key, value in values.items())
        text += "\n".join((f"\n[{name}]", *lines, ""))
    file = folder / "ravenwh.toml"
    file.write_text(text)
    return file


def _free_ports() -> Iterator[int]:
    """Ports that are free, and free at the metrics' distance as well; each is given once."""
    with contextlib.ExitStack() as held:
        while True:
            one = held.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = one.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                held.enter_context(socket.create_server(("127.0.0.1", port + METRICS_OFFSET)))
                yield port


@attrs.frozen(kw_only=True)
class _Programs:
    """Runs our own programs with the settings file, and none of the caller's settings."""

    config: Path

    def _command(self, module: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", module, *arguments]

    def _environment(self) -> dict[str, str]:
        return without_ours() | {"RAVENWH_CONFIG": str(self.config)}

    def run(self, module: str, *arguments: str) -> str:
        """Run one to its end; what it printed."""
        try:
            done = subprocess.run(  # noqa: S603  our own program
                self._command(module, *arguments),
                env=self._environment(),
                capture_output=True,
                text=True,
                timeout=STEP_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Refused(f"{module} did not end within {STEP_S:g} s") from error
        if done.returncode != 0:
            raise Refused(f"{module} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def running(self, module: str) -> Iterator[None]:
        """Have one run during the block; then ask it to stop, as an operator would."""
        process = subprocess.Popen(  # noqa: S603  our own program
            self._command(module), env=self._environment()
        )
        try:
            yield
            process.send_signal(signal.SIGTERM)
            code = process.wait(STEP_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if code != 0:
            raise Refused(f"{module} ended with {code}")


def _simulated(register: Register) -> tuple[list[list[str]], Sent]:
    """Two symbols of an invented market, and the same klines to compare with."""
    sent: Sent = defaultdict(dict)
    for symbol in SIMULATED:
        for candle in SimulatedMarket(symbol=symbol).klines("1m", SPAN):
            _note(sent, register, candle)
    span = ["--from", SPAN.start.isoformat(), "--to", SPAN.end.isoformat()]
    return [["--simulate", ",".join(SIMULATED), *span]], sent


def _recorded(data: Path, register: Register) -> tuple[list[list[str]], Sent]:
    """The kline files of a folder, each at the venue that its symbol is mapped to, else spot."""
    mapped = {listed.symbol: listed.exchange for listed in register.listings}
    found, _ = find_files([data], venue="BINANCE_SPOT", kind=None)
    by_venue: dict[str, list[str]] = defaultdict(list)
    sent: Sent = defaultdict(dict)
    for file in found:
        if file.kind != "klines":
            continue
        at = attrs.evolve(file, venue=mapped.get(file.symbol, file.venue))
        if str(file.path) not in by_venue[at.venue]:
            by_venue[at.venue].append(str(file.path))
        for candle in at.messages(_refuse_bad):
            if isinstance(candle, Candle):
                _note(sent, register, candle)
    if not sent:
        raise Refused(f"{data} holds no kline file of Binance Vision (BTCUSDT-1m-2024-01.zip)")
    return [["--venue", venue, *paths] for venue, paths in by_venue.items()], sent


def _refuse_bad(label: str, line: int, reason: str) -> None:
    raise Refused(f"{label}:{line}: {reason}; the demo takes whole files only")


def _note(sent: Sent, register: Register, candle: Candle) -> None:
    instrument = register.series_instrument(candle.venue, candle.symbol, candle.open_time)
    series = Series(
        coin=instrument.coin,
        quote=instrument.quote,
        exchange=instrument.exchange,
        interval=candle.interval,
    )
    sent[series][candle.open_time] = candle


COMPARED = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trade_count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)


def _compared(warehouse: Warehouse, sent: Sent) -> Outcome:
    """Every value of every kline, as sent and as stored."""
    stored = different = 0
    for series, klines in sent.items():
        rows = _frames(warehouse, series).arrow().to_pylist()
        stored += len(rows)
        for row in rows:
            candle = klines.get(to_ns(row["open_time"]))
            if candle is None or any(row[n] != getattr(candle, n) for n in COMPARED):
                different += 1
    return Outcome(
        shown=_frames(warehouse, next(iter(sent))),
        sent=sum(map(len, sent.values())),
        stored=stored,
        different=different,
    )


def _frames(warehouse: Warehouse, series: Series) -> Frames:
    return warehouse.klines(series.coin, series.quote, series.exchange, series.interval, raw=True)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder that the server's own user can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="ravenwh-demo-"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
