"""Findings as a person reads them."""

from __future__ import annotations

from ravenwh.domain.finding import Finding


def test_only_the_first_line_of_a_finding_is_at_the_margin() -> None:
    finding = Finding(check="streams", ok=False, found="one\ntwo", remedy="this\nand that")
    assert str(finding).splitlines() == [
        "FAIL streams: one",
        "       two",
        "       mend it: this",
        "       and that",
    ]
