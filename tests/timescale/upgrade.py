"""``python -m tests.timescale.upgrade FOLDER URL``: upgrades to head, as a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from alembic import command

from tests.timescale.models import market
from tests.timescale.project import Place, Project

if __name__ == "__main__":
    project = Project(folder=Path(sys.argv[1]), place=Place(url=sys.argv[2], level="any"))

    def tell(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    command.upgrade(project.config(market(), tell=tell), "head")
