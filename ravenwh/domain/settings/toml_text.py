"""Values as TOML writes them, on one line: for messages, for examples and for what is set."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time

__all__ = ["dotted", "toml_text"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_NOT_IN_A_STRING = re.compile("[\x7f\ud800-\udfff]")

_LONG = 1_000_000  # from here on, digits are grouped


def dotted(path: Sequence[str]) -> str:
    """The key with dots between its parts, quoted where TOML asks for it."""
    return ".".join(part if _BARE.fullmatch(part) else _string(part) for part in path)


def toml_text(value: object) -> str:
    """One line that TOML reads as ``value``.

    Lone surrogates (bytes that are no UTF-8, in a variable of the environment) have no form in
    TOML; they come out escaped, for people to see.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:_}" if abs(value) >= _LONG else str(value)
        case float():
            return repr(value)
        case str():
            return _string(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case Mapping():
            inside = ", ".join(f"{dotted((k,))} = {toml_text(v)}" for k, v in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case Sequence():
            return f"[{', '.join(map(toml_text, value))}]"
    msg = f"TOML has no form for a {type(value).__name__}"
    raise TypeError(msg)


def _string(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return _NOT_IN_A_STRING.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
