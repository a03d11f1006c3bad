"""``ravenwh demo`` as a process: of files, stopped amid its work, and what it leaves behind.

The demo of a simulated market is run by the page docs/quickstart.md.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import PATIENCE_S, Programs, ended
from tests.servers import open_folder

OPENED = 1_704_067_200_000


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    """A folder for what is temporary, and settings that the demo must take no notice of."""
    with open_folder() as folder:
        (folder / "tmp").mkdir()
        monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
        monkeypatch.setenv("RAVENWH_TIMESCALE_URL", "postgresql://nobody@127.0.0.1:1/none")
        monkeypatch.setenv("RAVENWH_BARS_FEED", "nowhere")
        yield Programs(folder=folder)
        assert list((folder / "tmp").iterdir()) == []
        until = time.monotonic() + PATIENCE_S  # what was killed takes its time to be gone
        while running := still_running(folder):
            assert time.monotonic() < until, running
            time.sleep(0.05)


def still_running(folder: Path) -> list[str]:
    """The command lines of what runs in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(folder) in command:
            found.append(command)
    return found


async def test_files_of_two_venues_agree_and_hours_are_made_of_minutes(world: Programs) -> None:
    data = world.folder / "data"
    data.mkdir()
    for symbol in ("BTCUSDT", "BTCPERP"):
        rows = (
            f"{at},10,12,9,11,{n + 1}.1,{at + 59_999},38.5,7,1.25,13.75,0\n"
            for n, at in enumerate(range(OPENED, OPENED + 90 * 60_000, 60_000))
        )
        (data / f"{symbol}-1m-2024-01.csv").write_text("".join(rows))
    out, _ = await world.run("ravenwh", "demo", "--data", str(data))
    assert "BTCPERP stands for BTC/USD here" in out
    assert "replay    | sent 90 klines of BTCPERP 1m from 1 file, 0 bad rows" in out
    assert out.splitlines()[-2:] == [
        "sent 180 klines, stored 180, 0 with another value: they agree",
        "they make 4 klines of an hour, stored 4, 0 with another value: they agree",
    ]


async def test_a_folder_without_klines_is_refused(world: Programs) -> None:
    name = "BTCUSDT-trades-2024-01-01.csv"
    (world.folder / name).write_text(f"1,2,3,6,{OPENED},true\n")
    _, err = await world.run("ravenwh", "demo", "--data", str(world.folder / name), code=1)
    assert "holds no kline file of Binance Vision" in err
    assert "Traceback" not in err


async def test_stopped_amid_its_work_it_says_so_and_leaves_nothing(world: Programs) -> None:
    process = await world.start("ravenwh", "demo")
    async with ended(process), asyncio.timeout(PATIENCE_S):
        assert process.stdout is not None
        while b"init " not in (line := await process.stdout.readline()):
            assert line
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
    assert process.returncode == 1
    assert "ENDED_BY_ERROR error='Refused' reason='the demo was stopped before its end'" in (
        err.decode()
    )
