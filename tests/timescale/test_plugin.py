"""The entry point: Alembic loads it whoever is imported first, and env.run needs it not."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from tests.conftest import ROOT

PROGRAM = """
import {first}
import ravenwh.timescale.env
from alembic import op
from alembic.runtime.plugins import Plugin, _all_plugins
from alembic.util import PriorityDispatcher

assert callable(op.create_hypertable)
ravenwh.timescale.env.configuration("mart", "alembic_version", (), {{}})
ravenwh.timescale.env.configuration("mart", "alembic_version", (), {{}})
found = PriorityDispatcher()
Plugin.populate_autogenerate_priority_dispatch(found, ["ravenwh.timescale"])
print(sum(map(len, found._registry.values())))
"""


@pytest.mark.parametrize(
    "first",
    [
        "alembic",
        "alembic.autogenerate",
        "ravenwh.timescale.ops",
        "ravenwh.timescale.compare",
        "ravenwh.timescale.env",
        "ravenwh.timescale.plugin",
    ],
)
def test_loaded_once_in_any_order(first: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(first=first)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_it_is_found_by_its_entry_point() -> None:
    (found,) = entry_points(group="alembic.plugins", name="ravenwh.timescale")
    assert found.value == "ravenwh.timescale.plugin"


def test_declaring_needs_no_alembic() -> None:
    """Models import the declarations; a notebook that reads does not pay for migrations."""
    program = "import sys, ravenwh.timescale; print('alembic' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
