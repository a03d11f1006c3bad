"""``ravenwh doctor``: the preflight, and what a runner does without but a person should know."""

from __future__ import annotations

from ravenwh.app.policies import policy_check
from ravenwh.app.preflight import findings
from ravenwh.domain.finding import Finding
from ravenwh.domain.settings import Settings

__all__ = ["examine"]


async def examine(settings: Settings) -> list[Finding]:
    """Everything that there is to find, the required and the rest; nothing is changed."""
    return await findings(settings, also={"policies": policy_check(settings)})
