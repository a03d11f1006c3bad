"""A release after this one: the mart's migrations, and one more that changes what is written to.

``python -m tests.migrations.successor FOLDER URL`` upgrades to it, as a process of its own, and
prints what a user is told; with ``--down`` it goes back.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import attrs
import sqlalchemy as sa

from ravenwh.schema import HOME_SCHEMA, KLINES, ROLLUPS, Base
from ravenwh.timescale import copy_metadata, declarations_of
from tests.conftest import ROOT
from tests.timescale.project import Place, Project


def models() -> sa.MetaData:
    """A column more on the fact of klines, other chunks, and a column more in a rollup of it."""
    changed = copy_metadata(Base.metadata, HOME_SCHEMA)
    fact, rollup = (HOME_SCHEMA, KLINES.name), (HOME_SCHEMA, ROLLUPS["1h"].name)
    changed.tables[".".join(fact)].append_column(sa.Column("spread", sa.Double))
    declared = declarations_of(changed)
    declared.hypertables[fact] = attrs.evolve(declared.hypertables[fact], chunk="3 days")
    before = declared.aggregates[rollup]
    declared.relations[rollup] = attrs.evolve(
        before,
        definition=with_mean(before.definition),
        fallback=with_mean(before.fallback),
    )
    return changed


def with_mean(select: str) -> str:
    return select.replace(" FROM ", ", avg(k.close) AS mean_close FROM ", 1)


def project(folder: Path, url: str) -> Project:
    """Alembic's commands on a mart that may get the next release; without it there so far."""
    made = Project(folder=folder, place=Place(url=url, level="any", schema=HOME_SCHEMA))
    for file in (ROOT / "migrations" / "versions").glob("*.py"):
        shutil.copy(file, folder / "versions")
    return made


def main() -> None:
    """Upgrade, or go back."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("url")
    parser.add_argument("--down", action="store_true")
    parser.add_argument("--lock-timeout-s", type=float, default=1.0)
    options = parser.parse_args()
    release = project(options.folder, options.url)
    run = {"tell": tell, "lock_timeout_s": options.lock_timeout_s}
    if options.down:
        release.downgrade(models(), **run)
    else:
        release.upgrade(models(), **run)


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
