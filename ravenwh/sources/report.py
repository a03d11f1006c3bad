"""What a replay sent, in numbers and in words."""

from __future__ import annotations

import attrs

__all__ = ["Part", "Report", "counted"]


@attrs.frozen(kw_only=True)
class Part:
    """What became of the rows of one series: ``sent``, ``bad`` (skipped) or ``outside`` the range.

    ``origin`` is where they came from: ``2 files``, or the name of what else it was.
    """

    noun: str
    venue: str
    symbol: str
    interval: str | None
    origin: str
    sent: int
    bad: int
    outside: int

    def __str__(self) -> str:
        series = f"{self.symbol} {self.interval}" if self.interval else self.symbol
        sent = counted(self.sent, self.noun.removesuffix("s"))
        return f"sent {sent} of {series} from {self.origin}, {_skipped(self)}"


@attrs.frozen(kw_only=True)
class Report:
    """The parts of a replay in the order given, and whether it was stopped before its end."""

    parts: tuple[Part, ...]
    interrupted: bool = False

    @property
    def sent(self) -> int:
        """Messages published."""
        return sum(part.sent for part in self.parts)

    @property
    def bad(self) -> int:
        """Rows that were no message."""
        return sum(part.bad for part in self.parts)

    @property
    def outside(self) -> int:
        """Messages left out because the range does not hold them."""
        return sum(part.outside for part in self.parts)

    @property
    def exit_code(self) -> int:
        """0 if every row was sent or left out on purpose, else 1."""
        return 1 if self.bad or self.interrupted else 0

    def lines(self) -> list[str]:
        """One line a series, then their sum if there are several, then whether it was stopped."""
        lines = [str(part) for part in self.parts]
        if len(self.parts) > 1:
            lines.append(f"sent {self.sent} messages of {len(self.parts)} series, {_skipped(self)}")
        if self.interrupted:
            lines.append("stopped before the end; what is missing can be replayed again, whole")
        return lines


def _skipped(counts: Part | Report) -> str:
    text = counted(counts.bad, "bad row")
    return f"{text}, {counts.outside} outside the range" if counts.outside else text


def counted(number: int, noun: str) -> str:
    """How many."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
