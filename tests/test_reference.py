"""The reference names everything that users can meet, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module

import ravenwh
from ravenwh import timescale
from ravenwh.cli import COMMANDS
from tests.conftest import ROOT
from tests.test_house import sources

LEVELS = {"debug", "error", "exception", "info", "log", "success", "trace", "warning"}
EVENT = re.compile("[A-Z]+(_[A-Z]+)+|[A-Z]{4,}")


def test_the_reference_has_every_command() -> None:
    headings = set(re.findall(r"^## (.+)$", page_text("reference/cli.md"), re.MULTILINE))
    runners = {path.stem for path in (ROOT / "runners").glob("[!_]*.py")}
    assert headings == {
        *(f"ravenwh {name}" for name in COMMANDS),
        *(f"python -m runners.{name}" for name in runners),
    }


def test_the_reference_has_every_public_name() -> None:
    listed = re.findall(r":: ravenwh\.(\w+)$", page_text("reference/api.md"), re.MULTILINE)
    assert sorted(listed) == sorted(set(ravenwh.__all__) - {"__version__"})


def test_the_reference_has_every_public_name_of_timescale() -> None:
    """And the functions that are called by the name of their module."""
    listed = re.findall(
        r":: ravenwh\.timescale\.([\w.]+)$", page_text("reference/api.md"), re.MULTILINE
    )
    assert sorted(name for name in listed if "." not in name) == sorted(timescale.__all__)
    for module, _, name in (name.partition(".") for name in listed if "." in name):
        assert name in import_module(f"ravenwh.timescale.{module}").__all__


def test_the_reference_has_every_log_event() -> None:
    listed = re.findall(r"`([A-Z][A-Z_]+)`", page_text("reference/log-events.md"))
    used = {event for tree in sources().values() for event in log_events(tree)}
    assert sorted(listed) == sorted(used)


def log_events(tree: ast.Module) -> Iterator[str]:
    """The names that a module logs: what is written in the call, or in the function around it."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in ast.walk(function):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            if call.func.attr in LEVELS and call.args:
                found = event_names(call.args[-1])
                is_kept_in_a_name = isinstance(call.args[-1], ast.Name)
                yield from event_names(function) if is_kept_in_a_name else found


def event_names(node: ast.AST) -> set[str]:
    texts = (inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant))
    return {text for text in texts if isinstance(text, str) and EVENT.fullmatch(text)}


def page_text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")
