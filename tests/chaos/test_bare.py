"""A wire without numbers, in short; the long one is ``make chaos``."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.bare import on_a_bare_wire


async def test_every_loss_that_can_be_seen_is_counted(tmp_path: Path, mart_url: str) -> None:
    found = await on_a_bare_wire(
        tmp_path,
        mart_url,
        seed=5,
        klines=600,
        rate=200.0,
        kills=2,
        down_s=1.0,
        up_s=1.0,
        until_noted=False,  # which is when nothing can fill them any more, 90 s later
    )
    assert found.wrong == []
    assert found.visible == found.noted + found.open > 100
    assert found.written + found.visible <= found.sent
    assert found.imbalances == 0
    assert found.scrapes > 5
