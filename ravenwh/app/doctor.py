"""``ravenwh doctor``: the preflight, and what a runner does without but a person should know."""

from __future__ import annotations

from ravenwh.app.bucket import ask_bucket
from ravenwh.app.export_watch import export_check
from ravenwh.app.policies import policy_check
from ravenwh.app.preflight import findings
from ravenwh.app.tick import streams_finding
from ravenwh.domain.finding import Finding
from ravenwh.domain.settings import Settings
from ravenwh.staging.bucket import look_at_bucket

__all__ = ["examine"]


async def examine(settings: Settings) -> list[Finding]:
    """Everything that there is to find, the required and the rest; nothing is changed."""
    checks = {"policies": policy_check(settings)}
    if settings.influx.is_configured:
        checks = {"exports": export_check(settings)} | checks
    found = await findings(settings, also=checks)
    bucket = await ask_bucket(settings, look_at_bucket)
    of_ticks = (streams_finding(settings), bucket)
    return [*found, *(finding for finding in of_ticks if finding is not None)]
