"""The journals of the runners: where they are, what is in them, and having it worked off again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import attrs
import platformdirs

from ravenwh.domain.errors import Refused
from ravenwh.domain.series import to_ns
from ravenwh.domain.settings import Settings
from ravenwh.embedded.locks import holders, listed
from ravenwh.journal import (
    CauseCount,
    DeadLetter,
    Reader,
    Redo,
    Selection,
    Status,
    Store,
    lock_of,
)

__all__ = [
    "JournalStatus",
    "causes",
    "drop_letters",
    "letters",
    "open_journal",
    "replay_letters",
    "replay_since",
    "statuses",
]


@attrs.frozen(kw_only=True)
class JournalStatus:
    """A runner's journal, and the processes that hold it, as far as this system tells."""

    service: str
    path: Path
    holders: tuple[int, ...]
    max_bytes: int
    status: Status


StoreT = TypeVar("StoreT", bound=Store)


def open_journal(settings: Settings, service: str, kind: type[StoreT]) -> StoreT:
    """The journal of a runner, made if need be, held until it is closed."""
    return _opened(kind, settings, _folder(settings) / f"{service}.sqlite")


def statuses(settings: Settings) -> list[JournalStatus]:
    """Every journal there is, by service."""
    return [
        JournalStatus(
            service=service,
            path=reader.path,
            holders=holders(lock_of(reader.path)),
            max_bytes=settings.journal.max_bytes,
            status=reader.status(),
        )
        for service, reader in _readers(settings, None)
    ]


def replay_since(settings: Settings, since: datetime, service: str | None) -> dict[str, int]:
    """Put back what was written since then, of one service or all: frames, by service.

    Either all of it or nothing. Raises Refused where a runner holds its journal, or where a journal
    does not reach back so far.
    """
    with _stopped(settings, service) as journals:
        plans = {name: journal.since(to_ns(since)) for name, journal in journals.items()}
        for name, journal in journals.items():
            journal.put_back(plans[name])
    return {name: plan.frames for name, plan in plans.items()}


def causes(
    settings: Settings, selection: Selection, service: str | None
) -> list[tuple[str, CauseCount]]:
    """The causes of dead letters, with the services whose they are."""
    return [
        (name, cause)
        for name, reader in _readers(settings, service)
        for cause in reader.causes(selection)
    ]


def letters(
    settings: Settings, selection: Selection, service: str | None
) -> Iterator[tuple[str, DeadLetter]]:
    """Dead letters, oldest first, with the services whose they are."""
    for name, reader in _readers(settings, service):
        for letter in reader.letters(selection):
            yield name, letter


def replay_letters(settings: Settings, selection: Selection, service: str | None) -> int:
    """Put dead letters back among the frames that wait; how many. Raises Refused as above."""
    with _stopped(settings, service) as journals:
        return sum(journal.replay(selection) for journal in journals.values())


def drop_letters(settings: Settings, selection: Selection, service: str | None) -> int:
    """Remove dead letters for good; how many. Raises Refused as above."""
    with _stopped(settings, service) as journals:
        return sum(journal.drop(selection) for journal in journals.values())


def _folder(settings: Settings) -> Path:
    if settings.journal.dir is not None:
        return settings.journal.dir
    if os.geteuid() == 0:
        return Path("/var/lib/ravenwh/journal")
    return platformdirs.user_state_path("ravenwh") / "journal"


def _paths(settings: Settings, service: str | None) -> dict[str, Path]:
    """The journals there are, by service; those of one service, if it is given."""
    folder = _folder(settings)
    found = {path.stem: path for path in sorted(folder.glob("*.sqlite"))}
    if service is None:
        return found
    if service not in found:
        known = ", ".join(found) or "none"
        raise Refused(f"there is no journal of {service} in {folder}; those there are: {known}")
    return {service: found[service]}


def _opened(kind: type[StoreT], settings: Settings, path: Path) -> StoreT:
    return kind(
        path,
        max_bytes=settings.journal.max_bytes,
        keep_s=settings.journal.keep_h * 3600.0,
        max_dead_bytes=settings.journal.max_dead_bytes,
    )


def _readers(settings: Settings, service: str | None) -> Iterator[tuple[str, Reader]]:
    for name, path in _paths(settings, service).items():
        with Reader(path) as reader:
            yield name, reader


@contextmanager
def _stopped(settings: Settings, service: str | None) -> Iterator[dict[str, Redo]]:
    """The journals, held by us for as long. Raises Refused where one is held by its runner."""
    with ExitStack() as opened:
        journals = {}
        for name, path in _paths(settings, service).items():
            if pids := holders(lock_of(path)):
                raise Refused(
                    f"{path} is held by the {name} runner ({listed(pids)}): stop it, run this "
                    "again, and start it again"
                )
            journals[name] = opened.enter_context(closing(_opened(Redo, settings, path)))
        yield journals
