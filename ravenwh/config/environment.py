"""The environment: which variables are set, and what is wrong with their names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import attrs

from ravenwh.config.file import CONFIG_VARIABLE
from ravenwh.config.keys import Key, keys_of, tables
from ravenwh.config.policies import relations
from ravenwh.domain.settings.option import nearest
from ravenwh.domain.settings.toml_text import dotted, toml_text

__all__ = ["Variables", "read_variables", "without_ours"]

_PREFIX = "RAVENWH_"
_FOR_TESTS = "RAVENWH_TEST_"


def without_ours() -> dict[str, str]:
    """The environment of the process but for our settings: for a program that has its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}


@attrs.frozen(kw_only=True)
class Variables:
    """What is set: keys with the values that TOML would hold, and what is wrong, a line each."""

    values: tuple[tuple[Key, object], ...]
    problems: tuple[str, ...]


def read_variables(environ: Mapping[str, str], feeds: Iterable[str]) -> Variables:
    """Every variable that begins with ``RAVENWH_``, but for RAVENWH_CONFIG and RAVENWH_TEST_*.

    Scalars can be set for the sections, for the feeds of these names, and for the policies of any
    table or rollup.
    """
    known = {
        key.in_capitals: key
        for table, section in tables(feeds, relations(environ)).items()
        for key in keys_of(table, section)
    }
    values: list[tuple[Key, object]] = []
    problems: list[str] = []
    for name in sorted(environ):
        if not name.startswith(_PREFIX) or name.startswith(_FOR_TESTS) or name == CONFIG_VARIABLE:
            continue
        key, text = known.get(name), environ[name]
        if key is None:
            problems.append(_unknown(name, known))
        elif key.variable is None:
            problems.append(
                f"{name}: found a variable for an array or a table; allowed: {dotted(key.path)} in "
                "the file"
            )
        elif not text:
            problems.append(
                f"{name}: found nothing in it; allowed: {key.kind.allowed}, or no such variable"
            )
        else:
            values.append((key, key.kind.from_text(text)))
    return Variables(values=tuple(values), problems=tuple(problems))


def _unknown(name: str, known: Mapping[str, Key]) -> str:
    """What to say of a variable that stands for nothing. Its value is not looked at."""
    scalars = {variable.removeprefix(_PREFIX) for variable, key in known.items() if key.variable}
    like = nearest(name.removeprefix(_PREFIX), scalars)
    hint = f" (did you mean {_PREFIX}{like}?)" if like else ""
    shown = name if name.isprintable() else toml_text(name)
    return (
        f"{shown}: found an unknown variable{hint}; allowed: {_PREFIX}<SECTION>_<KEY> for the keys "
        "of ravenwh settings --example"
    )
