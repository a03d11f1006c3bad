"""Numbers through a storm, in short; the long one is ``make chaos``."""

from __future__ import annotations

import attrs
import pytest

from tests.chaos.numbers import SYMBOLS
from tests.chaos.storm import AWAY, SHORT, outrun, storm

MIB = 2**20


@pytest.mark.timeout(150)
async def test_every_number_is_in_the_table_once_whatever_happens() -> None:
    report = await storm(SHORT)
    assert report.wrong == [], report.events
    assert (report.written, report.missing) == (SHORT.numbers, 0)
    assert report.durability["fsync"] == report.durability["synchronous_commit"] == "on"
    assert report.imbalances == 0
    assert report.scrapes > 20
    assert AWAY in report.unready
    assert report.most_bytes < 200 * MIB


async def test_where_the_ring_was_outrun_each_number_is_in_the_table_or_the_ledger() -> None:
    plan = attrs.evolve(SHORT, numbers=4_000, rate=1_000.0, down_s=1.5)
    report = await outrun(plan, ring_bytes=200_000)
    assert report.wrong == []
    assert report.missing > 100
    assert report.written + report.missing == plan.numbers
    assert report.gaps <= 3 * len(SYMBOLS)
    assert report.imbalances == 0
