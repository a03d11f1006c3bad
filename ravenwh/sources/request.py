"""What is asked to be replayed: files or a simulated market, and how."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

import attrs
from loguru import logger

from ravenwh.domain.errors import Refused
from ravenwh.domain.series import TimeRange
from ravenwh.sources.catalog import find_files
from ravenwh.sources.replay import Track
from ravenwh.sources.rows import Kind
from ravenwh.sources.simulator import SimulatedKlines, SimulatedMarket, SimulatedTrades

__all__ = ["Request"]


@attrs.frozen(kw_only=True)
class Request:
    """Files and folders (``paths``), symbols to ``simulate``, or stored ``measurements``.

    ``kinds`` (of files one at most), ``symbol`` and ``interval`` say what the names of files do
    not; what is simulated is ``klines`` of ``1m`` unless said. Of measurements all symbols are
    meant, or ``symbol``; where they are read is not known here. ``speed`` is seconds of event time
    a second, None for as fast as it goes; ``span`` leaves out what is outside it, and is the range
    of what is simulated.
    """

    paths: tuple[Path, ...] = ()
    simulate: tuple[str, ...] = ()
    measurements: tuple[str, ...] = ()
    venue: str = "BINANCE_SPOT"
    kinds: tuple[Kind, ...] = ()
    symbol: str | None = None
    interval: str | None = None
    seed: int = 0
    speed: float | None = None
    span: TimeRange | None = None

    def tracks(self) -> tuple[tuple[Track, ...], int]:
        """The files or the market, and at most how many messages; each file is read through.

        Raises Refused where a file is missing, damaged, not what its ``.CHECKSUM`` says, or where
        nothing says what it holds: before anything is sent.
        """
        tracks = [*self._files(), *self._simulated()]
        if not tracks:
            raise Refused("nothing to replay: name files or folders, or symbols to simulate")
        return tuple(tracks), sum(track.check() for track in tracks)

    def _files(self) -> list[Track]:
        if self.paths and len(self.kinds) > 1:
            raise Refused(f"a file holds one kind, not {' and '.join(self.kinds)}")
        files, ignored = find_files(
            self.paths,
            venue=self.venue,
            kind=self.kinds[0] if self.kinds else None,
            symbol=self.symbol,
            interval=self.interval,
        )
        for path in ignored:
            logger.bind(path=str(path)).info("REPLAY_FILE_PASSED_OVER")
        return list(files)

    def _simulated(self) -> list[Track]:
        if not self.simulate:
            return []
        if self.span is None:
            raise Refused("a simulated market needs a range: its start and its end")
        markets = [
            SimulatedMarket(symbol=symbol, venue=self.venue, seed=self.seed)
            for symbol in self.simulate
        ]
        tracks: list[Track] = []
        for kind in self.kinds or ("klines",):
            match kind:
                case "klines":
                    code = self.interval or "1m"
                    tracks += [
                        SimulatedKlines(market=market, interval=code, span=self.span)
                        for market in markets
                    ]
                case "trades":
                    tracks += [SimulatedTrades(market=market, span=self.span) for market in markets]
                case "aggTrades":
                    raise Refused("a simulated market has klines and trades, but no aggTrades")
                case _:
                    assert_never(kind)
        return tracks
