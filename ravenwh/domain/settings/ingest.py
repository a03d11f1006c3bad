"""What the runners take in, and how it becomes rows."""

# ruff: noqa: RUF009  # option() and optional() give attrs fields, as attrs.field() does
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import attrs

from ravenwh.domain.interval import INTERVALS
from ravenwh.domain.settings.kinds import Choice, FilePath, Number, Text, Texts, Whole
from ravenwh.domain.settings.option import Rule, Section, option, optional
from ravenwh.domain.settings.problem import Problem
from ravenwh.domain.settings.routing import PAIR, VENUE

__all__ = ["SYMBOLS", "BinanceKlines", "Ingest", "Journal", "Log"]

SYMBOLS = Texts(
    item=Text(
        pattern=rf"\*|{PAIR.pattern}|[^\s/*:\x00-\x1f\x7f]{{1,80}}",
        rule='COIN/QUOTE ("BTC/USDT"), a venue\'s symbol ("BTCUSDT"), or "*" for all',
    ),
    least=1,
    single=True,
)


@attrs.frozen(kw_only=True)
class BinanceKlines(Section):
    """What the kline runner takes from its feed."""

    venues: tuple[str, ...] = option(
        Texts(item=VENUE, least=1),
        default=("BINANCE_SPOT", "BINANCE_FUTURES"),
        help="The venues whose klines are written.",
    )
    symbols: tuple[str, ...] = option(
        SYMBOLS,
        default=("*",),
        help="The symbols whose klines are written.",
        example=["BTC/USDT", "ETH/USDT"],
    )
    interval: tuple[str, ...] = option(
        Texts(item=Choice(words=tuple(INTERVALS)), least=1, single=True),
        default=("1m",),
        help="The intervals that are written.",
        example=["1m", "1h"],
    )


@attrs.frozen(kw_only=True)
class Journal(Section):
    """The log on the local disk that every frame enters before any work."""

    dir: Path | None = optional(
        FilePath(rule="a folder; it is made if need be"),
        absent="/var/lib/ravenwh/journal for root, else the state folder of the user",
        help="Where each runner keeps its journal.",
        example="/srv/ravenwh/journal",
    )
    max_bytes: int = option(
        Whole(least=16_777_216, most=1_099_511_627_776),
        default=2_147_483_648,
        unit="bytes",
        help="The largest that one journal grows; when it is full, its runner stops reading.",
    )
    keep_h: int = option(
        Whole(least=0, most=8760),
        default=48,
        unit="hours",
        help="How long written frames are kept to replay them into a restored database.",
    )
    max_dead_bytes: int = option(
        Whole(least=1_048_576, most=1_099_511_627_776),
        default=268_435_456,
        unit="bytes",
        help="The most that the dead letters of one runner take; beyond it old ones give way.",
    )


def _initial_up_to_max(initial: float, most: float) -> Iterator[Problem]:
    if initial > most:
        text = f"found {initial:g}, with retry_max_s {most:g}; allowed: not more than that"
        yield Problem(path=("retry_initial_s",), text=text)


@attrs.frozen(kw_only=True)
class Ingest(Section):
    """How frames become batches, and batches rows."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(keys=("retry_initial_s", "retry_max_s"), check=_initial_up_to_max),
    )

    batch_rows: int = option(
        Whole(least=1, most=100_000),
        default=5000,
        unit="rows",
        help="A batch closes when it has so many.",
    )
    batch_bytes: int = option(
        Whole(least=65_536, most=268_435_456),
        default=4_194_304,
        unit="bytes",
        help="A batch closes when its frames have so many.",
    )
    flush_after_s: float = option(
        Number(least=0.001, most=60),
        default=0.5,
        unit="seconds",
        help="A batch closes when its first frame has waited so long.",
    )
    close_grace_s: float = option(
        Number(least=0, most=3600),
        default=5.0,
        unit="seconds",
        help="An open kline becomes final so long after its close by the clock of the venue.",
    )
    shutdown_grace_s: float = option(
        Number(least=0, most=600),
        default=10.0,
        unit="seconds",
        help="How long the last write may take after SIGTERM; the rest stays in the journal.",
    )
    retry_initial_s: float = option(
        Number(least=0.01, most=60),
        default=0.1,
        unit="seconds",
        help="The first wait before a failed batch is tried again.",
    )
    retry_max_s: float = option(
        Number(least=0.01, most=3600),
        default=30.0,
        unit="seconds",
        help="The longest of these waits, which double each time.",
    )


@attrs.frozen(kw_only=True)
class Log(Section):
    """What runners and commands write to their terminal."""

    level: Literal["TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL"] = option(
        Choice(
            words=("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL"),
            any_case=True,
        ),
        default="INFO",
        help="The least that is written.",
    )
    format: Literal["text", "json"] = option(
        Choice(words=("text", "json")), default="text", help="Lines for people or for programs."
    )
