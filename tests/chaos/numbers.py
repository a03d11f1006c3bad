"""Klines that are numbers, so that it can be told of each one where it is."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

import attrs
import psycopg

from ravenwh.domain.messages import Candle
from ravenwh.feed import wire

VENUE = "BINANCE_SPOT"
COINS = ("ADA", "BCH", "BNB", "BTC", "DOT", "EOS", "ETC", "ETH", "FIL", "LTC")
SYMBOLS = tuple(f"{coin}USDT" for coin in COINS)
MINUTE = 60_000_000_000
START = 1_704_067_200_000_000_000  # 2024-01-01
TOPICS = tuple(wire.topic(VENUE, "CANDLE", symbol) for symbol in SYMBOLS)


def kline(number: int) -> Candle:
    """The kline of a number: its volume says which one it is, and no other has its key."""
    opened = START + number // len(SYMBOLS) * MINUTE
    return Candle(
        venue=VENUE,
        symbol=SYMBOLS[number % len(SYMBOLS)],
        event_time=opened + MINUTE - 1_000_000,
        interval="1m",
        open_time=opened,
        close_time=opened + MINUTE - 1_000_000,
        open=1.0,
        high=2.0,
        low=0.5,
        close=1.5,
        volume=float(number),
        closed=True,
    )


def numbers_of(topic: str, first_seq: int, last_seq: int, since: int) -> list[int]:
    """The numbers that these sequence numbers of a topic stand for.

    ``since`` is the first number of the publisher that sent them.
    """
    place = SYMBOLS.index(topic.rpartition(":")[2])
    first = since + (place - since) % len(SYMBOLS)
    return [first + (seq - 1) * len(SYMBOLS) for seq in range(first_seq, last_seq + 1)]


@attrs.frozen(kw_only=True)
class Found:
    """Where the numbers are: in the table, or in the ledger of what never came."""

    written: Counter[int]
    missing: Counter[int]
    gaps: int
    """Rows of the ledger."""

    @classmethod
    def at(cls, dsn: str, publishers: dict[int, int]) -> Found:
        """Look; ``publishers`` maps their epochs to the first numbers that they sent."""
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            rows = connection.execute("SELECT volume FROM mart.fact__kline").fetchall()
            gaps = connection.execute(
                "SELECT topic, epoch, first_seq, last_seq FROM mart.ops__feed_gap"
                " WHERE repaired_at IS NULL"
            ).fetchall()
        return cls(
            written=Counter(int(volume) for (volume,) in rows),
            missing=Counter(
                number
                for topic, epoch, first, last in gaps
                if epoch in publishers
                for number in numbers_of(topic, first, last, publishers[epoch])
            ),
            gaps=len(gaps),
        )

    def unseen(self, last_words: Iterable[range]) -> set[int]:
        """The numbers that are nowhere, and that nobody can know of.

        ``last_words`` are the numbers that publishers sent until they were killed, from one on
        that was in the table before. Of each topic those are unseen that come behind the last that
        is somewhere: that one shows every number before it, and what died with the publisher has
        nothing behind it.
        """
        there = self.written.keys() | self.missing.keys()
        return {
            number
            for numbers in last_words
            for place in range(len(SYMBOLS))
            for number in itertools.takewhile(
                lambda number: number not in there,
                (n for n in reversed(numbers) if n % len(SYMBOLS) == place),
            )
        }

    def nowhere(self, expected: Iterable[int], last_words: Iterable[range] = ()) -> set[int]:
        """The numbers that ought to be here or there, and are not."""
        there = self.written.keys() | self.missing.keys()
        return set(expected) - there - self.unseen(last_words)

    def wrong(self, expected: Iterable[int], last_words: Iterable[range] = ()) -> list[str]:
        """What is not as promised: each number once, here or there."""
        expected = set(expected)
        both = self.written + self.missing
        return [
            f"{len(found)} numbers {what}, {sorted(found)[:10]} among them"
            for what, found in (
                ("are nowhere", self.nowhere(expected, last_words)),
                ("were never sent", both.keys() - expected),
                ("are in the table more than once", twice(self.written)),
                ("are in the ledger more than once", twice(self.missing)),
                ("are in both", self.written.keys() & self.missing.keys()),
            )
            if found
        ]


def twice(counted: Counter[int]) -> set[int]:
    """What was counted more than once."""
    return {number for number, count in counted.items() if count > 1}
