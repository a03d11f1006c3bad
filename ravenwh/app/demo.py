"""``ravenwh demo``: the whole way of klines and bars, in a folder of its own.

``ravenwh up`` runs there as it does in earnest, on an embedded database; then what is stored is
read back and compared with what was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import socket
import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import attrs

from ravenwh.app.agreement import (
    Agreement,
    Rows,
    Sent,
    bars_agree,
    hours_agree,
    hours_in,
    klines_agree,
)
from ravenwh.app.children import Children, Tell
from ravenwh.app.database import Database, database_of, engine_on
from ravenwh.app.instruments import register_of
from ravenwh.app.up import Up, run_up
from ravenwh.config import load, without_ours
from ravenwh.domain.errors import Refused
from ravenwh.domain.register import Register
from ravenwh.domain.series import TimeRange
from ravenwh.domain.settings import Settings
from ravenwh.domain.settings.server import METRICS_OFFSET
from ravenwh.features import parse_profile
from ravenwh.sources.catalog import find_files
from ravenwh.sources.simulator import SimulatedMarket
from ravenwh.warehouse.read import Warehouse

__all__ = ["Demo", "prepared"]

SIMULATED = ("BTCUSDT", "ETHUSDT")
SPAN = TimeRange(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 1, 12, tzinfo=UTC))
PROFILES: Mapping[str, Mapping[str, float]] = {
    "tib_demo": {"expected_ticks": 400},
    "trb_demo": {"expected_ticks": 800},
    "vib_demo": {"expected_ticks": 400, "least_imbalance": 0.06},
    "vpin_demo": {"bucket_volume": 20.0, "buckets": 20},
}
"""The bars that are made of simulated trades."""

CAVEAT = "its numbers are stored as the file has them (BTCPERP: volume in US dollars)"

Replays = Sequence[Sequence[str]]
"""The arguments of each replay, one after the other."""


@attrs.frozen(kw_only=True)
class Demo:
    """A demo that is set up: its settings, its database, which runs, and what is to be sent."""

    config: Path
    settings: Settings
    database: Database
    replays: Replays
    sent: Sent
    children: Children

    async def run(self, stop: asyncio.Event) -> None:
        """Bring everything up, send, and bring it down. Raises Refused where that fails."""
        for arguments in self.replays:
            up = Up(settings=self.settings, config=self.config, replay=arguments, once=True)
            await run_up(up, self.children, stop)
            if stop.is_set():
                raise Refused("the demo was stopped before its end")

    def warehouse(self) -> Warehouse:
        """What is stored, for reading."""
        return Warehouse(self.database.libpq_url, schema=self.settings.timescale.schema)

    async def hours(self) -> Rows:
        """The rows of ``kline_1h``, by coin, quote, exchange and open_time."""
        async with engine_on(self.database, self.settings) as engine:
            return await hours_in(engine)

    def agreements(self, warehouse: Warehouse, hours: Rows) -> list[Agreement]:
        """How what is stored compares with what was sent."""
        found = [klines_agree(warehouse, self.sent), hours_agree(hours, self.sent)]
        if self.sent.trades:
            profiles = self.settings.bars.profiles.items()
            parsed = {name: parse_profile(name, parameters) for name, parameters in profiles}
            found.append(bars_agree(warehouse, self.sent, parsed))
        return found


@contextlib.contextmanager
def prepared(data: Path | None, tell: Tell) -> Iterator[Demo]:
    """A demo of the files of a folder, or of a simulated market; all of it is gone afterwards.

    ``tell`` takes what the programs write. Raises Refused where the files cannot be used.
    """
    with _folder() as folder:
        config = _settings_file(folder, has_bars=data is None)
        settings = load(config, {})
        register = register_of(settings)
        replays, sent = _recorded(data, register) if data else _simulated(register)
        markets = {(series.coin, series.quote, series.exchange) for series in sent.klines}
        for one in register.listings:
            if (one.coin, one.quote, one.exchange) in markets:
                tell("demo", f"{one.symbol} stands for {one.coin}/{one.quote} here; {CAVEAT}")
        with database_of(settings) as database:
            yield Demo(
                config=config,
                settings=settings,
                database=database,
                replays=replays,
                sent=sent,
                children=Children(tell=tell, environment=without_ours()),
            )


def _settings_file(folder: Path, *, has_bars: bool) -> Path:
    """The committed settings, with this run's folders, ports and endpoints."""
    services = [port.service for port in Settings().server.ports() if port.purpose == "control"]
    with contextlib.closing(_free_ports()) as free:
        ports = {f"{service}_port": next(free) for service in services}
    tables: dict[str, Mapping[str, object]] = {
        "embedded": {"data_dir": str(folder / "pg")},
        "journal": {"dir": str(folder / "journal")},
        "feeds.default": _feed(folder / "feed", ports["replay_port"]),
        "server": ports,
        "log": {"level": "ERROR"},
    }
    if has_bars:
        tables["feeds.bars"] = _feed(folder / "bars", ports["make_bars_port"])
        tables["bars"] = {"feed": "bars"}
        tables |= {f"bars.profiles.{name}": values for name, values in PROFILES.items()}
    text = (files("ravenwh.app") / "demo.toml").read_text()
    for name, values in tables.items():
        lines = (f"{key} = {json.dumps(value)}" for key, value in values.items())
        text += "\n".join((f"\n[{name}]", *lines, ""))
    file = folder / "ravenwh.toml"
    file.write_text(text)
    return file


def _feed(socket_file: Path, control_port: int) -> Mapping[str, object]:
    return {"endpoint": f"ipc://{socket_file}", "control": f"tcp://127.0.0.1:{control_port}"}


def _free_ports() -> Generator[int]:
    """Ports that are free, and free at the metrics' distance as well; each is given once.

    None of those that the system gives to outgoing connections: one that is tried before anybody
    answers there might be given the very port that it tries, and so take it.
    """
    with contextlib.ExitStack() as held:
        while True:
            number = random.randrange(10_000, 31_000)  # noqa: S311  no secret
            with contextlib.suppress(OSError):
                for one in (number, number + METRICS_OFFSET):
                    held.enter_context(socket.create_server(("127.0.0.1", one)))
                yield number


def _simulated(register: Register) -> tuple[Replays, Sent]:
    """Half a day of two symbols of an invented market, and the same to compare with."""
    sent = Sent()
    for symbol in SIMULATED:
        market = SimulatedMarket(symbol=symbol)
        sent.note(register, market.klines("1m", SPAN))
        sent.note(register, market.trades(SPAN))
    span = ("--from", SPAN.start.isoformat(), "--to", SPAN.end.isoformat())
    kinds = ("--kind", "klines", "--kind", "trades")
    return [("--simulate", ",".join(SIMULATED), *kinds, *span)], sent


def _recorded(data: Path, register: Register) -> tuple[Replays, Sent]:
    """The kline files of a folder, each at the venue that its symbol is mapped to, else spot."""
    mapped = {listed.symbol: listed.exchange for listed in register.listings}
    found, _ = find_files([data], venue="BINANCE_SPOT")
    by_venue: dict[str, list[str]] = defaultdict(list)
    sent = Sent()
    for file in found:
        if file.kind != "klines":
            continue
        at = attrs.evolve(file, venue=mapped.get(file.symbol, file.venue))
        if str(file.path) not in by_venue[at.venue]:
            by_venue[at.venue].append(str(file.path))
        sent.note(register, at.messages(_refuse_bad))
    if not sent.klines:
        raise Refused(f"{data} holds no kline file of Binance Vision (BTCUSDT-1m-2024-01.zip)")
    return [("--venue", venue, *paths) for venue, paths in by_venue.items()], sent


def _refuse_bad(label: str, line: int, reason: str) -> None:
    raise Refused(f"{label}:{line}: {reason}; the demo takes whole files only")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder that the server's own user can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="ravenwh-demo-"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
