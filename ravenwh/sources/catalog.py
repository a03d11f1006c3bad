"""Which Vision files the arguments of a replay stand for, and what their names say they hold.

Files are named as data.binance.vision names them: ``SYMBOL-INTERVAL-DATE``, ``SYMBOL-trades-DATE``
or ``SYMBOL-aggTrades-DATE``, ``.csv`` or ``.zip``, with a ``.CHECKSUM`` beside them or none.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import attrs

from ravenwh.domain.errors import Refused, Rejected
from ravenwh.domain.interval import INTERVALS, parse_interval
from ravenwh.sources.rows import Kind
from ravenwh.sources.vision import VisionFile, damage_told

__all__ = ["Named", "find_files", "named"]

_NAME = re.compile(r"([^-/\\\s]+)-([0-9A-Za-z]+)(?:-.*)?\.(?:csv|zip)", re.IGNORECASE)
_DIGEST = re.compile(r"([0-9a-fA-F]{64})(?:\s+\*?(.*\S))?\s*")
_PRICES_ONLY = frozenset({"markPriceKlines", "indexPriceKlines", "premiumIndexKlines"})


@attrs.frozen(kw_only=True)
class Named:
    """What a file's name says; None for what it does not. ``interval`` belongs to klines."""

    kind: Kind | None = None
    symbol: str | None = None
    interval: str | None = None

    @property
    def complete(self) -> bool:
        """Whether that is enough to read the file."""
        interval_known = self.interval is not None or self.kind != "klines"
        return self.kind is not None and self.symbol is not None and interval_known

    def over(self, other: Named) -> Named:
        """What either says; where both do, what this one says."""
        kind = self.kind or other.kind
        interval = self.interval or other.interval
        return Named(
            kind=kind,
            symbol=self.symbol or other.symbol,
            interval=interval if kind == "klines" else None,
        )


def named(path: Path) -> Named:
    """What the name of a file says, nothing where it is no name of the kinds that can be read.

    Klines of mark, index and premium prices have the names of klines proper; only the folder that
    Vision keeps them in tells them apart.
    """
    match = _NAME.fullmatch(path.name)
    if match and _PRICES_ONLY.isdisjoint(path.absolute().parts):
        symbol, what = match.groups()
        if what in INTERVALS:
            return Named(kind="klines", symbol=symbol, interval=what)
        if what in ("trades", "aggTrades"):
            return Named(kind=cast(Kind, what), symbol=symbol)
    return Named()


def find_files(
    paths: Iterable[Path],
    *,
    venue: str,
    kind: Kind | None = None,
    symbol: str | None = None,
    interval: str | None = None,
) -> tuple[list[VisionFile], list[Path]]:
    """Every csv of the paths, in their order, and what was passed over in folders.

    A folder stands for all Vision files in and below it, sorted by path; other files there are
    passed over. ``kind``, ``symbol`` and ``interval`` say what a name does not, and go before what
    it does. Each ``.CHECKSUM`` beside a file is verified. Raises Refused.
    """
    if interval is not None:
        if kind not in (None, "klines"):
            raise Refused(f"an interval ({interval}) belongs to klines, not to {kind}")
        try:
            parse_interval(interval)
        except Rejected as error:
            raise Refused(str(error)) from error
    told = Named(kind=kind or ("klines" if interval else None), symbol=symbol, interval=interval)
    files: list[VisionFile] = []
    ignored: list[Path] = []
    for path in paths:
        found = [path]
        if path.is_dir():
            found, others = _in_folder(path, told)
            ignored += others
        for file in found:
            files += _csvs(file, venue, told)
    return files, ignored


def _in_folder(folder: Path, told: Named) -> tuple[list[Path], list[Path]]:
    found: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".csv", ".zip") and path.is_file():
            readable = told.complete or named(path).complete
            (found if readable else others).append(path)
    if not found:
        raise Refused(
            f"the folder {folder} holds no Binance Vision file (such as BTCUSDT-1m-2024-01.zip or"
            " BTCUSDT-trades-2024-01-05.csv)"
        )
    return found, others


def _csvs(path: Path, venue: str, told: Named) -> list[VisionFile]:
    if not path.is_file():
        raise Refused(f"there is no file {path}")
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".zip"):
        raise Refused(f"{path} ends in {suffix or 'nothing'}; .csv and .zip can be read")
    _verify_checksum(path)
    if suffix == ".csv":
        return [_identify(path, None, venue, told)]
    with damage_told(str(path)), zipfile.ZipFile(path) as archive:
        names = sorted(archive.namelist())
    members = [name for name in names if name.lower().endswith(".csv")]
    if not members:
        raise Refused(f"the archive {path} holds no .csv, but {', '.join(names) or 'nothing'}")
    return [_identify(path, member, venue, told) for member in members]


def _identify(path: Path, member: str | None, venue: str, told: Named) -> VisionFile:
    label = path if member is None else path / member
    outer = told.over(named(path))
    inner = outer if member is None else told.over(named(path.parent / member))
    if outer.complete and inner.complete and outer != inner:
        raise Refused(
            f"{label}: the archive's name and the name inside differ in symbol, interval or kind;"
            " say which is right with --symbol, --interval or --kind"
        )
    name = inner.over(outer)
    if not name.complete or name.kind is None or name.symbol is None:
        raise Refused(_not_named(label, name))
    return VisionFile(
        path=path,
        member=member,
        venue=venue,
        kind=name.kind,
        symbol=name.symbol,
        interval=name.interval,
    )


def _not_named(label: Path, name: Named) -> str:
    missing = []
    if name.symbol is None:
        missing.append("--symbol")
    if name.kind is None:
        missing.append("--interval (for klines) or --kind (for trades)")
    elif name.kind == "klines" and name.interval is None:
        missing.append("--interval")
    if "-1mo-" in label.name:
        why = "holds klines of a month, which has no fixed length (its days are in the 1d files)"
    elif not _PRICES_ONLY.isdisjoint(label.absolute().parts):
        why = "is in a folder of mark, index or premium prices, which are no klines of trades"
    else:
        why = "does not say by its name what it holds, as BTCUSDT-1m-2024-01.zip does"
    return f"{label} {why}; to read it all the same, give {' and '.join(missing)}"


def _verify_checksum(path: Path) -> None:
    """Compare with the ``.CHECKSUM`` beside the file, if there is one (sha256sum's format)."""
    beside = path.with_name(path.name + ".CHECKSUM")
    if not beside.is_file():
        return
    with damage_told(str(beside)):
        text = beside.read_bytes()[:65536].decode("utf-8", "replace")
    expected = None
    for line in text.splitlines():
        match = _DIGEST.fullmatch(line.strip())
        if match and Path(match[2] or path.name).name == path.name:
            expected = match[1].lower()
    if expected is None:
        raise Refused(
            f"{beside} holds no line with the SHA-256 of {path.name}, but {text[:100]!r}; load both"
            " again, or remove it"
        )
    with damage_told(str(path)), path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise Refused(
            f"{path} is not what its .CHECKSUM says: SHA-256 found {found}, expected {expected};"
            " load it again"
        )
