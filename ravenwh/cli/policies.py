"""``ravenwh policies``: what TimescaleDB does by itself to the mart, shown and written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs
import click

from ravenwh.app.policies import PolicyReport, apply_policies, policy_report
from ravenwh.config import load
from ravenwh.timescale.status import PolicyState

__all__ = ["command"]

HEAD = ("relation", "policy", "wanted", "in the database", "last run", "next run", "failed")


@click.group("policies", epilog="Example: ravenwh policies show")
def command() -> None:
    """What TimescaleDB does by itself: refresh rollups, store by column, drop old rows.

    The times are declared on the models; [timescale.policies.NAME] of the settings may give others.
    """


@command.command(
    epilog="Example: ravenwh policies show --json | jq '.policies[] | select(.differs)'"
)
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def show(context: click.Context, config: Path | None, as_json: bool) -> None:
    """Print every policy: as it is wanted, as it is in the database, and how its job runs.

    Exit code 1 if the database has other policies than the models and the settings say:
    `ravenwh policies apply` writes them.
    """
    report = asyncio.run(policy_report(load(config)))
    if as_json:
        found = {
            "missing": report.missing,
            "policies": [attrs.asdict(state) for state in report.states],
        }
        click.echo(json.dumps(found, indent=2, default=datetime.isoformat))
    else:
        for line in told(report):
            click.echo(line)
    context.exit(1 if report.differing else 0)


@command.command(epilog="Example: ravenwh policies apply")
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
def apply(config: Path | None) -> None:
    """Write the policies that differ, a line each. Their jobs start anew; no row is touched now.

    Without TimescaleDB there are none, which is told and no failure.
    """
    report = asyncio.run(apply_policies(load(config)))
    if report.missing is not None:
        click.echo(without(report.missing))
    elif not report.differing:
        click.echo("the policies are as the models and the settings say")
    for state in report.differing:
        click.echo(state.change)


def told(report: PolicyReport) -> Iterator[str]:
    """The report in lines for people; times are UTC."""
    if report.missing is not None:
        yield without(report.missing)
    rows = [HEAD, *(row(state) for state in report.states)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        line = zip(cells, widths, strict=True)
        yield "  ".join(cell.ljust(width) for cell, width in line).rstrip()


def without(reason: str) -> str:
    """The line about a mart that can have no policies."""
    return f"there are no policies here: {reason}"


def row(state: PolicyState) -> tuple[str, ...]:
    """The cells of one policy."""
    of_settings = " (settings)" if state.wanted != state.declared else ""
    there = f"differs: {state.found or 'none'}" if state.differs else "as wanted"
    return (
        state.relation,
        state.policy,
        (state.wanted or "none") + of_settings,
        "-" if state.found is None and not state.differs else there,
        when(state.last_run),
        when(state.next_run),
        f"{state.failures} of {state.runs}" if state.runs else "-",
    )


def when(time: datetime | None) -> str:
    """A time for people."""
    return "-" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"
