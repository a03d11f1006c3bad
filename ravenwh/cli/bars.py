"""``ravenwh bars``: the bars of a history."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from ravenwh.app.bars_build import BarsBuilt, BuildRequest, build_bars
from ravenwh.cli.moments import moment
from ravenwh.config import load

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  ravenwh bars build --profile tib_small --venue BINANCE_FUTURES --from-files downloads/BTCUSDT/
  ravenwh bars build --profile tib_small --venue BINANCE_FUTURES --from-influx \\
      --symbol BTCUSDT --from 2024-08-08 --to 2024-08-09
"""


@click.group("bars", epilog="Example: ravenwh bars build --help")
def command() -> None:
    """Bars made of trades that are there already."""


@command.command(epilog=EXAMPLES)
@click.argument(
    "files", nargs=-1, metavar="[FILE]...", type=click.Path(exists=True, path_type=Path)
)
@click.option("--profile", required=True, help="One of bars.profiles in the settings.")
@click.option("--venue", required=True, help="Venue and market, as BINANCE_FUTURES.")
@click.option("--from-files", is_flag=True, help="Make them of the trades in the files.")
@click.option("--from-influx", is_flag=True, help="Make them of the trades in InfluxDB.")
@click.option("--symbol", help="The venue's symbol, or COIN/QUOTE; else the files' names say.")
@click.option(
    "--kind", type=click.Choice(["trades", "aggTrades"]), help="What the files hold; as --symbol."
)
@click.option("--from", "start", type=moment, help="Leave out what is before this time (UTC).")
@click.option("--to", "end", type=moment, help="Leave out this time and what is after it.")
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
def build(
    files: tuple[Path, ...],
    config: Path | None,
    *,
    from_files: bool,
    from_influx: bool,
    **asked: Any,
) -> None:
    """Make the bars of a symbol and profile, in place of those that are there.

    The bars of the series and profile are replaced from the first trade to the last, in one
    transaction: up to where the old ones agree with the new, or all of them. Where bars of another
    chain would be left beside the new ones it is refused, and nothing is changed. It can be ended
    at any time: all of it is there, or nothing.

    FILE are those of Binance Vision (.csv, .zip), in the order of time, or folders of them.
    """
    if from_files == from_influx:
        raise click.UsageError("give --from-files or --from-influx, and one of them only")
    if from_files != bool(files):
        raise click.UsageError("--from-files is of files that you name; --from-influx has none")
    if from_influx and (asked["symbol"] is None or asked["kind"] is not None):
        raise click.UsageError("--from-influx needs --symbol, and has no --kind")
    bad = 0

    def on_bad(label: str, line: int, reason: str) -> None:
        nonlocal bad
        bad += 1
        tqdm.write(f"{label}:{line}: {reason}; skipped", file=sys.stderr)

    with tqdm(unit=" trades", disable=None, file=sys.stderr) as bar:

        def on_progress(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        request = BuildRequest(paths=files, **asked)
        done = asyncio.run(
            build_bars(load(config), request, on_bad=on_bad, on_progress=on_progress)
        )
    for line in lines(request, done, bad):
        click.echo(line)


def lines(request: BuildRequest, done: BarsBuilt, bad: int) -> Iterator[str]:
    """What was built, and what became of the bars that were there."""
    counts, replaced = done.counts, done.replaced
    yield (
        f"{request.venue} {done.symbol} {request.profile}: {done.bars:,} bars of "
        f"{counts['passed']:,} trades, {shown(done.first)} to {shown(done.last)}"
    )
    passed_over = {"bad rows": bad, **{name: counts[name] for name in ("invalid", "duplicate")}}
    if any(passed_over.values()):
        told = ", ".join(f"{name} {count:,}" for name, count in passed_over.items())
        yield f"passed over: {told}"
    if counts["late"]:
        yield f"late trades {counts['late']:,}: they count at the latest time before them"
    if replaced.follows is not None:
        yield (
            f"bars of another chain are before, until {shown(replaced.follows)}: the first bar has "
            "after_gap"
        )
    yield from changes(done)
    if done.opened is not None:
        yield (
            f"the last {done.open_ticks:,} trades, from {shown(done.opened)} on, are in no bar yet"
        )


def changes(done: BarsBuilt) -> Iterator[str]:
    """What became of the bars that were there."""
    replaced = done.replaced
    if not replaced.there:
        yield f"{replaced.written:,} bars written; none was there"
        return
    yield (
        f"of {replaced.there:,} bars that were there {replaced.removed:,} are gone and "
        f"{replaced.kept:,} stay; {replaced.written:,} are new or have changed"
    )
    if replaced.agrees_from is None:
        yield (
            "the old chain and the new one agree nowhere: who goes on with the old one, as a "
            "runner that makes this profile, makes bars of another chain"
        )
    else:
        more = f", and {replaced.after:,} more after the last trade stay" if replaced.after else ""
        yield f"they agree from {shown(replaced.agrees_from)} on{more}"


def shown(at: datetime) -> str:
    """A time, in UTC, to the millisecond."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"
