"""Loading: file, then environment, then secret files, then every check at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ravenwh.config.environment import read_variables
from ravenwh.config.explain import Explained
from ravenwh.config.file import SettingsFile, find_file, located
from ravenwh.config.keys import Key, keys_of, tables
from ravenwh.config.policies import FITS_THE_MODELS
from ravenwh.config.secret_file import secret_of
from ravenwh.config.source import DEFAULT, Source
from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings import Settings
from ravenwh.domain.settings.kinds import FilePath
from ravenwh.domain.settings.option import REFUSED, Table, options_of
from ravenwh.domain.settings.problem import Problem, Unfit
from ravenwh.domain.settings.toml_text import dotted

__all__ = ["load", "load_explained"]


def load(config: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings: the file ``config`` (or RAVENWH_CONFIG, or ./ravenwh.toml), then ``environ``.

    ``environ`` is the environment of the process unless it is given. Raises one SettingsError with
    everything that is wrong, a line each: the key, where it came from, what was found (secrets
    masked) and what is allowed.
    """
    return load_explained(config, environ).settings


def load_explained(
    config: Path | None = None, environ: Mapping[str, str] | None = None
) -> Explained:
    """As :func:`load`, with where each value came from."""
    given = os.environ if environ is None else environ
    loading = _Loading()
    file = loading.read_file(config, given)
    loading.read_environment(given)
    loading.read_paths(file.path.parent if file else Path())
    settings = loading.finish()
    return Explained(settings=settings, sources=loading.sources, file=file)


@attrs.define(kw_only=True)
class _Loading:
    """One load under way: the values so far, where they came from, and what is wrong so far."""

    tree: dict[str, Any] = attrs.field(factory=dict)
    sources: dict[tuple[str, ...], Source] = attrs.field(factory=dict)
    problems: list[str] = attrs.field(factory=list)

    def read_file(self, config: Path | None, environ: Mapping[str, str]) -> SettingsFile | None:
        try:
            file = find_file(config, environ)
            self.tree = file.read() if file else {}
        except SettingsError as error:
            self.problems += error.problems
            return None
        if self.tree.get("feeds") == {}:
            del self.tree["feeds"]
        for path in _paths(self.tree):
            self.sources[path] = Source(name=dotted(path), file=file.path if file else None)
        return file

    def read_environment(self, environ: Mapping[str, str]) -> None:
        variables = read_variables(environ, self._feeds())
        self.problems += variables.problems
        for key, value in variables.values:
            self._table(key.table)[key.name] = value
            self.sources[key.path] = Source(name=str(key.variable))

    def read_paths(self, base: Path) -> None:
        """Find files and folders from ``base`` (from here, for a variable), read secrets."""
        for table, section in tables(self._feeds()).items():
            values = self._existing(table)
            for key in keys_of(table, section):
                if key.name in values and isinstance(key.kind, FilePath):
                    values[key.name] = self._locate(key, values[key.name], base)
                    if key.in_file:
                        self._read_secret(key, values.pop(key.name), values)

    def finish(self) -> Settings:
        settings = Settings()
        try:
            settings = Table(of=Settings, rules=(FITS_THE_MODELS,)).read(self.tree)
        except Unfit as error:
            self._refuse((), error)
        if self.problems:
            raise SettingsError(self.problems)
        return settings

    def _locate(self, key: Key, value: object, base: Path) -> object:
        """The path that is meant, or REFUSED."""
        if self.sources[key.path].file is None:
            base = Path()
        try:
            return located(key.kind.read(value), base)
        except Unfit as error:
            self._refuse(key.path, error)
        except SettingsError as error:
            self._refuse(key.path, Unfit([Problem(text=str(error))]))
        return REFUSED

    def _read_secret(self, key: Key, path: object, values: dict[str, Any]) -> None:
        """Put the secret of the file, or REFUSED, where the secret itself would stand."""
        name = (*key.table, key.secret)
        if key.secret in values:
            text = (
                f"found a file, and the secret itself in {dotted(name)} ({self.sources[name]}); "
                "allowed: one of them"
            )
            self._refuse(key.path, Unfit([Problem(text=text)]))
            path = REFUSED
        values[key.secret] = REFUSED
        if isinstance(path, Path):
            try:
                values[key.secret] = secret_of(path)
                self.sources[name] = self.sources[key.path]
            except SettingsError as error:
                self._refuse(key.path, Unfit([Problem(text=str(error))]))

    def _feeds(self) -> list[str]:
        feeds = self.tree.get("feeds")
        return list(feeds) if isinstance(feeds, dict) else ["default"]

    def _existing(self, path: tuple[str, ...]) -> dict[str, Any]:
        """The table at ``path``, or an empty one that stands for nothing."""
        table = self.tree
        for name in path:
            table = table.get(name, {})
            if not isinstance(table, dict):
                return {}
        return table

    def _table(self, path: tuple[str, ...]) -> dict[str, Any]:
        """The table at ``path``, made if need be; what stands in its place is told and dropped."""
        table = self.tree
        kind: Any = Table(of=Settings)
        for depth, name in enumerate(path, 1):
            kind = options_of(kind.of)[name].kind if isinstance(kind, Table) else kind.item
            if not isinstance(table.setdefault(name, {}), dict):
                self._refuse(path[:depth], kind.unfit(table[name]))
                table[name] = {}
            table = table[name]
        return table

    def _refuse(self, path: tuple[str, ...], error: Unfit) -> None:
        """One line for each problem, with where the nearest key that was given came from."""
        for part in error.parts:
            full = attrs.evolve(part, path=(*path, *part.path))
            given = full.path
            while given and given not in self.sources:
                given = given[:-1]
            origin = self.sources.get(given, DEFAULT)
            self.problems.append(full.line(origin.beside(dotted(full.path))))


def _paths(tree: Mapping[str, Any], depth: int = 4) -> Iterator[tuple[str, ...]]:
    """The keys of a tree, down to those of the tables that stand by name in one of a section."""
    for name, value in tree.items():
        yield (name,)
        if isinstance(value, Mapping) and depth > 1:
            yield from ((name, *inner) for inner in _paths(value, depth - 1))
