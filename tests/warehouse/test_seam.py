"""Where the rows of two chains meet: against a plain search."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ravenwh.warehouse.seam import Seam, key_of, seam_of

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 1), st.integers(0, 1)),
    unique_by=lambda row: row[:2],
    max_size=12,
).map(lambda rows: [bar(*row) for row in sorted(rows)])


def bar(opened: int, seq: int, value: int) -> tuple[Any, ...]:
    return START + timedelta(seconds=opened), seq, START, float(value)


def plain_seam(old: list[Any], new: list[Any]) -> Seam:
    """The longest stretch in common that ends with the last row of one of them."""
    for equal in range(min(len(old), len(new)), 0, -1):
        for a in range(len(old) - equal + 1):
            for b in range(len(new) - equal + 1):
                is_an_end = a + equal == len(old) or b + equal == len(new)
                if is_an_end and old[a : a + equal] == new[b : b + equal]:
                    return Seam(old=a, new=b, equal=equal)
    return Seam(old=len(old), new=len(new), equal=0)


@given(ROWS, ROWS)
def test_the_seam_is_what_both_end_with(old: list[Any], new: list[Any]) -> None:
    assert seam_of(old, new) == plain_seam(old, new)


@given(ROWS, st.integers(0, 12), st.integers(0, 12))
def test_a_chain_agrees_with_its_parts(rows: list[Any], first: int, last: int) -> None:
    part = rows[first : max(first, last)]
    seam = seam_of(part, rows)
    assert seam.equal == len(part)
    if part:
        assert key_of(rows[seam.new]) == key_of(part[0])
