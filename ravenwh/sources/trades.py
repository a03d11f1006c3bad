"""The trades of one symbol from Binance Vision files, as one stream in the order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import attrs

from ravenwh.domain.errors import Refused
from ravenwh.domain.messages import Trade
from ravenwh.domain.series import from_ns
from ravenwh.sources.catalog import find_files
from ravenwh.sources.vision import OnBad, VisionFile

__all__ = ["TradeFiles", "TradeKind"]

TradeKind = Literal["trades", "aggTrades"]


@attrs.frozen(kw_only=True)
class TradeFiles:
    """Files that follow each other: ``rows`` are, at most, the trades in them."""

    files: tuple[VisionFile, ...]
    symbol: str
    rows: int

    @classmethod
    def found(
        cls,
        paths: Iterable[Path],
        *,
        venue: str,
        symbol: str | None = None,
        kind: TradeKind | None = None,
        on_passed_over: Callable[[Path], None],
    ) -> TradeFiles:
        """The files of the paths, in their order; each is read through once.

        ``symbol`` and ``kind`` say what a name does not. Raises Refused where a file is missing,
        damaged, or of klines, and where they are not all of one symbol and kind.
        """
        files, ignored = find_files(paths, venue=venue, kind=kind, symbol=symbol)
        for path in ignored:
            on_passed_over(path)
        if not files:
            raise Refused("found no file of trades: name files, or folders that hold some")
        for file in files:
            if file.kind == "klines":
                raise Refused(f"{file.label} holds klines: bars are made of trades or aggTrades")
            if (file.symbol, file.kind) != (files[0].symbol, files[0].kind):
                raise Refused(
                    f"{file.label} holds {file.kind} of {file.symbol}, {files[0].label} "
                    f"{files[0].kind} of {files[0].symbol}: a chain is made of one of them"
                )
        return cls(
            files=tuple(files), symbol=files[0].symbol, rows=sum(file.check() for file in files)
        )

    def messages(self, on_bad: OnBad) -> Iterator[Trade]:
        """Their trades. Raises Refused for a file that begins before the one before it ends."""
        latest, before = 0, ""
        for file in self.files:
            is_first = True
            for message in file.messages(on_bad):
                if not isinstance(message, Trade):
                    continue
                if is_first and message.event_time < latest:
                    raise Refused(
                        f"{file.label} begins at {from_ns(message.event_time).isoformat()}, before "
                        f"{before} ends, at {from_ns(latest).isoformat()}: name each file once, in "
                        "the order of time"
                    )
                is_first = False
                latest = max(latest, message.event_time)
                yield message
            before = file.label
