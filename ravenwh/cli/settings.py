"""``ravenwh settings``: what is in effect and where it came from, or a file to start from."""

from __future__ import annotations

from pathlib import Path

import click

from ravenwh.config import example, load_explained

__all__ = ["command"]

_EPILOG = """\b
Examples:
  ravenwh settings
  ravenwh settings --config /etc/ravenwh.toml
  ravenwh settings --json | jq '."timescale.url"'
  ravenwh settings --example > ravenwh.toml
"""


@click.command("settings", epilog=_EPILOG)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The settings file; else that of RAVENWH_CONFIG, else ./ravenwh.toml.",
)
@click.option("--example", "as_example", is_flag=True, help="Print a commented file instead.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: key, value, source.")
def command(config: Path | None, *, as_example: bool, as_json: bool) -> None:
    """Print the effective settings, and where each value came from.

    The output is TOML; secrets are shown as ***. Exit code 2 if the settings cannot be used: every
    problem is told, a line each.
    """
    if as_example:
        if as_json or config is not None:
            msg = "--example shows the defaults: it goes with neither --json nor --config"
            raise click.UsageError(msg)
        click.echo(example(), nl=False)
        return
    explained = load_explained(config)
    click.echo(explained.json() if as_json else explained.text())
