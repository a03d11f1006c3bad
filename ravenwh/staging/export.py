"""A day of a measurement as a Parquet file, whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from ravenwh.domain.errors import Refused, Unavailable
from ravenwh.domain.frames import need
from ravenwh.domain.tick_day import TickDay
from ravenwh.staging.reading import Ticks

__all__ = ["DayFile", "file_of", "written_day"]


@attrs.frozen(kw_only=True)
class DayFile:
    """A file that is written under another name, and how many points are in it."""

    path: Path
    points: int
    _part: Path

    def keep(self) -> None:
        """Give it its name: when this returns, it survives a loss of power."""
        with _told(self.path):
            self._part.replace(self.path)
            for folder in (self.path.parent, self.path.parent.parent):  # either may be new
                opened = os.open(folder, os.O_RDONLY)
                try:
                    os.fsync(opened)
                finally:
                    os.close(opened)


def file_of(day: TickDay, folder: Path) -> Path:
    """Where a day is exported to."""
    return folder / day.measurement / f"{day.day:%Y-%m-%d}.parquet"


@contextmanager
def written_day(
    ticks: Ticks, day: TickDay, folder: Path, *, stop: Callable[[], bool]
) -> Iterator[DayFile]:
    """Write the points of a day to a file, to be kept within the block or else removed. Blocks.

    The rows are those that :meth:`Ticks.read` gives for all symbols and exchanges, in their order.
    ``stop`` is asked now and then whether to end before the end. Raises Unavailable, also for what
    is wrong with the folder, and Refused.
    """
    path = file_of(day, folder)
    part = path.with_name(f".{path.name}.part")
    try:
        yield DayFile(path=path, points=_write(ticks, day, part, stop), part=part)
    finally:
        with _told(path):
            part.unlink(missing_ok=True)


def _write(ticks: Ticks, day: TickDay, part: Path, stop: Callable[[], bool]) -> int:
    parquet, points = need("pyarrow.parquet"), 0
    with _told(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file, ExitStack() as stack:
            writer = None
            for table in ticks.tables(day.measurement, day.day, day.end):
                if writer is None:
                    opened = parquet.ParquetWriter(file, table.schema, compression="zstd")
                    writer = stack.enter_context(opened)
                writer.write_table(table)
                points += table.num_rows
                if stop():
                    raise Refused(f"{day} was ended before its end")
            stack.close()  # the end of the file
            file.flush()
            os.fsync(file.fileno())
    return points


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Raise ours for what is wrong with the folder or its disk."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"{path.parent}: {error.strerror or error}; make room there or make it writable, or "
            "name another folder in influx.export_dir, or with --to",
            needs_person=True,
        ) from error
