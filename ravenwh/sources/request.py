"""What is asked to be replayed: files or a simulated market, and how."""

from __future__ import annotations

from pathlib import Path

import attrs
from loguru import logger

from ravenwh.domain.errors import Refused
from ravenwh.domain.series import TimeRange
from ravenwh.sources.catalog import find_files
from ravenwh.sources.replay import Track
from ravenwh.sources.rows import Kind
from ravenwh.sources.simulator import SimulatedKlines, SimulatedMarket

__all__ = ["Request"]


@attrs.frozen(kw_only=True)
class Request:
    """Files and folders (``paths``), or symbols to ``simulate`` over the range ``span``.

    ``kind``, ``symbol`` and ``interval`` say what the names of files do not; ``interval`` of what
    is simulated is ``1m`` unless said. ``speed`` is seconds of event time a second, None for as
    fast as it goes; ``span`` leaves out what is outside it.
    """

    paths: tuple[Path, ...] = ()
    simulate: tuple[str, ...] = ()
    venue: str = "BINANCE_SPOT"
    kind: Kind | None = None
    symbol: str | None = None
    interval: str | None = None
    seed: int = 0
    speed: float | None = None
    span: TimeRange | None = None

    def tracks(self) -> tuple[tuple[Track, ...], int]:
        """What is to be sent, and at most how many messages that is; each file is read through.

        Raises Refused where a file is missing, damaged, not what its ``.CHECKSUM`` says, or where
        nothing says what it holds: before anything is sent.
        """
        tracks = [*self._files(), *self._simulated()]
        if not tracks:
            raise Refused("nothing to replay: name files or folders, or symbols to simulate")
        return tuple(tracks), sum(track.check() for track in tracks)

    def _files(self) -> list[Track]:
        files, ignored = find_files(
            self.paths,
            venue=self.venue,
            kind=self.kind,
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
        return [
            SimulatedKlines(
                market=SimulatedMarket(symbol=symbol, venue=self.venue, seed=self.seed),
                interval=self.interval or "1m",
                span=self.span,
            )
            for symbol in self.simulate
        ]
