"""``ravenwh demo``: see the whole way of a kline at work."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from ravenwh.app.demo import run_demo

__all__ = ["command"]


@click.command(epilog="Example: ravenwh demo --data downloads/klines/BTCUSDT")
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="A folder of Binance Vision kline files; without it the market is simulated.",
)
@click.pass_context
def command(context: click.Context, data: Path | None) -> None:
    """Database, migrations, runners and a feed in a temporary folder; then read and compare.

    Exit code 0 only if every kline that was sent is stored with the same values, and no other.
    """
    if data is None:
        click.echo("A simulated market: every number below is synthetic.")
    with run_demo(data, click.echo) as outcome:
        names = attrs.astuple(outcome.shown.series)
        click.echo(f"\n>>> wh.klines{names}.pandas()")
        columns = ["open", "high", "low", "close", "volume", "trade_count"]
        click.echo(outcome.shown.pandas()[columns].to_string(max_rows=6))
        verdict = "they agree" if outcome.agrees else "THEY DO NOT AGREE"
        click.echo(
            f"\nsent {outcome.sent:,} klines, stored {outcome.stored:,}, "
            f"{outcome.different:,} with another value: {verdict}"
        )
    context.exit(0 if outcome.agrees else 1)
