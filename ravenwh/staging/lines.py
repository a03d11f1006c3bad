"""What a line of line protocol may hold: tags, texts, numbers and times, each made sure of."""

from __future__ import annotations

from math import isfinite

from ravenwh.domain.errors import Rejected

__all__ = [
    "EARLIEST",
    "LATEST",
    "level",
    "moment",
    "more",
    "no_time",
    "not_finite",
    "require_finite",
    "tag",
    "text",
]

EARLIEST = 1_230_768_000_000_000_000  # 2009-01-01, before there was anything to trade
LATEST = 4_102_444_800_000_000_000  # 2100-01-01: what is later is in another unit

LONGEST = 256
"""Characters of a name: those of venues stay far below it."""

_TAG = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})
_TEXT = str.maketrans({'"': '\\"', "\\": "\\\\"})


def tag(name: str, value: str) -> str:
    """The value of a tag, escaped. InfluxDB cannot hold a line break or a backslash at its end."""
    if not value or len(value) > LONGEST or not value.isprintable() or "\\" in value:
        raise Rejected(
            f"{name}: found {_shown(value)}, allowed are 1 to {LONGEST} printable characters "
            "without a backslash",
            code="BAD_TAG",
        )
    return value.translate(_TAG)


def text(value: str) -> str:
    """An id as the text of a field, escaped."""
    if not value.isprintable():
        raise Rejected(
            f"trade_id: found {_shown(value)}, allowed are printable characters", code="BAD_ID"
        )
    return value.translate(_TEXT)


def level(found: tuple[float, float]) -> tuple[float, float]:
    """Price and size of a level of a book, as floats."""
    price, size = found
    return float(price), float(size)


def more(name: str, value: float | None) -> str:
    """A further field with the comma before it; nothing where it is not said, or no number."""
    return f",{name}={float(value)!r}" if value is not None and isfinite(value) else ""


def moment(at: int) -> int:
    """The time of a state: a later version at the same time replaces it, as it should."""
    if type(at) is not int or not EARLIEST <= at < LATEST:
        raise no_time("event_time", at)
    return at


def no_time(name: str, at: int) -> Rejected:
    """The error for what is no time, most often because it is in another unit."""
    return Rejected(
        f"{name}: found {at!r:.80}, allowed are nanoseconds of the years 2009 to 2099: is it in "
        "another unit?",
        code="BAD_TIME",
    )


def require_finite(**values: float) -> None:
    """Raise Rejected where one of the values is NaN or infinite."""
    if not all(map(isfinite, values.values())):
        raise not_finite(**values)


def not_finite(**values: float) -> Rejected:
    """The error for values of which one is NaN or infinite."""
    found = ", ".join(f"{name} {value!r}" for name, value in values.items())
    return Rejected(f"found {found}; allowed are finite numbers", code="NOT_FINITE")


def _shown(value: str) -> str:
    return repr(value) if len(value) <= 80 else f"{value[:80]!r} ({len(value)} long)"
