"""What the health pages show changes nothing of what they show."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ravenwh.app.watched import Watched
from ravenwh.domain.messages import Candle
from ravenwh.feed import wire
from ravenwh.ingest import Worker
from ravenwh.journal import Store
from ravenwh.ports import Gap
from tests.ingest.test_worker import Frames, Table, is_candle


def gap(seq: int) -> Gap:
    return Gap(feed="f", topic=b"T ", epoch=1, first_seq=seq, last_seq=seq, missing=1, reason="",
               detected_at=1)  # fmt: skip


async def test_a_scrape_leaves_the_gaps_of_the_journal_as_they_are(tmp_path: Path) -> None:
    watched = Watched()
    assert watched.reading() is None
    assert watched.troubles == ["starting: the journal and the sockets are being opened"]
    with closing(Store(tmp_path / "j.sqlite")) as store:
        worker = Worker[Candle](
            source=Frames(),
            decode=wire.decode,
            wants=is_candle,
            sink=Table(),
            journal=store,
            dead_letters=store,
        )
        why: list[str] = ["the database is away"]
        watched.follow(worker, store, lambda: why[0] if why else None)
        store.append([], gaps=[gap(1)])
        reading = watched.reading()
        assert reading is not None
        assert (reading.gaps_open, reading.is_ready) == (1, False)
        assert watched.troubles == ["the database is away"]
        store.append([], gaps=[gap(2)])  # goes on where the last one ended, and becomes one with it
        why.clear()
        reading = watched.reading()
        assert reading is not None
        assert (reading.gaps_open, reading.is_ready) == (1, True)
