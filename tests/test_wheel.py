"""The wheel: what is in it, and that it works away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import attrs
import pytest

import ravenwh
from tests.conftest import ROOT


@attrs.frozen(kw_only=True)
class Installed:
    """An environment with the wheel in it, and a folder that is not the checkout to work in."""

    programs: Path
    workplace: Path

    def run(self, program: str, *arguments: str, url: str | None = None) -> str:
        """What the program printed; it must end well. ``url`` is the database it works on."""
        ours = {n: v for n, v in os.environ.items() if not n.startswith(("RAVENWH_", "PYTHON"))}
        done = subprocess.run(
            [self.programs / program, *arguments],
            cwd=self.workplace,
            env=ours if url is None else ours | {"RAVENWH_TIMESCALE_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without an index."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own, on top of the libraries of this one.

    They come as a mere folder, whose .pth files do not count: so the checkout, which is installed
    here by such a file, is out of reach.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    programs = folder / "venv" / "bin"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = subprocess.run(
        [programs / "python", "-c", where], capture_output=True, text=True, check=True
    ).stdout.strip()
    Path(purelib, "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--python", programs / "python", "install", "--no-deps", "--no-index", wheel],
        capture_output=True,
        check=True,
    )
    workplace = folder / "elsewhere"
    workplace.mkdir()
    return Installed(programs=programs, workplace=workplace)


def test_what_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    roots = {name.partition("/")[0] for name in names}
    (about,) = (root for root in roots if root.endswith(".dist-info"))
    assert roots - {about} == {"migrations", "ravenwh", "runners"}
    assert {
        "migrations/alembic.ini",
        "migrations/env.py",
        "migrations/script.py.mako",
        "ravenwh/py.typed",
        f"{about}/licenses/LICENSE",
    } <= names
    in_checkout = {
        path.relative_to(ROOT).as_posix()
        for package in ("migrations", "ravenwh", "runners")
        for path in (ROOT / package).rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == in_checkout


def test_it_is_found_in_its_own_place(installed: Installed) -> None:
    told = installed.run(
        "python", "-c", "import migrations, ravenwh, runners as r\nprint(migrations, ravenwh, r)"
    )
    assert str(ROOT) not in told
    assert told.count(str(installed.programs.parent)) == 3
    assert installed.run("ravenwh", "--version") == f"ravenwh, version {ravenwh.__version__}\n"


def test_it_migrates_and_seeds_a_database(installed: Installed, database: str) -> None:
    installed.run("ravenwh", "alembic", "upgrade", "head", url=database)
    checked = installed.run("ravenwh", "alembic", "check", url=database)
    assert "No new upgrade operations detected" in checked
    seeded = installed.run("python", "-m", "runners.init", url=database)
    assert "exchange: " in seeded
    installed.run("ravenwh", "alembic", "downgrade", "base", url=database)
