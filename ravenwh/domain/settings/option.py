"""One declaration a setting: loading, messages, example and reference are derived from it."""

# ruff: noqa: A002  # declarations read best with the word help
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, TypeVar, cast

import attrs

from ravenwh.domain.settings.kinds import Hidden, Kind, Text
from ravenwh.domain.settings.problem import Problem, Unfit
from ravenwh.domain.settings.toml_text import dotted

__all__ = [
    "FILE_FORM",
    "REFUSED",
    "Named",
    "Option",
    "Rule",
    "Section",
    "Table",
    "key_names",
    "nearest",
    "option",
    "optional",
    "options_of",
    "required",
    "unknown_key",
]

T = TypeVar("T")
SectionT = TypeVar("SectionT", bound="Section")

FILE_FORM = "_file"
"""What a secret's key ends with where a file holds it: ``token`` and ``token_file``."""
REFUSED: Final = object()
"""In the place of a value: it was refused already, say nothing more of it."""
_DECLARED = "ravenwh"


@attrs.frozen(kw_only=True)
class Option:
    """What is declared about one setting.

    ``unit`` is empty where the value has none; ``absent`` says what it means that the setting is
    not there, and is empty for settings that always have a value; a ``default`` of attrs.NOTHING
    must be given; ``example`` is a value for the example file where the default shows nothing.
    """

    name: str = ""
    kind: Kind[Any]
    default: Any
    help: str
    unit: str = ""
    absent: str = ""
    example: Any = None


def option(kind: Kind[T], *, default: T, help: str, unit: str = "", example: object = None) -> T:
    """An attrs field that always has a value of its kind."""
    return cast(
        "T", _field(Option(kind=kind, default=default, help=help, unit=unit, example=example))
    )


def optional(
    kind: Kind[T],
    *,
    absent: str,
    help: str,
    unit: str = "",
    example: object = None,
) -> T | None:
    """An attrs field that is None unless it is given."""
    declared = Option(kind=kind, default=None, help=help, unit=unit, absent=absent, example=example)
    return cast("T | None", _field(declared))


def required(kind: Kind[T], *, help: str) -> T:
    """An attrs field that must be given."""
    return cast("T", _field(Option(kind=kind, default=attrs.NOTHING, help=help)))


def _field(declared: Option) -> object:
    return attrs.field(
        default=declared.default,
        converter=attrs.Converter(_read_field, takes_field=True),
        metadata={_DECLARED: declared},
    )


def _read_field(value: object, field: attrs.Attribute[Any]) -> object:
    declared: Option = field.metadata[_DECLARED]
    if value is None and declared.absent:
        return None
    try:
        return declared.kind.read(value)
    except Unfit as error:
        raise Unfit([part.within(field.name) for part in error.parts]) from None


def options_of(section: type[Section]) -> Mapping[str, Option]:
    """What is declared on a class of settings, by name, in order."""
    if section not in _declared:
        _declared[section] = MappingProxyType(
            {
                field.name: attrs.evolve(field.metadata[_DECLARED], name=field.name)
                for field in attrs.fields(section)
            }
        )
    return _declared[section]


_declared: dict[type[Section], Mapping[str, Option]] = {}  # they never change


@attrs.frozen(kw_only=True)
class Rule:
    """What several settings of one section must be to each other.

    ``keys`` are theirs, a dot leading into a section below; ``check`` takes their values in this
    order and gives the problems. It is asked only if all of them are good by themselves; with
    ``partly``, it takes tables with refused values too, as mappings of what is good in them.
    """

    keys: tuple[str, ...]
    check: Callable[..., Iterable[Problem]]
    partly: bool = False


class _Partly(dict[str, object]):
    """A table with refused values: what was good in it, for the rules above it."""


@attrs.frozen(kw_only=True)
class Section:
    """A table of the settings file: the base of every class of settings."""

    RULES: ClassVar[tuple[Rule, ...]] = ()

    def __attrs_post_init__(self) -> None:
        values = {name: getattr(self, name) for name in options_of(type(self))}
        problems = _broken_rules(self.RULES, values)
        if problems:
            raise Unfit(problems)


def _broken_rules(rules: Iterable[Rule], good: Mapping[str, object]) -> list[Problem]:
    problems: list[Problem] = []
    for rule in rules:
        values = [_look_up(good, key.split(".")) for key in rule.keys]
        if any(value is REFUSED for value in values):
            continue
        if rule.partly or not any(isinstance(value, _Partly) for value in values):
            problems += rule.check(*values)
    return problems


def _look_up(values: object, keys: Sequence[str]) -> object:
    for key in keys:
        if isinstance(values, Mapping):
            values = values.get(key, REFUSED)
        else:
            values = getattr(values, key, REFUSED)
    return values


@attrs.frozen(kw_only=True)
class Table(Kind[SectionT], Generic[SectionT]):
    """A table whose keys are those of a class; ``short`` is the key that a lone string is for.

    ``rules`` are further ones than those of the class: what only the reader of the table can ask.
    """

    of: type[SectionT]
    short: str | None = None
    rules: tuple[Rule, ...] = ()
    scalar = False

    @property
    def allowed(self) -> str:
        """Its keys."""
        string = f"a string ({self.short}), or " if self.short else ""
        return f"{string}a table with the keys {', '.join(key_names(self.of))}"

    def read(self, value: object) -> SectionT:
        """An instance of the class; raises Unfit with everything that is wrong inside."""
        if isinstance(value, self.of):
            return value
        if self.short and isinstance(value, str):
            value = {self.short: value}
        if not isinstance(value, Mapping):
            raise self.unfit(value)
        options = options_of(self.of)
        problems = [unknown_key(self.of, str(name)) for name in value if name not in options]
        good: dict[str, object] = {}
        for name, declared in options.items():
            if value.get(name) is REFUSED:
                continue
            if name not in value:
                good[name] = declared.default
                if declared.default is attrs.NOTHING:
                    text = f"found nothing; allowed: {declared.kind.allowed}"
                    problems.append(Problem(path=(name,), text=text))
                continue
            try:
                good[name] = declared.kind.read(value[name])
            except Unfit as error:
                problems += [part.within(name) for part in error.parts]
                if error.good:
                    good[name] = _Partly(error.good)
        problems += _broken_rules((*self.of.RULES, *self.rules), good)
        if problems:
            raise Unfit(problems, good)
        return self.of(**good)

    def plain(self, value: SectionT) -> object:
        """A table of what is there."""
        return {
            name: declared.kind.plain(getattr(value, name))
            for name, declared in options_of(self.of).items()
            if getattr(value, name) is not None
        }

    def unfit(self, value: object) -> Unfit:
        """What stands in the place of the table is not shown: it may be a misplaced secret."""
        return Unfit([Problem(text=f"found {_type_word(value)}; allowed: {self.allowed}")])


@attrs.frozen(kw_only=True)
class Named(Kind[Mapping[str, T]], Generic[T]):
    """A table whose keys are names of the user's choice, all with values of one kind."""

    name: Text
    item: Kind[T]
    scalar = False

    @property
    def allowed(self) -> str:
        """What names and values may be."""
        return f"a table (names: {self.name.allowed}; values: {self.item.allowed})"

    def read(self, value: object) -> Mapping[str, T]:
        """A mapping that cannot be changed, in the order given."""
        if not isinstance(value, Mapping):
            raise self.unfit(value)
        problems: list[Problem] = []
        read: dict[str, Any] = {}
        for name, item in value.items():
            try:
                self.name.read(name)
            except Unfit as error:
                problems += [part.within(str(name)) for part in error.parts]
                continue
            try:
                read[name] = self.item.read(item)
            except Unfit as error:
                problems += [part.within(name) for part in error.parts]
                read[name] = _Partly(error.good)
        if problems:
            raise Unfit(problems, read)
        return MappingProxyType(read)

    def plain(self, value: Mapping[str, T]) -> object:
        """A table."""
        return {name: self.item.plain(item) for name, item in value.items()}

    def unfit(self, value: object) -> Unfit:
        """What stands in the place of the table is not shown: it may be a misplaced secret."""
        return Unfit([Problem(text=f"found {_type_word(value)}; allowed: {self.allowed}")])


def key_names(section: type[Section]) -> list[str]:
    """Every key the file may have for the section, the file forms of its secrets included."""
    names: list[str] = []
    for name, declared in options_of(section).items():
        names.append(name)
        if isinstance(declared.kind, Hidden):
            names.append(name + FILE_FORM)
    return names


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name``, if any is like it at all."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def unknown_key(section: type[Section], name: str) -> Problem:
    """What to say of a key that the section does not have. Its value is not looked at."""
    names = key_names(section)
    like = nearest(name, names)
    hint = f" (did you mean {dotted((like,))}?)" if like else ""
    return Problem(path=(name,), text=f"found an unknown key{hint}; allowed: {', '.join(names)}")


def _type_word(value: object) -> str:
    match value:
        case str():
            return "a string"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case list() | tuple():
            return "an array"
    return "no table"
