"""The page ``docs/reference/settings.md``, written from the declarations.

``python -m ravenwh.config.reference docs/reference/settings.md`` writes it anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

from ravenwh.config.example import key_help, section_help
from ravenwh.config.keys import Key, keys_of, tables
from ravenwh.domain.settings import SymbolEntry
from ravenwh.domain.settings.option import Named
from ravenwh.domain.settings.toml_text import dotted, toml_text

__all__ = ["reference"]

_HEAD = """\
# Settings

Written by `python -m ravenwh.config.reference` from the declarations; change those, not this page.

Settings come from a TOML file, then from the environment:

1. the file is the one of `--config`, else of the variable `RAVENWH_CONFIG`, else `./ravenwh.toml`
   where it exists;
2. a variable `RAVENWH_<SECTION>_<KEY>` comes before the file. Only single values can be given so,
   arrays and tables stand in the file. `RAVENWH_TEST_*` is for tests.

`ravenwh settings` shows what is in effect and where each value came from; `ravenwh settings
--example` prints a file to start from. An unknown key or variable, a wrong type and a value out of
bounds are refused, all of them in one message.

A secret can be given as a file (`token_file` instead of `token`). It is read again each time it is
needed, so that a new one is taken without a restart; line ends after it do not count. Secrets, and
the password in `timescale.url`, are shown as `***` wherever settings are shown.

A relative path starts at the folder of the settings file, or, in a variable, at the working folder;
`~` is the home folder.
"""


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    for table, section in tables(["NAME"], ["NAME"]).items():
        yield f"## `[{'.'.join(table)}]`\n"
        yield f"{_escaped(section_help(table, section))}\n"
        for key in keys_of(table, section):
            yield from _entry(key)
    yield "## An entry of `routing.symbol_map`\n"
    yield f"{_escaped(section_help(('routing',), SymbolEntry))} A lone string is its `symbol`.\n"
    for key in keys_of(("",), SymbolEntry):
        yield from _entry(key)


def _entry(key: Key) -> Iterator[str]:
    declared = key.option
    yield f"### `{'.'.join(filter(None, key.path))}`\n"
    yield f"{_escaped(key_help(key))}\n"
    if declared.default is attrs.NOTHING:
        yield "- must be given"
    elif declared.default is None:
        yield f"- not set by default: {_escaped(declared.absent)}"
    else:
        unit = f" {declared.unit}" if declared.unit else ""
        yield f"- default: `{toml_text(declared.kind.plain(declared.default))}`{unit}"
    yield f"- allowed: {_escaped(key.kind.allowed)}"
    if key.table != ("",):
        yield f"- variable: `{key.variable}`" if key.variable else "- in the file only"
    if declared.example is not None and declared.default and not isinstance(declared.kind, Named):
        yield f"- for example: `{toml_text(declared.example)}`"
    if isinstance(declared.kind, Named):
        yield "- for example:\n"
        yield f"  ```toml\n  [{dotted(key.path)}]"
        for name, value in declared.example.items():
            yield f"  {dotted((name,))} = {toml_text(value)}"
        yield "  ```"
    yield ""


def _escaped(text: str) -> str:
    """Text whose characters mean nothing to Markdown."""
    return re.sub(r"([*<>|`\\])", r"\\\1", text)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
