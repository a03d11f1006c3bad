"""``ravenwh demo``: see the whole way of klines and bars at work."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import attrs
import click

from ravenwh.app.agreement import Row, Rows, Sent
from ravenwh.app.demo import prepared
from ravenwh.cli.terminal import run_until_stopped
from ravenwh.cli.up import say
from ravenwh.domain.frames import Frames
from ravenwh.domain.ohlc import PRICES
from ravenwh.warehouse.read import Warehouse

__all__ = ["command"]


@click.command(epilog="Example: ravenwh demo --data downloads/klines/BTCUSDT")
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="A folder of Binance Vision kline files; without it the market is simulated.",
)
def command(data: Path | None) -> None:
    """Run ``ravenwh up`` on a database in a temporary folder; then read and compare.

    Klines and trades are sent; klines, their rollups and the bars made of the trades are stored.

    Exit code 0 only if all of these are there with the values that they must have, and no other.
    """
    if data is None:
        click.echo("A simulated market: every number below is synthetic.")
    with prepared(data, say) as demo:
        if code := run_until_stopped(demo.run, at_once=demo.children.kill):
            sys.exit(code)
        hours = asyncio.run(demo.hours())
        with demo.warehouse() as warehouse:
            show(demo.sent, warehouse, hours)
            agreements = demo.agreements(warehouse, hours)
    click.echo()
    for agreement in agreements:
        click.echo(agreement)
    sys.exit(0 if all(agreement.holds for agreement in agreements) else 1)


def show(sent: Sent, warehouse: Warehouse, hours: Rows) -> None:
    """Some of what is stored of the first series, and how it is read."""
    names = attrs.astuple(next(iter(sent.klines)))
    market = names[:3]
    show_frame(f"wh.klines{names}", warehouse.klines(*names, raw=True), "volume", "trade_count")
    show_hours([row for key, row in hours.items() if key[:3] == market], *market)
    if market in sent.trades:
        asked = ("tick_imbalance", *market, "tib_demo")
        show_frame(f"wh.bars{asked}", warehouse.bars(*asked), "total_ticks", "theta")


def show_hours(rows: list[Row], coin: str, quote: str, exchange: str) -> None:
    """The first rows of the rollup."""
    columns = (*PRICES, "volume", "trade_count", "base_rows")
    click.echo(
        f"\nSELECT open_time, {', '.join(columns)} FROM mart.kline_1h\n"
        f"WHERE coin = '{coin}' AND quote = '{quote}' AND exchange = '{exchange}'\n"
        "ORDER BY open_time LIMIT 3"
    )
    for row in rows[:3]:
        values = ("null" if row[name] is None else f"{row[name]:,.8g}" for name in columns)
        click.echo(f"{row['open_time']}{''.join(value.rjust(15) for value in values)}")


def show_frame(asked: str, frames: Frames, *columns: str) -> None:
    """The first and the last rows."""
    click.echo(f"\n>>> {asked}.pandas()")
    click.echo(frames.pandas()[[*PRICES, *columns]].to_string(max_rows=4))
