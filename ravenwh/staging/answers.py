"""What InfluxDB answers to a write, and what is to be done then: the one table.

The words are those of the server's own source (main-2.x: http/write_handler.go,
http/points/points_parser.go, v1/coordinator/points_writer.go) and of InfluxDB 1.6 to 2.0, whose
statuses differ in places.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum

import attrs

__all__ = ["RULES", "Answer", "Rule", "Verdict", "named_lines"]


class Verdict(StrEnum):
    """What an answer means for the lines of a request."""

    STORED = "stored"  # all of them
    EXPIRED = "expired"  # those older than the bucket keeps are dropped, the others stored
    TRANSIENT = "transient"  # it may heal by itself: keep them, wait, send them again
    CONFIG = "config"  # a person must act: as transient, with an alarm
    POISON = "poison"  # some of them will never be taken: find them
    TOO_BIG = "too big"  # send fewer at once


@attrs.frozen(kw_only=True)
class Answer:
    """What came back. ``status`` is 0 where nothing did, and ``message`` then says why.

    ``retry_after_s`` are the seconds that were asked for. ``dropped`` is how many lines the server
    says that it has not stored, None where it does not say.
    """

    status: int
    message: str = ""
    retry_after_s: float | None = None
    is_insecure: bool = False
    """Whether the other end could not be trusted: a certificate, or a protocol that is no TLS."""

    @property
    def dropped(self) -> int | None:
        """The count in the words of a partial write."""
        found = _DROPPED.search(self.message)
        return int(found[1]) if found else None

    @property
    def verdict(self) -> Verdict:
        """What to do: the first rule of the table that fits."""
        return next(rule.verdict for rule in RULES if rule.fits(self))

    def __str__(self) -> str:
        return f"{self.status} {self.message[:500]}" if self.status else self.message[:500]


@attrs.frozen
class Rule:
    """An answer with one of these statuses, whose message has this in it."""

    verdict: Verdict
    statuses: Collection[int]
    says: re.Pattern[str] | None = None
    is_insecure: bool | None = None

    def fits(self, answer: Answer) -> bool:
        """Whether the answer is one of these."""
        return (
            answer.status in self.statuses
            and (self.says is None or bool(self.says.search(answer.message)))
            and (self.is_insecure is None or self.is_insecure == answer.is_insecure)
        )


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_DROPPED = re.compile(r"\bdropped[ =](\d{1,9})\b")
_UNPARSED = "unable to parse '"
_WRITING = "^((failure|unexpected error) writing points to database: )?"
_PARTIAL = f"{_WRITING}(partial write: )?"
_PARTLY = f"{_WRITING}partial write: "
_QUOTES = f"({_UNPARSED}|field type conflict|max-|.*\\b(tag|value)=)"
_NEVER = "((invalid|input) (field|tag)|max key length|time outside range)"
_DISK = "no space left|disk quota|input/output error|read-only file system|too many open files"

RULES: tuple[Rule, ...] = (
    Rule(Verdict.CONFIG, range(200, 300), _words(r"^\s*<(!doctype|html)")),  # a portal's page
    Rule(Verdict.STORED, range(200, 300)),
    Rule(Verdict.TRANSIENT, {0}, is_insecure=False),
    Rule(Verdict.CONFIG, {0}),
    Rule(Verdict.CONFIG, range(300, 400)),
    Rule(Verdict.TOO_BIG, {413}),
    Rule(Verdict.TRANSIENT, {408, 425, 429}),
    Rule(
        Verdict.EXPIRED,
        {400, 422, 500},
        _words(f"{_PARTIAL}(dropped \\d+ points outside|points beyond) retention policy"),
    ),
    # what quotes a line or a tag comes before what may heal, since they may hold any words
    Rule(Verdict.POISON, {400, 422}, _words(f"{_PARTIAL}{_QUOTES}")),
    Rule(
        Verdict.TRANSIENT,
        {400, 422},
        _words(f"{_DISK}|pending deletion|timeout|engine is closed"),
    ),
    Rule(Verdict.CONFIG, {400}, _words(r"precision|\borg(ID|anization)?\b|\bbucket\b|gzip")),
    Rule(Verdict.POISON, {400, 422}),
    # InfluxDB 2.0; what is not known to stand for good may heal, as a proxy's page will
    Rule(Verdict.POISON, {500}, _words(f"field type conflict|{_PARTLY}({_QUOTES}|{_NEVER})")),
    Rule(Verdict.TRANSIENT, range(500, 600)),
    Rule(Verdict.CONFIG, range(1000)),  # 401, 403, 404, and what nobody foresaw
)
"""What fits first holds. The last one fits everything."""


def named_lines(message: str, lines: Collection[str]) -> dict[str, str]:
    """Those of the lines that the message says it cannot parse, each with the reason.

    InfluxDB 2 names all of them, as they are, each between quotes and followed by a colon; what a
    line holds may look like that end, so the longest line that fits is the one.
    """
    found: dict[str, str] = {}
    for piece in message.split(_UNPARSED)[1:]:
        end = piece.rfind("': ")
        while end >= 0:
            if piece[:end] in lines:
                found[piece[:end]] = piece[end + 3 :].partition("\n")[0]
                break
            end = piece.rfind("': ", 0, end)
    return found
