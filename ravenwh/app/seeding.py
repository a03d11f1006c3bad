"""``runners.init``: preflight, then seeding, the bucket of ticks, and the policies."""

from __future__ import annotations

import attrs

from ravenwh.app.bucket import ask_bucket
from ravenwh.app.database import engine_of
from ravenwh.app.instruments import register_of, seed_of
from ravenwh.app.policies import apply_policies, policy_report
from ravenwh.app.preflight import findings
from ravenwh.app.tick import streams_finding
from ravenwh.domain.errors import Refused
from ravenwh.domain.finding import Finding
from ravenwh.domain.settings import Settings
from ravenwh.staging.bucket import look_at_bucket, make_bucket
from ravenwh.warehouse.seed import Plan, Pruning, seed

__all__ = ["Initialised", "init"]

OTHERS_MAY_TAKE_S = 30.0
"""How long a seeding of another process is waited for, such as that of a runner that starts."""


@attrs.frozen(kw_only=True)
class Initialised:
    """What the preflight found, and what was done; no plans where a finding forbade them.

    ``policies`` are the lines of those that were written. ``not_written`` says why they were not:
    the runner works without, and the role of a runner need not be the owner of the tables.
    ``bucket`` is what is to be said of the bucket of ticks, which is made where it can be.
    """

    findings: list[Finding]
    plans: list[Plan] | None
    policies: list[str] = attrs.Factory(list)
    not_written: str | None = None
    bucket: Finding | None = None


async def init(settings: Settings, *, pruning: Pruning, dry_run: bool) -> Initialised:
    """Check everything, then bring dimensions, register, policies, bucket in line with them."""
    found = await findings(settings)
    if (streams := streams_finding(settings)) is not None:
        found.append(streams)
    if any(finding.fatal for finding in found):
        return Initialised(findings=found, plans=None)
    wanted = seed_of(settings, register_of(settings))
    async with engine_of(settings) as engine:
        plans = await seed(
            engine, wanted, pruning=pruning, dry_run=dry_run, wait_s=OTHERS_MAY_TAKE_S
        )
    bucket = await ask_bucket(settings, look_at_bucket if dry_run else make_bucket)
    done = Initialised(findings=found, plans=plans, bucket=bucket)
    write = policy_report if dry_run else apply_policies
    try:
        report = await write(settings)
    except Refused as error:
        return attrs.evolve(done, not_written=str(error))
    return attrs.evolve(done, policies=[state.change for state in report.differing])
