"""A settings file to start from: every key with its default, and what is to be known about it."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from ravenwh.config.file import CONFIG_VARIABLE, DEFAULT_FILE
from ravenwh.config.keys import Key, keys_of, tables
from ravenwh.domain.settings import Settings
from ravenwh.domain.settings.option import Named, Section, options_of
from ravenwh.domain.settings.toml_text import dotted, toml_text

__all__ = ["example", "key_help", "section_help"]

_WIDTH = 96


def example() -> str:
    """A TOML file that loads, and gives the defaults: what has no default is a comment."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from _comment(
        "The settings of ravenwh, with their defaults. The file is the one of --config, else of "
        f"the variable {CONFIG_VARIABLE}, else ./{DEFAULT_FILE}. A variable of the environment, "
        "RAVENWH_<SECTION>_<KEY>, comes before the file. Relative paths start at the folder of "
        "this file, those of a variable at the working folder; ~ is the home folder."
    )
    for table, section in tables(Settings().feeds).items():
        yield ""
        yield from _comment(section_help(table, section))
        yield f"[{dotted(table)}]"
        keys = list(keys_of(table, section))
        for key in sorted(keys, key=lambda key: isinstance(key.option.kind, Named)):
            yield from _named(key) if isinstance(key.option.kind, Named) else _key(key)


def section_help(table: tuple[str, ...], section: type[Section]) -> str:
    """What a section is for: the first line of its class, and for a feed what feeds are."""
    first = (section.__doc__ or "").splitlines()[0]
    return " ".join(filter(None, (options_of(Settings)[table[0]].help, first)))


def key_help(key: Key) -> str:
    """What a key is for."""
    if key.in_file:
        return f"A file with {key.secret} in it, read again each time; in place of {key.secret}."
    return key.option.help


def _comment(text: str) -> Iterator[str]:
    return (f"# {line}" for line in wrap(text, _WIDTH, break_on_hyphens=False))


def _help(key: Key) -> Iterator[str]:
    """What a key is for, then its unit and what is allowed, then what it means without it."""
    declared = key.option
    unit = f"Unit: {declared.unit}. " if declared.unit else ""
    yield from _comment(key_help(key))
    yield from _comment(f"{unit}Allowed: {key.kind.allowed}.")
    if declared.absent:
        yield from _comment(f"Not set: {declared.absent}.")
    elif declared.example is not None and not isinstance(key.kind, Named):
        yield from _comment(f"Example: {toml_text(declared.example)}")


def _key(key: Key) -> Iterator[str]:
    declared = key.option
    yield ""
    yield from _help(key)
    if key.in_file:
        yield f"#{key.name} = {toml_text('/run/secrets/' + '_'.join((*key.table, key.secret)))}"
    elif declared.default is None:
        yield f"#{key.name} = {toml_text(declared.example)}"
    else:
        yield f"{key.name} = {toml_text(declared.kind.plain(declared.default))}"


def _named(key: Key) -> Iterator[str]:
    """A table of the user's own names: empty, with examples as comments."""
    yield ""
    yield from _help(key)
    yield f"[{dotted(key.path)}]"
    for name, value in key.option.example.items():
        yield f"#{dotted((name,))} = {toml_text(value)}"
