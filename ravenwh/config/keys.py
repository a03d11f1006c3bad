"""Every key that a settings file may have, with its variable; derived from the declarations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from ravenwh.domain.settings import Settings
from ravenwh.domain.settings.kinds import FilePath, Hidden, Kind
from ravenwh.domain.settings.option import FILE_FORM, Named, Option, Section, Table, options_of

__all__ = ["SECRET_PATH", "Key", "keys_of", "section_by_name", "tables"]

SECRET_PATH = FilePath(rule="the path of a file that holds the secret")
"""What the file form of every secret may be."""


@attrs.frozen(kw_only=True)
class Key:
    """One key: its table, its name there, and what is declared about its value.

    ``in_file`` is true for the file form of a secret (``token_file``), whose declaration is the
    secret's.
    """

    table: tuple[str, ...]
    name: str
    option: Option
    in_file: bool = False

    @property
    def path(self) -> tuple[str, ...]:
        """The key in its parts."""
        return (*self.table, self.name)

    @property
    def kind(self) -> Kind[Any]:
        """What its value may be."""
        return SECRET_PATH if self.in_file else self.option.kind

    @property
    def secret(self) -> str:
        """The name without the ending that makes it the file form."""
        return self.name.removesuffix(FILE_FORM) if self.in_file else self.name

    @property
    def variable(self) -> str | None:
        """The variable of the environment, or None for what only the file can hold."""
        return self.in_capitals if self.kind.scalar else None

    @property
    def in_capitals(self) -> str:
        """The name its variable has, or would have."""
        return "_".join(("RAVENWH", *self.path)).upper()


def tables(
    feeds: Iterable[str], policies: Iterable[str] = ()
) -> dict[tuple[str, ...], type[Section]]:
    """Every table with declared keys, by its path.

    They are the sections, one for each feed, and one for each table or rollup that is given
    ``policies``.
    """
    found: dict[tuple[str, ...], type[Section]] = {}
    for name, declared in options_of(Settings).items():
        if isinstance(declared.kind, Table):
            section: type[Section] = declared.kind.of
            found[(name,)] = section
            for key, below in options_of(section).items():
                if inner := section_by_name(below.kind):
                    found |= {(name, key, one): inner for one in policies}
        elif inner := section_by_name(declared.kind):
            found |= {(name, one): inner for one in feeds}
    return found


def section_by_name(kind: Kind[Any]) -> type[Section] | None:
    """The class of the tables in a table of names, where its values are such tables."""
    match kind:
        case Named(item=Table(of=section)):
            return section
    return None


def keys_of(table: tuple[str, ...], section: type[Section]) -> Iterator[Key]:
    """The keys of one table, in order; a secret's file form comes after the secret."""
    for name, declared in options_of(section).items():
        yield Key(table=table, name=name, option=declared)
        if isinstance(declared.kind, Hidden):
            yield Key(table=table, name=name + FILE_FORM, option=declared, in_file=True)
