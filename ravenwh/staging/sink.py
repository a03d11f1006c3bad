"""Messages into the bucket: encoded once, posted until they are taken, poison taken out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import attrs
from loguru import logger

from ravenwh.domain.errors import RavenwhError, Rejected, TooLarge, Unavailable
from ravenwh.domain.messages import Message
from ravenwh.ports import WriteResult
from ravenwh.staging.answers import Answer, Verdict, named_lines
from ravenwh.staging.encoder import Encoder
from ravenwh.staging.server import Server

__all__ = ["TickSink"]

LARGEST_BODY = 1 << 20
"""Bytes of the lines of one request."""

MOST_REQUESTS = 400
"""Requests of one try: a search for poison that takes more goes on at the next one."""

MOST_POISON = 0.2
LEAST_POISON = 100
"""Where a server refuses more of a batch than this share, and than so many lines, without naming
them, it is not the lines that are wrong but the bucket."""

REMEDIES = {
    401: "put a token that may write into influx.token_file (or influx.token); it is read again at "
    "each try",
    403: "give the token the right to write to the bucket, or put another one into "
    "influx.token_file; it is read again at each try",
    404: "make the bucket (python -m runners.init), or mend influx.bucket and influx.org",
}
"""What a person does about an answer that waiting does not mend."""


@attrs.define
class _Work:
    """A batch on its way: what is left to be sent, and what became of the rest."""

    messages: Sequence[Message]
    lines: Sequence[str]
    indices: Sequence[int]
    rejected: list[tuple[int, RavenwhError]]
    parts: list[Sequence[int]]
    """Numbers of the lines that are to be sent, each part in one request, the last part first."""
    written: int = 0
    expired: int = 0
    requests: int = 0
    refused: int = 0
    """Lines that were found by halving; of this try, as are the requests."""

    def is_of(self, messages: Sequence[Message]) -> bool:
        """Whether this is the batch that is given again."""
        known = self.messages
        return len(known) == len(messages) and all(map(_is, known, messages))

    def reject(self, part: Sequence[int], error: RavenwhError) -> None:
        """None of these lines will ever be a point."""
        self.rejected += ((self.indices[i], error) for i in part)

    def halve(self, part: Sequence[int]) -> None:
        """Send both halves instead, in their order."""
        middle = len(part) // 2
        self.parts[-1:] = (part[middle:], part[:middle])

    def shrink(self, part: Sequence[int], reason: str) -> None:
        """Halve what is too large, if it is not a line alone."""
        if len(part) > 1:
            self.halve(part)
        else:
            self.reject(part, TooLarge(reason))
            self.parts.pop()

    def result(self) -> WriteResult:
        """What became of the messages."""
        return WriteResult(
            written=self.written,
            expired=self.expired,
            rejected=tuple(sorted(self.rejected, key=_index)),
        )


@attrs.define(kw_only=True)
class TickSink:
    """Writes messages of any measurement; a Sink.

    One request is in flight, so that the points of a series keep their order. A batch is encoded
    once: given again after Unavailable, by the same messages, it goes on where it was. An order
    book is written by its best bid and ask, so it must be whole
    (:mod:`~ravenwh.staging.books`).

    What the server will never take is found and rejected, the rest written: first the lines that
    it names, then by halving. What is older than the bucket keeps is ``expired``. Raises
    Unavailable for everything else, also where so much is refused that it must be the bucket that
    is wrong: then nothing is given up.
    """

    server: Server
    encoder: Encoder = attrs.field(factory=Encoder)
    _work: _Work | None = attrs.field(default=None, init=False)

    async def write(self, messages: Sequence[Message]) -> WriteResult:
        """Post the batch, off the event loop."""
        work = self._work
        if work is None or not work.is_of(messages):
            work = self._work = self._encoded(messages)
        work.requests = work.refused = 0
        while work.parts:
            if work.requests >= MOST_REQUESTS:
                raise Unavailable(
                    f"{self.server} refuses many lines of the batch, {work.refused} were found so "
                    "far; the search goes on",
                    needs_person=True,
                )
            await self._send(work, work.parts[-1])
        self._work = None
        if work.expired:
            logger.bind(points=work.expired, bucket=self.server.settings.bucket).warning(
                "POINTS_EXPIRED"
            )
        return work.result()

    def _encoded(self, messages: Sequence[Message]) -> _Work:
        before = self.encoder.ambiguous
        encoded = self.encoder.encode(messages)
        ambiguous = self.encoder.ambiguous - before
        if ambiguous:
            logger.bind(points=ambiguous).info("POINTS_AMBIGUOUS")
        lines = encoded.lines
        return _Work(
            messages=tuple(messages),
            lines=lines,
            indices=encoded.indices,
            rejected=list(encoded.rejected),
            parts=[range(len(lines))] if lines else [],
        )

    async def _send(self, work: _Work, part: Sequence[int]) -> None:
        """Post one part, which is the last of the work's, and take it off if that settles it."""
        lines = work.lines if len(part) == len(work.lines) else [work.lines[i] for i in part]
        body = "\n".join(lines).encode()
        if len(body) > LARGEST_BODY:
            work.shrink(part, f"its line has {len(body)} bytes, allowed are {LARGEST_BODY}")
            return
        answer = await asyncio.to_thread(self.server.write, body)
        work.requests += 1
        match answer.verdict:
            case Verdict.STORED:
                work.written += len(part)
            case Verdict.EXPIRED:
                expired = min(answer.dropped or len(part), len(part))
                work.expired += expired
                work.written += len(part) - expired
            case Verdict.POISON:
                self._isolate(work, part, lines, answer)
                return
            case Verdict.TOO_BIG:
                work.shrink(part, f"{self.server} refuses its size: {answer}")
                return
            case Verdict.TRANSIENT | Verdict.CONFIG:
                raise self._unavailable(answer)
        work.parts.pop()

    def _isolate(
        self, work: _Work, part: Sequence[int], lines: Sequence[str], answer: Answer
    ) -> None:
        """Reject what is known to be poison, and send the rest again, in halves if need be."""
        named = named_lines(answer.message, frozenset(lines))
        if named:
            for i in part:
                if (reason := named.get(work.lines[i])) is not None:
                    work.reject([i], self._refused(f"{answer.status} {reason}"))
            rest = [i for i in part if work.lines[i] not in named]
            work.parts[-1:] = [rest] if rest else []
            return
        refused = answer.dropped or 1
        if work.refused + refused > max(LEAST_POISON, MOST_POISON * len(work.lines)):
            raise Unavailable(
                f"{self.server} refuses so much of the batch that nothing of it is given up: "
                f"{answer}; mend the bucket, or name another one in influx.bucket",
                needs_person=True,
            )
        if refused < len(part):
            work.halve(part)
            return
        work.refused += len(part)
        work.reject(part, self._refused(str(answer)))
        work.parts.pop()

    def _refused(self, reason: str) -> Rejected:
        return Rejected(f"{self.server} refuses it: {reason}", code="INFLUX_REFUSED")

    def _unavailable(self, answer: Answer) -> Unavailable:
        text = f"{self.server} did not take the batch: {answer}"
        if answer.verdict is not Verdict.CONFIG:
            return Unavailable(text, retry_after_s=answer.retry_after_s)
        remedy = REMEDIES.get(answer.status, "mend influx.url, or what is in front of the server")
        return Unavailable(
            f"{text}; {remedy}", needs_person=True, retry_after_s=answer.retry_after_s
        )


def _is(one: object, other: object) -> bool:
    return one is other


def _index(rejected: tuple[int, RavenwhError]) -> int:
    return rejected[0]
