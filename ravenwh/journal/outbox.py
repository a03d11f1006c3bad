"""Gaps that wait to be repaired or noted for good, bounded whatever a feed does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import attrs
import msgspec
from loguru import logger

from ravenwh.journal.file import File
from ravenwh.ports import Gap

__all__ = ["GapOutbox"]

PER_STREAM = 100
"""Gaps of one stream that are kept apart, and given out."""

ROWS = 10_000
"""Gaps of all streams that are kept apart."""

LARGEST = 2**63 - 1
"""The most that is counted as missing: garbage in headers may name any number, often."""

Key = tuple[str, bytes, bool]
"""Feed, topic, and whether the messages were owed to us: the two kinds never become one."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Gap).decode


@attrs.define
class _Changes:
    """What a transaction writes, to be kept in memory once it is committed."""

    rows: dict[int, Gap] = attrs.field(factory=dict)
    newest: dict[Key, int] = attrs.field(factory=dict)
    new: Counter[Key] = attrs.field(factory=Counter)
    coalesced: int = 0


class GapOutbox:
    """The unsettled gaps of one file.

    A gap that goes on where the last one of its stream ended becomes one with it. Beyond
    PER_STREAM of a stream the last one grows to span what comes, and counts what is missing; where
    that cannot be, and beyond ROWS, one for the whole feed does, without a topic. So the file is
    bounded and no gap is without its count. What was given out does not change any more, since
    whoever has it may be about to settle it.
    """

    def __init__(self, file: File) -> None:
        self._file = file
        with file.translated():
            rows = file.db.execute("SELECT number, body FROM gap ORDER BY number").fetchall()
        self._rows: dict[int, Gap] = {number: _decode(body) for number, body in rows}
        self._last = max(self._rows, default=0)
        self._counts = Counter(map(_key, self._rows.values()))
        self._newest = dict[Key, int]()  # of this run: an earlier one may have given out the others
        self.coalesced = 0

    def __len__(self) -> int:
        return len(self._rows)

    def all(self) -> list[tuple[int, Gap]]:
        """Number and gap, oldest first; the first PER_STREAM of each stream."""
        seen = Counter[Key]()
        given = []
        for number, gap in self._rows.items():
            key = _key(gap)
            seen[key] += 1
            if seen[key] <= PER_STREAM:
                given.append((number, gap))
                if self._newest.get(key) == number:
                    del self._newest[key]
        return given

    def write(self, gaps: Sequence[Gap]) -> _Changes:
        """Write them in the transaction that is open; to be followed by ``keep``."""
        changes = _Changes()
        for gap in gaps:
            self._add(gap, changes)
        self._file.db.executemany(
            "INSERT OR REPLACE INTO gap VALUES (?, ?)",
            [(number, _encode(gap)) for number, gap in changes.rows.items()],
        )
        return changes

    def keep(self, changes: _Changes) -> None:
        """The transaction is committed."""
        self._rows |= changes.rows
        self._last += changes.new.total()
        self._counts += changes.new
        self._newest |= changes.newest
        self.coalesced += changes.coalesced
        if changes.coalesced:
            logger.bind(gaps=changes.coalesced, waiting=len(self._rows)).warning("GAPS_COALESCED")

    def settle(self, numbers: Sequence[int]) -> None:
        """Delete these; those that are gone already do not matter."""
        with self._file.transaction():
            self._file.db.executemany("DELETE FROM gap WHERE number = ?", [(n,) for n in numbers])
        self._counts -= Counter(
            _key(gap) for gap in (self._rows.pop(n, None) for n in numbers) if gap is not None
        )

    def _add(self, gap: Gap, changes: _Changes) -> None:
        """Make it one with another, or a row."""
        key = _key(gap)
        newest = self._open(key, changes)
        if newest is not None and _goes_on(newest, gap):
            self._grow(newest, gap, changes)
        elif (
            self._counts[key] + changes.new[key] <= PER_STREAM
            and len(self._rows) + changes.new.total() < ROWS
        ):
            self._insert(gap, changes)
        else:
            changes.coalesced += 1
            if newest is None or not _is_alike(newest, gap):
                gap = _of_the_feed(gap)
                newest = self._open(_key(gap), changes)
            if newest is None:
                self._insert(gap, changes)
            else:
                self._grow(newest, gap, changes)

    def _open(self, key: Key, changes: _Changes) -> Gap | None:
        """The newest gap of a stream, where it may still change."""
        number = changes.newest.get(key) or self._newest.get(key)
        return None if number is None else changes.rows.get(number) or self._rows[number]

    def _insert(self, gap: Gap, changes: _Changes) -> None:
        changes.new[_key(gap)] += 1
        number = self._last + changes.new.total()
        changes.rows[number] = gap
        changes.newest[_key(gap)] = number

    def _grow(self, newest: Gap, gap: Gap, changes: _Changes) -> None:
        key = _key(newest)
        changes.rows[changes.newest.get(key) or self._newest[key]] = _joined(newest, gap)


def _key(gap: Gap) -> Key:
    return gap.feed, gap.topic, gap.missing != 0


def _is_alike(one: Gap, other: Gap) -> bool:
    return (one.epoch, one.reason) == (other.epoch, other.reason)


def _goes_on(one: Gap, other: Gap) -> bool:
    """Whether the other begins where the one ends."""
    if not _is_alike(one, other):
        return False
    if one.last_seq is not None:
        return one.last_seq + 1 == other.first_seq
    return one.end_time is not None and one.end_time == other.start_time


def _joined(one: Gap, other: Gap) -> Gap:
    """One gap from the start of the first to the end of the last."""
    known = one.missing is not None and other.missing is not None
    return attrs.evolve(
        one,
        first_seq=_of(min, one.first_seq, other.first_seq),
        last_seq=_of(max, one.last_seq, other.last_seq),
        start_time=_of(min, one.start_time, other.start_time),
        end_time=_of(max, one.end_time, other.end_time),
        missing=min(LARGEST, (one.missing or 0) + (other.missing or 0)) if known else None,
    )


def _of(pick: Callable[[list[int]], int], *values: int | None) -> int | None:
    """The smallest or largest of those that are known."""
    known = [value for value in values if value is not None]
    return pick(known) if known else None


def _of_the_feed(gap: Gap) -> Gap:
    """The same without its stream and its numbers: when it was seen, and how much is missing."""
    return attrs.evolve(
        gap,
        topic=b"",
        epoch=None,
        first_seq=None,
        last_seq=None,
        start_time=gap.detected_at,
        end_time=gap.detected_at + 1,
        reason="too many gaps to tell apart",
    )
