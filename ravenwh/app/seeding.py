"""``runners.init``: preflight, then seeding."""

from __future__ import annotations

import attrs

from ravenwh.app.database import engine_of
from ravenwh.app.instruments import register_of, seed_of
from ravenwh.app.preflight import findings
from ravenwh.domain.finding import Finding
from ravenwh.domain.settings import Settings
from ravenwh.warehouse.seed import Plan, Pruning, seed

__all__ = ["Initialised", "init"]

OTHERS_MAY_TAKE_S = 30.0
"""How long a seeding of another process is waited for, such as that of a runner that starts."""


@attrs.frozen(kw_only=True)
class Initialised:
    """What the preflight found, and what was done; no plans where a finding forbade them."""

    findings: list[Finding]
    plans: list[Plan] | None


async def init(settings: Settings, *, pruning: Pruning, dry_run: bool) -> Initialised:
    """Check everything, then bring dimensions and register in line with the settings."""
    found = await findings(settings)
    if any(finding.fatal for finding in found):
        return Initialised(findings=found, plans=None)
    wanted = seed_of(settings, register_of(settings))
    async with engine_of(settings) as engine:
        plans = await seed(
            engine, wanted, pruning=pruning, dry_run=dry_run, wait_s=OTHERS_MAY_TAKE_S
        )
    return Initialised(findings=found, plans=plans)
