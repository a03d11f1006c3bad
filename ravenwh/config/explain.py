"""The effective settings, a row each, with where they came from and without secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs

from ravenwh.config.file import DEFAULT_FILE, SettingsFile
from ravenwh.config.keys import keys_of, section_by_name, tables
from ravenwh.config.source import DEFAULT, Source
from ravenwh.domain.settings import Secret, Settings
from ravenwh.domain.settings.option import FILE_FORM, Named
from ravenwh.domain.settings.toml_text import dotted, toml_text

__all__ = ["Explained", "Row"]

_WIDEST = 48


@attrs.frozen(kw_only=True)
class Row:
    """One effective setting: ``value`` in the types of TOML, secrets masked; None if not set.

    ``absent`` then says what that means.
    """

    path: tuple[str, ...]
    value: object
    source: Source
    absent: str = ""

    @property
    def key(self) -> str:
        """The key with dots."""
        return dotted(self.path)


@attrs.frozen(kw_only=True)
class Explained:
    """Settings, and for each of their keys that was given, where it came from."""

    settings: Settings
    sources: Mapping[tuple[str, ...], Source] = attrs.field(repr=False)
    file: SettingsFile | None

    def rows(self) -> Iterator[Row]:
        """Every setting, in the order of its declaration."""
        policies = self.settings.timescale.policies
        for table, section in tables(self.settings.feeds, policies).items():
            values: Any = self.settings
            for name in table:
                values = values[name] if isinstance(values, Mapping) else getattr(values, name)
            for key in keys_of(table, section):
                if not key.in_file:
                    yield from self._rows(key.path, key.option, getattr(values, key.name))

    def _rows(self, path: tuple[str, ...], option: Any, value: Any) -> Iterator[Row]:
        source = self.sources.get(path, DEFAULT)
        if value and section_by_name(option.kind):
            return  # the keys of these tables have rows of their own
        if value is None:
            yield Row(path=path, value=None, source=source, absent=option.absent)
        elif isinstance(value, Secret) and value.file is not None:
            path = (*path[:-1], path[-1] + FILE_FORM)
            yield Row(path=path, value=str(value.file), source=source)
        elif isinstance(option.kind, Named) and value:
            for name, inner in value.items():
                plain = option.kind.item.plain(inner)
                source = self.sources.get((*path, name), DEFAULT)
                yield Row(path=(*path, name), value=plain, source=source)
        else:
            yield Row(path=path, value=option.kind.plain(value), source=source)

    def text(self) -> str:
        """TOML for people: a line a key, its source behind it."""
        rows = list(self.rows())
        lines = [_line(row) for row in rows]
        width = min(_WIDEST, max(map(len, lines)))
        head = (
            f"# settings file: {self.file.path} ({self.file.named})"
            if self.file
            else f"# settings file: none, there is no ./{DEFAULT_FILE}"
        )
        body = [f"{line:<{width}}  # {row.source}" for line, row in zip(lines, rows, strict=True)]
        return "\n".join([head, *body])

    def json(self) -> str:
        """A JSON object, by key: value (null if not set) and source."""
        found = {row.key: {"value": row.value, "source": str(row.source)} for row in self.rows()}
        return json.dumps(found, indent=2, default=datetime.isoformat)


def _line(row: Row) -> str:
    if row.value is None:
        return f"# {row.key} is not set: {row.absent}"
    return f"{row.key} = {toml_text(row.value)}"
