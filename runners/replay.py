"""``python -m runners.replay``: files, a simulated market, or stored ticks, as a raven feed."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from ravenwh.app.replay import run_replay
from ravenwh.cli.moments import moment
from ravenwh.cli.terminal import run_until_stopped, started
from ravenwh.domain.errors import Refused
from ravenwh.domain.series import TimeRange
from ravenwh.sources.report import Report
from ravenwh.sources.request import Request
from ravenwh.staging.measurements import MEASUREMENTS

__all__ = ["main"]


def speed(text: str) -> float | None:
    """A factor above 0, or ``max`` (None). Ends with a usage error for anything else."""
    if text == "max":
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise click.BadParameter(f"found {text!r}, allowed are max and numbers above 0, as 1 or 60")
    return factor


EXAMPLES = """\b
Examples:
  python -m runners.replay BTCUSDT-1m-2024-01.zip
  python -m runners.replay --venue BINANCE_FUTURES --speed 60 downloads/um/
  python -m runners.replay --simulate BTCUSDT,ETHUSDT --from 2024-01-01 --to 2024-01-02
  python -m runners.replay --simulate BTCUSDT --kind trades --from 2024-01-01 --to 2024-01-02
  python -m runners.replay --from-influx --venue BINANCE_SPOT --symbol BTCUSDT --from 2024-01-01
"""


@click.command(epilog=EXAMPLES)
@click.argument(
    "files", nargs=-1, metavar="[FILE]...", type=click.Path(exists=True, path_type=Path)
)
@click.option("--venue", default="BINANCE_SPOT", show_default=True, help="Venue and market.")
@click.option("--symbol", help="The venue's symbol; else the file's name says, or all are sent.")
@click.option("--interval", help="The interval of klines; else the file's name says.")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(["klines", "trades", "aggTrades"]),
    multiple=True,
    help="What the files hold, else their names say; or what to invent, klines unless said.",
)
@click.option(
    "--speed",
    type=speed,
    default="max",
    show_default=True,
    help="1 is as it happened, 60 an hour a minute; max does not wait.",
)
@click.option("--from", "start", type=moment, help="Leave out what is before this time (UTC).")
@click.option("--to", "end", type=moment, help="Leave out this time and what is after it.")
@click.option(
    "--simulate", metavar="SYMBOL,...", help="An invented market of --from to --to, not a file."
)
@click.option("--from-influx", is_flag=True, help="Stored ticks of the venue, not a file.")
@click.option(
    "--measurement",
    "measurements",
    type=click.Choice(list(MEASUREMENTS)),
    multiple=True,
    help="Which of them, trades unless said; may be given several times.",
)
@click.option("--seed", default=0, show_default=True, help="Another seed, another market.")
@click.option("--config", type=click.Path(exists=True, path_type=Path), help="Settings file.")
@click.option("--endpoint", help="Bind here; else at the endpoint of the venue's feed.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds to wait for a subscriber.",
)
def main(
    files: tuple[Path, ...],
    start: datetime | None,
    end: datetime | None,
    simulate: str | None,
    measurements: tuple[str, ...],
    config: Path | None,
    endpoint: str | None,
    wait_s: float,
    *,
    from_influx: bool,
    **how: Any,
) -> None:
    """Publish Binance Vision files (.csv, .zip, or folders of them) as a raven feed.

    Sends each kline or trade once, in the order of the files (or, at a speed, of their times),
    after somebody has subscribed. A bad row is told as FILE:LINE and skipped. Stored ticks are sent
    as the messages that they were, in the order of their times.

    Exit codes: 0 all sent; 1 bad rows, a file refused, no such ticks, no subscriber, or stopped
    before the end; 2 wrong usage or settings.
    """
    check(
        files=files,
        simulate=simulate,
        from_influx=from_influx,
        measurements=measurements,
        start=start,
        end=end,
        **how,
    )
    how["kinds"] = tuple(dict.fromkeys(how["kinds"]))
    symbols = tuple(name.strip() for name in (simulate or "").split(",") if name.strip())
    settings = started(config, write=say)
    report: Report | None = None

    async def replay(stop: asyncio.Event) -> None:
        nonlocal report
        with tqdm(unit=" rows", disable=None, file=sys.stderr) as bar:
            report = await run_replay(
                settings,
                Request(
                    paths=files,
                    simulate=symbols,
                    measurements=tuple(dict.fromkeys(measurements)) or ("trades",) * from_influx,
                    span=_span(start, end),
                    **how,
                ),
                stop,
                endpoint=endpoint,
                wait_s=wait_s,
                on_bad=lambda label, line, reason: say(f"{label}:{line}: {reason}; skipped\n"),
                on_progress=_progress_of(bar),
            )

    code = run_until_stopped(replay)
    if report is None:
        sys.exit(code)
    for line in report.lines():
        click.echo(line)
    sys.exit(report.exit_code)


def check(
    *,
    files: tuple[Path, ...],
    simulate: str | None,
    from_influx: bool,
    measurements: tuple[str, ...],
    kinds: tuple[str, ...],
    interval: str | None,
    start: datetime | None,
    end: datetime | None,
    **_: object,
) -> None:
    """Refuse options that do not go together. Raises UsageError."""
    if [bool(files), bool(simulate), from_influx].count(True) != 1:
        raise click.UsageError("give files, --simulate or --from-influx, and one of them only")
    if measurements and not from_influx:
        raise click.UsageError("--measurement is of --from-influx")
    if from_influx and (kinds or interval):
        raise click.UsageError("--kind and --interval are of files; give --measurement")
    if simulate and (start is None or end is None):
        raise click.UsageError("--simulate needs --from and --to")
    try:
        _span(start, end)
    except Refused as error:
        raise click.UsageError(f"--from and --to: {error}") from None


def say(text: str) -> None:
    """Write to standard error without breaking the progress bar."""
    tqdm.write(text, file=sys.stderr, end="")


def _span(start: datetime | None, end: datetime | None) -> TimeRange | None:
    if start is None and end is None:
        return None
    return TimeRange(
        start=start or datetime(1970, 1, 1, tzinfo=UTC),
        end=end or datetime(2262, 1, 1, tzinfo=UTC),
    )


def _progress_of(bar: tqdm[None]) -> Callable[[int, int], None]:
    def progress(done: int, rows: int) -> None:
        bar.total = rows or None
        bar.update(done - bar.n)

    return progress


if __name__ == "__main__":
    main()
