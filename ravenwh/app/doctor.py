"""``ravenwh doctor``: the preflight, and what a runner does without but a person should know."""

from __future__ import annotations

from ravenwh.app.bucket import ask_bucket
from ravenwh.app.export_watch import export_check
from ravenwh.app.policies import policy_check
from ravenwh.app.preflight import findings
from ravenwh.app.tick import tick_collections
from ravenwh.domain.errors import RavenwhError
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
    return found if bucket is None else [*found, _streams(settings), bucket]


def _streams(settings: Settings) -> Finding:
    """Whether everything that the tick runner starts with has a feed."""
    try:
        collections = tick_collections(settings)
    except RavenwhError as error:
        return Finding(
            check="streams",
            ok=False,
            found=str(error),
            remedy="add the keys to [routing.upstreams], each with the name of a feed",
        )
    return Finding(
        check="streams", ok=True, found=f"ticks of {len(collections)} streams are collected"
    )
