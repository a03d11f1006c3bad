"""Numbers through a storm, in short; the long one is ``make chaos``."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest

from tests.chaos.numbers import SYMBOLS, Found
from tests.chaos.storm import AWAY, SHORT, bereft, outrun, storm

MIB = 2**20


def test_only_the_last_words_of_a_publisher_may_be_nowhere() -> None:
    there = set(range(100)) - {75} - {78, 88, 98}
    found = Found(written=Counter(there), missing=Counter({75: 1}), gaps=1)
    assert found.wrong(range(100), [range(70, 100)]) == []
    assert found.unseen([range(70, 100)]) == {78, 88, 98}
    assert found.unseen([range(80, 100)]) == {88, 98}  # 78 was in the table once
    assert len(found.wrong(range(100), [range(80, 100)])) == 1
    shown = Found(written=Counter(there | {98}), missing=Counter({75: 1}), gaps=1)
    assert shown.unseen([range(70, 100)]) == set()  # 98 shows that 78 and 88 were sent
    assert "2 numbers are nowhere, [78, 88]" in shown.wrong(range(100), [range(70, 100)])[0]
    twice = Found(written=Counter([*range(100), 4]), missing=Counter([3, 7, 7]), gaps=2)
    assert len(twice.wrong(range(101))) == 4


@pytest.mark.timeout(300)
async def test_every_number_is_in_the_table_once_whatever_happens() -> None:
    report = await storm(SHORT)
    assert report.wrong == [], report.events
    assert report.written == report.sent >= SHORT.numbers
    assert report.missing == report.unseen == 0
    assert min(report.terminated) > 0
    assert min(report.refusals) > 0 if report.disk_was_full else not report.refusals
    assert report.durability["fsync"] == report.durability["synchronous_commit"] == "on"
    assert report.imbalances == 0
    assert report.scrapes > 20
    assert AWAY in report.unready
    assert report.most_bytes < 200 * MIB


@pytest.mark.timeout(300)
async def test_what_dies_with_a_publisher_is_in_the_ledger_or_was_the_last_of_its_topic() -> None:
    report = await bereft(attrs.evolve(SHORT, numbers=2_000))
    assert report.wrong == [], report.events
    assert report.written + report.missing + report.unseen == report.sent
    assert report.missing_needlessly == 0
    assert report.missing > 0
    assert report.unseen > 0
    assert report.imbalances == 0


async def test_where_the_ring_was_outrun_each_number_is_in_the_table_or_the_ledger() -> None:
    plan = attrs.evolve(SHORT, numbers=4_000, rate=1_000.0, down_s=1.5)
    report = await outrun(plan, ring_bytes=200_000)
    assert report.wrong == []
    assert report.missing > 100
    assert report.written + report.missing == report.sent >= plan.numbers
    assert report.unseen == 0
    assert report.gaps <= 3 * len(SYMBOLS)
    assert report.imbalances == 0
